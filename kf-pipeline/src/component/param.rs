//! What may be a parameter.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::spec::ParameterType;

/// A type whose values go along a pipeline's edges as JSON. Numbers, text, `bool`, `Vec`, `Option`, `BTreeMap` and
/// [`serde_json::Value`] are parameters; a struct or enum of one's own becomes one with
/// `#[derive(Serialize, Deserialize, Param)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a pipeline parameter",
    label = "not a parameter type",
    note = "parameters go along a pipeline's edges as JSON: add `#[derive(serde::Serialize, serde::Deserialize, kf_pipeline::Param)]` to `{Self}`"
)]
pub trait Param: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The type as KFP knows it.
    const TYPE: ParameterType;
    /// Whether a value may be absent.
    const OPTIONAL: bool = false;

    /// The value as JSON.
    ///
    /// # Errors
    /// Where it holds a NaN or an infinity, which JSON lacks, or can't be serialised.
    fn to_json(&self) -> Result<Json, String> {
        kf_core::json::to_json(self).map_err(|error| error.to_string())
    }

    /// The value from JSON.
    ///
    /// # Errors
    /// Where the JSON is of another shape.
    fn from_json(json: &Json) -> Result<Self, String> {
        Self::deserialize(json).map_err(|error| error.to_string())
    }
}

/// A parameter type whose values have an order that conditions know: numbers and text.
#[diagnostic::on_unimplemented(
    message = "values of type `{Self}` have no order",
    label = "compared by order",
    note = "conditions order numbers and text; anything else can be `.eq` or `.ne`"
)]
pub trait Ordered: Param {}

macro_rules! ordered {
    ($($type:ty),*) => {$(impl Ordered for $type {})*};
}

ordered!(f32, f64, String, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

macro_rules! params {
    ($($type:ident: $($rust:ty),*;)*) => {$($(
        impl Param for $rust {
            const TYPE: ParameterType = ParameterType::$type;
        }
    )*)*};
}

params! {
    NumberDouble: f32, f64;
    String: String;
    Boolean: bool;
    Struct: Json;
}

macro_rules! whole_numbers {
    ($($rust:ty),*) => {$(
        impl Param for $rust {
            const TYPE: ParameterType = ParameterType::NumberInteger;

            fn from_json(json: &Json) -> Result<Self, String> {
                // Other programs write whole numbers as 3.0.
                let whole = json.as_f64().filter(|f| json.is_f64() && f.fract() == 0.0 && f.abs() < 9.0e15);
                match whole {
                    Some(float) => <$rust>::try_from(float as i64).map_err(|error| format!("{float}: {error}")),
                    None => serde::Deserialize::deserialize(json).map_err(|error: serde_json::Error| error.to_string()),
                }
            }
        }
    )*};
}

whole_numbers!(i8, i16, i32, i64, u8, u16, u32, u64, usize, isize);

impl<T: Param> Param for Vec<T> {
    const TYPE: ParameterType = ParameterType::List;

    fn from_json(json: &Json) -> Result<Self, String> {
        let items = json.as_array().ok_or_else(|| format!("expected a list, found {json}"))?;
        let item = |(i, item)| T::from_json(item).map_err(|error| format!("[{i}]: {error}"));
        items.iter().enumerate().map(item).collect()
    }
}

impl<T: Param> Param for Option<T> {
    const TYPE: ParameterType = T::TYPE;
    const OPTIONAL: bool = true;

    fn from_json(json: &Json) -> Result<Self, String> {
        if json.is_null() { Ok(None) } else { T::from_json(json).map(Some) }
    }
}

impl<T: Param> Param for BTreeMap<String, T> {
    const TYPE: ParameterType = ParameterType::Struct;
}
