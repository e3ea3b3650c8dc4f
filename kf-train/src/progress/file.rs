//! The file through which a rank tells its progress.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Progress;
use crate::plain_file;

/// One line of a rank's progress file, as JSON: `"started"`, `{"progress":{…}}`, `{"result":…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Note {
    /// The rank's function was reached.
    Started,
    /// A report.
    Progress(Progress),
    /// What rank 0's function returned, where no file was named for it.
    Result(Value),
}

impl Note {
    /// Reads a line, also where it has the `NaN`, `Infinity` and `-Infinity` that Python's `json` writes, and JSON has not.
    /// None where it is no note.
    pub fn parse(line: &[u8]) -> Option<Self> {
        // Most lines that are none are told by how they begin.
        match line.trim_ascii_start().first() {
            Some(b'"' | b'{') => parse(line),
            _ => None,
        }
    }
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
        notes.extend(lines.split(|&byte| byte == b'\n').filter_map(Note::parse));
        notes
    }

    fn add(&mut self) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(plain_file::open(&self.path)?),
        };
        if file.metadata()?.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
            self.partial.clear();
        }
        file.take(Self::AT_ONCE).read_to_end(&mut self.partial)?;
        Ok(())
    }
}

fn parse(line: &[u8]) -> Option<Note> {
    if let Ok(note) = serde_json::from_slice(line) {
        return Some(note);
    }
    let text = std::str::from_utf8(line).ok()?;
    text.contains(['N', 'I']).then(|| serde_json::from_str(&quote_non_finite(text)).ok()).flatten()
}

/// The text with Python's numbers that are none of JSON as strings.
fn quote_non_finite(text: &str) -> String {
    const NUMBERS: [(&str, &str); 3] = [("NaN", "NaN"), ("-Infinity", "-inf"), ("Infinity", "inf")];
    let mut quoted = String::with_capacity(text.len() + 8);
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((python, ours)) = NUMBERS.iter().find(|(name, _)| !in_string && rest.starts_with(name)) {
            quoted.extend(["\"", ours, "\""]);
            rest = &rest[python.len()..];
            continue;
        }
        in_string ^= c == '"' && !escaped;
        escaped = c == '\\' && in_string && !escaped;
        quoted.push(c);
        rest = &rest[c.len_utf8()..];
    }
    quoted
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

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

    #[test]
    fn numbers_as_python_writes_them_are_read() {
        let line =
            r#"{"progress": {"fraction": NaN, "metrics": {"loss": NaN, "NaN \" -Infinity": -Infinity}}}"#;
        let Some(Note::Progress(progress)) = parse(line.as_bytes()) else { panic!("{line}") };
        assert_eq!(progress.fraction, None);
        assert!(progress.metrics["loss"].is_nan());
        assert_eq!(progress.metrics["NaN \" -Infinity"], f64::NEG_INFINITY);
        for rubbish in ["NaN", "{NaN", "\"NaN", "Infinity\\", "{\"progress\": Infinity}"] {
            assert_eq!(parse(rubbish.as_bytes()), None, "{rubbish}");
        }
    }
}
