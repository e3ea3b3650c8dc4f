//! What PostgreSQL's errors mean here.

use crate::Error;

/// The error of a call that tried `context` on the store called `name`.
pub(super) fn failure(name: &str, context: &'static str, error: sqlx::Error) -> Error {
    Error::Database { context: format!("{context} `{name}`"), source: Box::new(error) }
}

/// Whether the same call may go through later: the server is away, shutting down, starting, read-only for now, out of
/// connections, memory or disk, or had two transactions in each other's way.
pub(crate) fn is_retryable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| may_pass(&code)),
        _ => false,
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn may_pass(code: &str) -> bool {
    ["08", "40", "53", "57P"].iter().any(|class| code.starts_with(class))
        // read_only_sql_transaction, query_canceled, lock_not_available
        || ["25006", "57014", "55P03"].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for code in ["08006", "40001", "40P01", "53100", "53300", "57P01", "57P03", "57014", "25006"] {
            assert!(may_pass(code), "{code}");
        }
        for code in ["22P02", "23505", "28P01", "3D000", "42501", "42P01", "54000", "XX000"] {
            assert!(!may_pass(code), "{code}");
        }
    }
}
