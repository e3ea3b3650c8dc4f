//! What SQLite's errors mean here.

use std::io;
use std::path::Path;

use crate::Error;

/// What the schema raises.
const FENCED: &str = "kf: fenced";

/// SQLite's primary result code (<https://sqlite.org/rescode.html>).
fn code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

pub(super) fn is_fenced(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.message() == FENCED)
}

/// The error of a call on the database at `path` that tried `context`.
pub(super) fn failure(path: &Path, context: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| match code(&error) {
        // SQLITE_CORRUPT, SQLITE_NOTADB
        Some(11 | 26) => Error::Corrupt {
            name: path.display().to_string(),
            expected: "a whole metadata database".to_owned(),
            found: error.to_string(),
        },
        // SQLITE_FULL
        Some(13) => Error::Io {
            action: context,
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::StorageFull, error),
        },
        _ => Error::Database { context: format!("{context} `{}`", path.display()), source: Box::new(error) },
    }
}

/// Whether the same call may go through later: the database was busy or could not be reached.
pub(crate) fn is_retryable(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    match source.downcast_ref::<sqlx::Error>() {
        // SQLITE_BUSY, SQLITE_LOCKED
        Some(error @ sqlx::Error::Database(_)) => matches!(code(error), Some(5 | 6)),
        Some(error) => matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut),
        None => false,
    }
}
