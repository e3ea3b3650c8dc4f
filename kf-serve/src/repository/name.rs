use crate::{Error, Result};

const LONGEST: usize = 255;

/// Refuses what can't be a model's name or version: it becomes part of URLs and of folder names.
pub(super) fn check(kind: &str, name: &str) -> Result<()> {
    let wrong = if name.is_empty() {
        "it is empty"
    } else if name.len() > LONGEST {
        "it is longer than 255 bytes"
    } else if name == "." || name == ".." || name.contains(['/', '\\']) {
        "it must be a single part of a path"
    } else if name.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(80).collect();
    Err(Error::InvalidInput(format!("{shown:?} can't be a {kind}: {wrong}")))
}
