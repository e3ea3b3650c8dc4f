//! Names of runs and tasks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The id of one run of a pipeline: 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or
/// digit (the DNS label that Kubernetes asks for). Either given by the caller, so that starting twice is
/// starting once, or made by [`RunId::random`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Arc<str>);

impl RunId {
    /// A fresh id (UUID version 7, so that ids sort by time).
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_dns_label(text) {
            Ok(Self(text.into()))
        } else {
            Err(Error::Invalid {
                what: "run id",
                found: text.to_owned(),
                expected: "1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
            })
        }
    }
}

fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&b| inner(b) || b == b'-')
        && bytes.first().is_some_and(|&b| inner(b))
        && bytes.last().is_some_and(|&b| inner(b))
}

impl TryFrom<String> for RunId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dns_labels() {
        assert!(RunId::random().as_str().parse::<RunId>().is_ok());
        for good in ["a", "nightly-2026-11-21", "0"] {
            assert!(good.parse::<RunId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "a.b", "../x", &"a".repeat(64)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
