//! How far a rank is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
        self.fraction = (!fraction.is_nan()).then(|| fraction.clamp(0.0, 1.0));
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

/// Metrics in JSON, which has no NaN: those and infinities are the strings `NaN`, `inf` and `-inf`.
mod metrics {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Value {
        Finite(f64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(
        metrics: &BTreeMap<String, f64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(metrics.iter().map(|(name, &value)| match value.is_finite() {
            true => (name, Value::Finite(value)),
            false => (name, Value::Text(value.to_string())),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let values = BTreeMap::<String, Value>::deserialize(from)?;
        let read = |(name, value)| match value {
            Value::Finite(value) => Ok((name, value)),
            Value::Text(text) => Ok((name, text.parse().map_err(serde::de::Error::custom)?)),
        };
        values.into_iter().map(read).collect()
    }
}

/// One line of a rank's progress file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Note {
    /// The rank's function was reached.
    Started,
    /// A report.
    Progress(Progress),
}

/// Reads what is added to a progress file.
#[derive(Debug)]
pub(crate) struct ProgressFile {
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
}

impl ProgressFile {
    /// How much is read at once; the rest is for the next time.
    const AT_ONCE: u64 = 1 << 20;

    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, partial: Vec::new() }
    }

    /// The notes added since the last call. What is not a note is passed over: a foreign program may write there.
    pub(crate) fn read(&mut self) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.add().is_err() {
            return notes;
        }
        let Some(end) = self.partial.iter().rposition(|&byte| byte == b'\n') else {
            // No line of ours is as long as this.
            if self.partial.len() as u64 > Self::AT_ONCE {
                self.partial.clear();
            }
            return notes;
        };
        let rest = self.partial.split_off(end + 1);
        let lines = std::mem::replace(&mut self.partial, rest);
        notes.extend(lines.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()));
        notes
    }

    fn add(&mut self) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        if file.metadata()?.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
            self.partial.clear();
        }
        file.take(Self::AT_ONCE).read_to_end(&mut self.partial)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
    fn a_growing_file_is_read_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let mut reader = ProgressFile::new(path.clone());
        assert!(reader.read().is_empty());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"\"started\"\n{\"progress\":{\"st").unwrap();
        assert_eq!(reader.read(), [Note::Started]);
        file.write_all(b"ep\":7}}\nnot json\n").unwrap();
        assert_eq!(reader.read(), [Note::Progress(Progress::new().step(7))]);
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"\"started\"\n").unwrap();
        assert_eq!(reader.read(), [Note::Started]);
        assert!(reader.read().is_empty());
    }
}
