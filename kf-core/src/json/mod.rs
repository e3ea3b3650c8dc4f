//! JSON that refuses what JSON cannot say.

mod path;
mod strict;

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

use self::path::Path;
use self::strict::Strict;

/// Why a value is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Where in the value, such as `folds[3].accuracy`; empty where it is the value itself.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

impl std::error::Error for JsonError {}

/// The value as JSON: what [`serde_json::to_value`] makes of it, except that NaN and infinities, of which that
/// makes null without a word, are refused.
///
/// ```
/// let metrics = serde_json::json!({ "loss": 0.5 });
/// assert_eq!(kf_core::json::to_json(&metrics)?, metrics);
///
/// let error = kf_core::json::to_json(&[("accuracy", [0.9, f64::NAN])]).unwrap_err();
/// assert_eq!(error.path, "[0][1][1]");
/// assert!(error.to_string().contains("NaN"));
/// # Ok::<(), kf_core::json::JsonError>(())
/// ```
///
/// # Errors
/// [`JsonError`] with the place of a NaN or an infinity, or of what serde_json refuses too: a map's key that is
/// neither text nor number, a number of more than 64 bits, an error of the type's own.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<serde_json::Value, JsonError> {
    let place = RefCell::new(None);
    let strict = Strict { inner: serde_json::value::Serializer, path: &Path::Root, place: &place };
    value
        .serialize(strict)
        .map_err(|error| JsonError { path: place.take().unwrap_or_default(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;
