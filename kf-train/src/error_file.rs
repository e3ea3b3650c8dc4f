//! torchrun's error file: what a rank says of its own failure.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::plain_file;

/// An error file with more says nothing.
const MOST_BYTES: u64 = 16 << 20;

/// The environment variable with the path that a failing rank writes to.
pub const ERROR_FILE: &str = "TORCHELASTIC_ERROR_FILE";

/// What an error file says, of ours or of PyTorch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorFile {
    /// The message.
    pub message: String,
    /// Whether the rank says that it failed because of another one.
    pub of_another_rank: bool,
}

impl ErrorFile {
    /// Reads the text of an error file, whose message may also be a plain string; none where it is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(text).ok()?;
        let outer = json.get("message")?;
        let message = outer.as_str().or_else(|| outer.get("message")?.as_str())?.to_owned();
        let of_another_rank = outer
            .pointer("/extraInfo/kf_of_another_rank")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false);
        Some(Self { message, of_another_rank })
    }
}

/// Writes in torchrun's format, `{"message": {"message": …, "extraInfo": {"py_callstack": …, "timestamp": …}}}`, with
/// the causes for a call stack and one field of our own.
pub(crate) fn write(
    path: &Path,
    message: &str,
    causes: &[String],
    of_another_rank: bool,
) -> std::io::Result<()> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let json = json!({ "message": {
        "message": message,
        "extraInfo": {
            "py_callstack": causes.join("\n"),
            "timestamp": seconds.to_string(),
            "kf_of_another_rank": of_another_rank,
        },
    }});
    std::fs::write(path, json.to_string())
}

/// Reads an error file.
pub(crate) fn read(path: &Path) -> Option<ErrorFile> {
    ErrorFile::parse(&plain_file::read(path, MOST_BYTES).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), "Oh: no", &["a".into()], true).unwrap();
        assert_eq!(read(file.path()), Some(ErrorFile { message: "Oh: no".into(), of_another_rank: true }));
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        assert!(json["message"]["extraInfo"]["timestamp"].as_str().unwrap().parse::<u64>().is_ok());
    }

    #[test]
    fn pytorchs_forms_are_read_and_rubbish_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"message": "plain"}"#).unwrap();
        assert_eq!(read(file.path()).unwrap().message, "plain");
        for rubbish in ["", "{", "[]", r#"{"message": 3}"#] {
            std::fs::write(file.path(), rubbish).unwrap();
            assert_eq!(read(file.path()), None, "{rubbish}");
        }
    }
}
