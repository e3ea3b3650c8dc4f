//! How far a rank is.

mod file;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use file::Note;
pub(crate) use file::ProgressFile;

/// How far a rank is, and what it measured there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// The epoch under way or just done, as the rank counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Optimizer steps done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// What part of the whole is done, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_fraction")]
    pub fraction: Option<f64>,
    /// Measurements by name; NaN and infinities are allowed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "metrics")]
    pub metrics: BTreeMap<String, f64>,
}

impl Progress {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Optimizer steps done.
    #[must_use]
    pub fn step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// What part is done, kept within 0 and 1; NaN is left out.
    #[must_use]
    pub fn fraction(mut self, fraction: f64) -> Self {
        self.fraction = within_bounds(fraction);
        self
    }

    /// One measurement more.
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }
}

/// In words: `epoch 3, step 120, loss 0.1234`.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.epoch.map(|epoch| format!("epoch {epoch}"));
        let step = self.step.map(|step| format!("step {step}"));
        let metrics = self.metrics.iter().map(|(name, value)| format!("{name} {value:.4}"));
        f.write_str(&epoch.into_iter().chain(step).chain(metrics).collect::<Vec<_>>().join(", "))
    }
}

/// A fraction within 0 and 1; none where it is NaN.
pub(crate) fn within_bounds(fraction: f64) -> Option<f64> {
    (!fraction.is_nan()).then(|| fraction.clamp(0.0, 1.0))
}

/// Takes what a foreign program may write, too.
fn read_fraction<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let told = Option::<Number>::deserialize(from)?.map(Number::value).transpose();
    Ok(told.map_err(serde::de::Error::custom)?.and_then(within_bounds))
}

/// A number in JSON, which has no NaN: that and infinities are the strings `NaN`, `inf` and `-inf`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Text(String),
}

impl Number {
    fn new(value: f64) -> Self {
        if value.is_finite() { Self::Finite(value) } else { Self::Text(value.to_string()) }
    }

    fn value(self) -> Result<f64, std::num::ParseFloatError> {
        match self {
            Self::Finite(value) => Ok(value),
            Self::Text(text) => text.parse(),
        }
    }
}

mod metrics {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        metrics: &BTreeMap<String, f64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(metrics.iter().map(|(name, &value)| (name, Number::new(value))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let values = BTreeMap::<String, Number>::deserialize(from)?;
        let read = |(name, value): (_, Number)| Ok((name, value.value().map_err(serde::de::Error::custom)?));
        values.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_metrics_survive_json() {
        let progress =
            Progress::new().epoch(2).metric("loss", f64::NAN).metric("max", f64::INFINITY).metric("x", 0.5);
        let json = serde_json::to_string(&progress).unwrap();
        assert_eq!(json, r#"{"epoch":2,"metrics":{"loss":"NaN","max":"inf","x":0.5}}"#);
        let back: Progress = serde_json::from_str(&json).unwrap();
        assert!(back.metrics["loss"].is_nan() && back.metrics["max"] == f64::INFINITY);
    }

    #[test]
    fn fractions_are_kept_within_bounds_wherever_they_come_from() {
        for (told, expected) in [
            ("0.25", Some(0.25)),
            ("7", Some(1.0)),
            ("-3.5", Some(0.0)),
            ("null", None),
            ("\"NaN\"", None),
            ("\"inf\"", Some(1.0)),
        ] {
            let read: Progress = serde_json::from_str(&format!("{{\"fraction\":{told}}}")).unwrap();
            assert_eq!(read.fraction, expected, "{told}");
        }
        assert!(serde_json::from_str::<Progress>(r#"{"fraction":"half"}"#).is_err());
        assert_eq!(Progress::new().fraction(f64::NAN).fraction, None);
        assert_eq!(Progress::new().fraction(1.5).fraction, Some(1.0));
    }
}
