//! Which database, and how it is spoken to.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::{Error, Result};

/// Which database, and how it is spoken to. Made from a URL; what is not set there is taken from the variables that
/// PostgreSQL's own programs know, such as `PGHOST` and `PGPASSWORD`, and from `~/.pgpass`.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(super) server: PgConnectOptions,
    pub(super) schema: String,
    pub(super) connections: u32,
    pub(super) patience: Duration,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("host", &self.server.get_host())
            .field("port", &self.server.get_port())
            .field("database", &self.server.get_database())
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// A database by its URL, such as `postgres://user@host:5432/database?sslmode=verify-full`, or
    /// `postgres:///database?host=/run/postgresql` for a Unix socket. Without the feature `postgres-tls`, a server
    /// that wants TLS is an error.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is no such URL. What was found is not told, since a password may be in it.
    pub fn new(url: &str) -> Result<Self> {
        let wrong = || Error::Invalid {
            what: "URL of a PostgreSQL database",
            found: "(not shown, since it may hold a password)".to_owned(),
            expected: "postgres://user:password@host:port/database",
        };
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong());
        }
        let server = url.parse::<PgConnectOptions>().map_err(|_| wrong())?.application_name("kf");
        Ok(Self { server, schema: "kf".to_owned(), connections: 8, patience: Duration::from_secs(5) })
    }

    /// The schema that holds the tables, made where it is missing; `kf` where not given. Stores in two schemas know
    /// nothing of each other.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not 1 to 63 of `a-z`, `0-9` and `_`, the first no digit.
    pub fn schema(mut self, name: &str) -> Result<Self> {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let first = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !first || name.len() > 63 || !name.bytes().all(letters) || name.starts_with("pg_") {
            return Err(Error::Invalid {
                what: "name of a schema",
                found: name.to_owned(),
                expected: "1 to 63 of a-z, 0-9 and _, the first no digit, and not pg_ as its beginning",
            });
        }
        self.schema = name.to_owned();
        Ok(self)
    }

    /// How many connections there are at most; 8 where not given. Calls beyond wait for one.
    #[must_use]
    pub fn connections(mut self, most: u32) -> Self {
        self.connections = most.max(1);
        self
    }

    /// How long one call may take, waiting for a connection included, before it is an error that may be tried again;
    /// 5 seconds where not given. It should be less than a third of the leases of the engines that use the store.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.max(Duration::from_millis(100));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_schemas_are_checked() {
        let url = "postgres://me:secret@localhost/db";
        let options = PostgresOptions::new(url).unwrap();
        assert!(!format!("{options:?}").contains("secret"), "{options:?}");
        for wrong in
            ["", "mysql://me:secret@localhost/db", "postgres://me:secret@local host:port/db", "kf.db"]
        {
            let error = PostgresOptions::new(wrong).unwrap_err().to_string();
            assert!(error.contains("postgres://") && !error.contains("secret"), "{error}");
        }
        for name in ["kf", "_x9", "team_a"] {
            options.clone().schema(name).unwrap();
        }
        for name in ["", "9", "Kf", "a-b", "a\"; DROP SCHEMA kf", "pg_x", &"a".repeat(64)] {
            assert!(matches!(options.clone().schema(name), Err(Error::Invalid { .. })), "{name}");
        }
    }
}
