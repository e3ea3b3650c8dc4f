//! Names of models and aliases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::limits::shorten;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $also:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads a name.
            ///
            /// # Errors
            /// [`Error::Invalid`] where `text` is no such name.
            pub fn new(text: impl Into<String>) -> Result<Self, Error> {
                let text = text.into();
                check($what, &text)?;
                let also: fn(&str) -> Result<(), Error> = $also;
                also(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = Error;

            fn try_from(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a registered model: a letter or digit, then up to 127 letters, digits and `.`, `_`, `-`.
    /// Upper and lower case are told apart.
    ModelName, "model name", |_| Ok(())
}

name! {
    /// The name of an alias, such as `champion`: a letter or digit, then up to 127 letters, digits and `.`,
    /// `_`, `-`. `latest` and what reads like a version number (`3`, `v3`) are refused, since they would say
    /// something that the alias may not hold (the same rule as MLflow's).
    AliasName, "alias", |text| {
        let digits = text.strip_prefix(['v', 'V']).unwrap_or(text);
        if digits.bytes().all(|b| b.is_ascii_digit()) || text.eq_ignore_ascii_case("latest") {
            return Err(Error::invalid(
                "alias",
                format!("`{text}`"),
                "a word that is no version number and not `latest`, such as `champion`",
            ));
        }
        Ok(())
    }
}

fn check(what: &str, text: &str) -> Result<(), Error> {
    let bytes = text.as_bytes();
    let right = (1..=128).contains(&bytes.len())
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
    if right {
        return Ok(());
    }
    Err(Error::invalid(
        what,
        format!("`{}`", shorten(text)),
        "a letter or digit, then up to 127 letters, digits, `.`, `_` or `-`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names() {
        for good in ["digits", "0", "A.b_c-1", "v3", "latest", &"a".repeat(128)] {
            assert!(ModelName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a/b", "a b", "ä", "a\n", "../x", "a\0", &"a".repeat(129)] {
            assert!(ModelName::new(bad).is_err(), "{bad}");
        }
        let long = ModelName::new("x/".repeat(100_000)).unwrap_err().to_string();
        assert!(long.len() < 400, "a hostile name fills the message: {} bytes", long.len());
    }

    #[test]
    fn aliases_never_look_like_versions() {
        assert!(AliasName::new("champion").is_ok());
        assert!(AliasName::new("v3-candidate").is_ok());
        assert!(AliasName::new("v").is_err());
        for bad in ["3", "v3", "V12", "latest", "Latest"] {
            assert!(AliasName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn serde_checks_too() {
        assert!(serde_json::from_str::<ModelName>("\"a/b\"").is_err());
        assert_eq!(serde_json::from_str::<ModelName>("\"a\"").unwrap().as_str(), "a");
    }
}
