//! What SQLite's errors mean here.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::Error;

/// Why a transaction was not made.
pub(super) enum Fault {
    /// The lease or the last commit is another than the caller thinks.
    Fenced(String),
    NoRun,
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// The error of a call on the database at `path` that tried `context`.
pub(super) fn failure(path: &Path, context: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt {
            name: path.display().to_string(),
            expected: "a whole metadata database".to_owned(),
            found: error.to_string(),
        },
        Some(ErrorCode::DiskFull) => Error::Io {
            action: context,
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::StorageFull, error),
        },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            Error::Io { action: context, path: path.to_owned(), source: io::Error::other(error) }
        }
        _ => Error::Database { context: format!("{context} `{}`", path.display()), source: Box::new(error) },
    }
}

/// Whether another connection had the database.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether the same call may go through later.
pub(crate) fn is_retryable(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.downcast_ref::<rusqlite::Error>().is_some_and(is_busy)
}
