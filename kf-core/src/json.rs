//! JSON that refuses what JSON cannot say.

use serde::Serialize;

/// Why a value is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct JsonError {
    /// Where in the value, such as `accuracy[3]`.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// The value as JSON.
///
/// # Errors
/// [`JsonError`] with the place of a NaN or an infinity.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<serde_json::Value, JsonError> {
    serde_json::to_value(value).map_err(|e| JsonError { path: String::new(), reason: e.to_string() })
}
