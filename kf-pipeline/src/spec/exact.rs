//! JSON whose lists and maps have no room for more than is in them: those of [`Value`]'s own reader have some for several,
//! and a large pipeline has one with a single field for each of its tasks.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Named;

/// Reads values by name.
pub(super) fn named<'de, D: Deserializer<'de>>(from: D) -> Result<Named<Value>, D::Error> {
    Ok(Named::<Exact>::deserialize(from)?.into_iter().map(|(name, Exact(value))| (name, value)).collect())
}

/// The only field of what serde_json reads a number as where its feature `arbitrary_precision` is on, which any crate of a
/// program may turn on.
const NUMBER: &str = "$serde_json::private::Number";

struct Exact(Value);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        let number = serde_json::Number::from_i128(value);
        number.map(Value::Number).ok_or_else(|| E::custom("JSON number out of range"))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        let number = serde_json::Number::from_u128(value);
        number.map(Value::Number).ok_or_else(|| E::custom("JSON number out of range"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut from: S) -> Result<Value, S::Error> {
        let mut list = Vec::new();
        while let Some(Exact(value)) = from.next_element()? {
            list.push(value);
        }
        list.shrink_to_fit();
        Ok(Value::Array(list))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut from: M) -> Result<Value, M::Error> {
        let mut fields = Map::new();
        let Some(first) = from.next_key::<String>()? else { return Ok(Value::Object(fields)) };
        if first == NUMBER {
            let digits: String = from.next_value()?;
            return serde_json::from_str(&digits).map_err(M::Error::custom);
        }
        let Exact(value) = from.next_value()?;
        fields.insert(first, value);
        while let Some((name, Exact(value))) = from.next_entry::<String, _>()? {
            fields.insert(name, value);
        }
        let mut exact = Map::with_capacity(fields.len());
        exact.extend(fields);
        Ok(Value::Object(exact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_any_json_is() {
        let text = r#"{"b":{"y":[1,-2,2.5,18446744073709551615,null,true,"\u00e9",[],{}],"x":{"z":1e300}},
            "a":7,"b":{"y":1,"x":2,"y":3}}"#;
        let read = named(&mut serde_json::Deserializer::from_str(text)).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read["b"]).unwrap(), serde_json::to_string(&value["b"]).unwrap());
        assert_eq!(read["a"], value["a"]);
        for text in ["{\"a\":[1}", "{\"a\":{\"b\":}}", "{\"a\":1e999}", "{\"a\":nul}"] {
            let found = named(&mut serde_json::Deserializer::from_str(text)).unwrap_err().to_string();
            assert_eq!(found, serde_json::from_str::<Value>(text).unwrap_err().to_string());
        }
    }
}
