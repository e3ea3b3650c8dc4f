//! Whole numbers as protobuf's JSON has them: 64 bits as text, and any of them as `5.0`.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value as Json};

/// Reads a whole number of its type's range.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Json::deserialize(deserializer)?;
    let number = match &value {
        Json::Number(number) => exact(number).or_else(|| number.as_i64()),
        Json::String(text) => text.parse().ok(),
        _ => None,
    };
    let number = number.and_then(|number| T::try_from(number).ok());
    number.map(Some).ok_or_else(|| D::Error::custom(format!("expected a whole number, found {value}")))
}

/// The value with every number that is whole written so: structs of protobuf know only floating point.
pub(super) fn whole_numbers(value: &Json) -> Json {
    match value {
        Json::Number(number) => exact(number).map_or_else(|| value.clone(), Json::from),
        Json::Array(items) => items.iter().map(whole_numbers).collect(),
        Json::Object(fields) => {
            Json::Object(fields.iter().map(|(key, value)| (key.clone(), whole_numbers(value))).collect())
        }
        _ => value.clone(),
    }
}

/// A number with a fraction of zero.
fn exact(number: &Number) -> Option<i64> {
    // What a double tells apart.
    const MOST: f64 = 9_007_199_254_740_992.0;
    let value = number.as_f64().filter(|_| number.is_f64())?;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within the range")]
    (value.fract() == 0.0 && value.abs() <= MOST).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_whole_and_within_their_type() {
        let read = |value: Json| whole::<_, i32>(value).map_err(|error| error.to_string());
        for value in [json!(5), json!(5.0), json!("5")] {
            assert_eq!(read(value), Ok(Some(5)));
        }
        for value in
            [json!(5.5), json!("five"), json!(3_000_000_000_i64), json!(1e300), json!(true), json!(null)]
        {
            assert!(read(value.clone()).unwrap_err().contains(&value.to_string()), "{value}");
        }
        assert_eq!(whole::<_, i64>(json!("9007199254740993")).unwrap(), Some(9_007_199_254_740_993_i64));
        assert_eq!(whole_numbers(&json!({"a": [1.0, 1.5, "1.0"]})), json!({"a": [1, 1.5, "1.0"]}));
    }
}
