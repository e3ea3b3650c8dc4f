//! What may be an attempt id.

use crate::{Error, Result};

/// Refuses what is no attempt id: 1 to 128 ASCII letters, digits, `.`, `_` and `-` that do not begin with `.`, so that it may
/// name a file.
///
/// # Errors
/// [`Error::Job`] of the job of this name.
pub fn check_attempt_id(job: &str, id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !id.is_empty() && id.len() <= 128 && !id.starts_with('.') && id.bytes().all(allowed) {
        return Ok(());
    }
    let reason = format!(
        "attempt id {id:?} is not 1 to 128 ASCII letters, digits, `.`, `_` and `-` that do not begin with `.`"
    );
    Err(Error::Job { job: job.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_ids_stay_inside_the_folder() {
        for good in ["a", "run-1.task_2", &"x".repeat(128)] {
            check_attempt_id("job", good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(check_attempt_id("job", bad).unwrap_err().to_string().contains("attempt id"), "{bad}");
        }
    }
}
