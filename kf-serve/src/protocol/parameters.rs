use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::Value;

use crate::runtime::Parameters;

/// How many parameters a request may have: they take much more room in memory than in the body.
const MOST: usize = 256;

/// Reads a request's parameters, which the protocol allows to be strings, numbers and booleans.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Parameters>, D::Error> {
    struct Read;

    impl<'de> Visitor<'de> for Read {
        type Value = Option<Parameters>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("parameters by name")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut parameters = Parameters::new();
            while let Some((name, Scalar(value))) = entries.next_entry::<String, Scalar>()? {
                parameters.insert(name, value);
                if parameters.len() > MOST {
                    return Err(A::Error::custom(format_args!("more than {MOST} parameters")));
                }
            }
            Ok(Some(parameters))
        }
    }

    deserializer.deserialize_any(Read)
}

struct Scalar(Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter that is a string, a number or a boolean")
            }

            fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
                Ok(Scalar(Value::Null))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }
        }

        deserializer.deserialize_any(Read)
    }
}
