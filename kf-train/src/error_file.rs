//! torchrun's error file: what a rank says of its own failure.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::plain_file;

/// An error file with more says nothing.
const MOST_BYTES: u64 = 16 << 20;

/// The environment variable with the path that a failing rank writes to.
pub(crate) const ERROR_FILE: &str = "TORCHELASTIC_ERROR_FILE";

/// What an error file says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ErrorFile {
    /// The message.
    pub(crate) message: String,
    /// Whether the rank says that it failed because of another one.
    pub(crate) of_another_rank: bool,
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

/// Reads an error file, of ours or of PyTorch, whose message may also be a plain string.
pub(crate) fn read(path: &Path) -> Option<ErrorFile> {
    let json: serde_json::Value = serde_json::from_slice(&plain_file::read(path, MOST_BYTES).ok()?).ok()?;
    let outer = json.get("message")?;
    let message = outer.as_str().or_else(|| outer.get("message")?.as_str())?.to_owned();
    let of_another_rank =
        outer.pointer("/extraInfo/kf_of_another_rank").and_then(serde_json::Value::as_bool).unwrap_or(false);
    Some(ErrorFile { message, of_another_rank })
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
