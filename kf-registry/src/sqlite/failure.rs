//! From SQLite's errors to the crate's.

use std::path::Path;

use crate::Error;

const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const CORRUPT: i32 = 11;
const NOT_A_DATABASE: i32 = 26;

/// Makes errors that name the file.
#[derive(Clone, Copy)]
pub(super) struct Failure<'a> {
    pub(super) path: &'a Path,
}

impl Failure<'_> {
    /// What `error` means to the caller who tried `what`.
    pub(super) fn of(self, what: &str) -> impl FnOnce(sqlx::Error) -> Error {
        move |error| match code(&error) {
            Some(CORRUPT | NOT_A_DATABASE) => self.damaged(error.to_string()),
            Some(BUSY | LOCKED) => Error::Store { what: what.to_owned(), source: error.into() },
            _ => match error {
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => self.damaged(error.to_string()),
                _ => {
                    let what = format!("{what} in `{}`", self.path.display());
                    Error::Store { what, source: error.into() }
                }
            },
        }
    }

    pub(super) fn damaged(self, found: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.to_owned(), found: found.into() }
    }
}

/// Whether others hold the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(BUSY | LOCKED)) || matches!(error, sqlx::Error::PoolTimedOut)
}

/// SQLite's primary result code.
fn code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}
