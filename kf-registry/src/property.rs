//! Values that users attach to models and versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A user's value, one of the kinds that Kubeflow Model Registry knows for its custom properties.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Property {
    /// A whole number.
    Int(i64),
    /// A finite floating-point number; NaN and infinities are refused when stored.
    Double(f64),
    /// A text.
    String(String),
    /// A truth value.
    Bool(bool),
    /// Any JSON.
    Struct(serde_json::Value),
}

/// Values by name; names have 1 to 256 bytes.
pub type Properties = BTreeMap<String, Property>;

/// Training parameters by name, each any JSON but null.
pub type Parameters = BTreeMap<String, serde_json::Value>;

/// Finite numbers by name.
pub type Metrics = BTreeMap<String, f64>;

impl From<i64> for Property {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Property {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<&str> for Property {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Property {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<bool> for Property {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<serde_json::Value> for Property {
    fn from(value: serde_json::Value) -> Self {
        Self::Struct(value)
    }
}
