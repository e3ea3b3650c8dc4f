//! What is asked for.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::quantity::{Quantity, show_bytes, show_milli};
use crate::{Error, Result};

/// An amount of each resource. What is not named is not asked for. Written as Kubernetes quantities:
/// `{"cpu": "2", "memory": "2Gi", "accelerators": {"nvidia.com/gpu": "500m"}}`.
///
/// ```
/// use kf_core::resources::Resources;
///
/// let asked = Resources::none().cpu(2.0).memory("2Gi")?.accelerator("nvidia.com/gpu", 0.5);
/// assert_eq!(asked.to_string(), "cpu 2, memory 2Gi, nvidia.com/gpu 500m");
/// # Ok::<(), kf_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Cores, in thousandths.
    #[serde(
        skip_serializing_if = "is_zero",
        serialize_with = "write_milli",
        deserialize_with = "read_milli"
    )]
    pub cpu: u64,
    /// Bytes of memory.
    #[serde(
        skip_serializing_if = "is_zero",
        serialize_with = "write_bytes",
        deserialize_with = "read_bytes"
    )]
    pub memory: u64,
    /// Accelerators by resource name, in thousandths of one.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        serialize_with = "write_each",
        deserialize_with = "read_each"
    )]
    pub accelerators: BTreeMap<String, u64>,
}

impl Resources {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Asks for so many cores, to the nearest thousandth. Less than nothing and NaN are nothing.
    #[must_use]
    pub fn cpu(mut self, cores: f64) -> Self {
        self.cpu = to_milli(cores);
        self
    }

    /// Asks for memory, a Kubernetes quantity in bytes such as `512M` or `2Gi`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the text is not a quantity.
    pub fn memory(mut self, quantity: &str) -> Result<Self> {
        self.memory = parse_bytes(quantity)?;
        Ok(self)
    }

    /// Asks for so many accelerators of a name such as `nvidia.com/gpu`, to the nearest thousandth: 0.5 shares
    /// one with another. Less than nothing and NaN are nothing.
    #[must_use]
    pub fn accelerator(mut self, name: impl Into<String>, count: f64) -> Self {
        self.accelerators.insert(name.into(), to_milli(count));
        self
    }

    /// Cores as a Kubernetes quantity, such as `500m` or `1.5`, in thousandths.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the text is not a quantity.
    pub fn parse_cpu(quantity: &str) -> Result<u64> {
        Quantity::parse(quantity)?.milli().ok_or_else(|| too_large(quantity))
    }

    /// Bytes as a Kubernetes quantity, such as `2Gi`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the text is not a quantity.
    pub fn parse_memory(quantity: &str) -> Result<u64> {
        parse_bytes(quantity)
    }

    /// Whether nothing is asked for.
    pub fn is_none(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.accelerators.values().all(|&n| n == 0)
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.cpu > 0 {
            parts.push(format!("cpu {}", show_milli(self.cpu)));
        }
        if self.memory > 0 {
            parts.push(format!("memory {}", show_bytes(self.memory)));
        }
        for (name, &count) in self.accelerators.iter().filter(|&(_, &count)| count > 0) {
            parts.push(format!("{name} {}", show_milli(count)));
        }
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

fn to_milli(units: f64) -> u64 {
    // Casting takes NaN and what is below 0 to 0, and what is too large to the largest. A thousandth is the least.
    let milli = (units * 1000.0).round() as u64;
    if units > 0.0 { milli.max(1) } else { 0 }
}

fn parse_bytes(quantity: &str) -> Result<u64> {
    Quantity::parse(quantity)?.whole().ok_or_else(|| too_large(quantity))
}

fn too_large(quantity: &str) -> Error {
    Error::Invalid { what: "quantity", found: quantity.to_owned(), expected: "no more than 64 bits hold" }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn write_milli<S: serde::Serializer>(milli: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show_milli(*milli))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn write_bytes<S: serde::Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show_bytes(*bytes))
}

fn write_each<S: serde::Serializer>(each: &BTreeMap<String, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(each.iter().map(|(name, &milli)| (name, show_milli(milli))))
}

/// YAML and JSON have both `cpu: 2` and `cpu: "2"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Integer(u64),
    Number(f64),
}

impl Written {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(n) => n.to_string(),
            Self::Number(n) => n.to_string(),
        }
    }
}

fn read_milli<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Resources::parse_cpu(&Written::deserialize(deserializer)?.text()).map_err(D::Error::custom)
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    parse_bytes(&Written::deserialize(deserializer)?.text()).map_err(D::Error::custom)
}

fn read_each<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u64>, D::Error> {
    let written = BTreeMap::<String, Written>::deserialize(deserializer)?;
    written
        .into_iter()
        .map(|(name, count)| Ok((name, Resources::parse_cpu(&count.text()).map_err(D::Error::custom)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_quantities_and_read_again() {
        let asked = Resources::none().cpu(1.5).memory("512Mi").unwrap().accelerator("nvidia.com/gpu", 0.5);
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(text, r#"{"cpu":"1500m","memory":"512Mi","accelerators":{"nvidia.com/gpu":"500m"}}"#);
        assert_eq!(serde_json::from_str::<Resources>(&text).unwrap(), asked);
        assert_eq!(serde_json::from_str::<Resources>(r#"{"cpu":1.5}"#).unwrap().cpu, 1500);
        assert_eq!(serde_json::to_string(&Resources::none()).unwrap(), "{}");
    }

    #[test]
    fn odd_numbers_and_texts() {
        for (cores, milli) in [(f64::NAN, 0), (-1.0, 0), (0.07, 70), (0.000_01, 1), (f64::INFINITY, u64::MAX)]
        {
            assert_eq!(Resources::none().cpu(cores).cpu, milli, "{cores}");
        }
        for text in
            [r#"{"cpu":"-1"}"#, r#"{"cpu":-1}"#, r#"{"memory":"2GiB"}"#, r#"{"gpu":"1"}"#, r#"{"cpu":null}"#]
        {
            assert!(serde_json::from_str::<Resources>(text).is_err(), "{text}");
        }
        assert!(Resources::none().memory("lots").is_err());
        assert_eq!(Resources::none().to_string(), "nothing");
    }
}
