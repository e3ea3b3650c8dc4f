//! Opening a database: the pool, the schema's format, the way there.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::PostgresOptions;
use super::failure::failure;
use crate::{Error, Result};

/// What leads from one format to the next. The newest format is their number.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql"), include_str!("holds.sql")];
const FORMAT: i32 = MIGRATIONS.len() as i32;
/// A connection that was idle for longer is asked whether it still lives.
const FRESH: Duration = Duration::from_secs(1);
/// `KFMD`: the first half of the advisory lock's key, under which schemas are made.
const LOCK: i32 = 0x4b46_4d44;
/// Bringing a schema to this version's format may take longer than a call.
const MIGRATING: Duration = Duration::from_secs(120);

/// What the store is called in errors: no password, no user.
pub(super) fn name(options: &PostgresOptions) -> String {
    let server = &options.server;
    let host =
        server.get_socket().map_or_else(|| server.get_host().to_owned(), |path| path.display().to_string());
    let database = server.get_database().unwrap_or(server.get_username());
    format!("postgres {host}:{}/{database}, schema {}", server.get_port(), options.schema)
}

/// Connects, and makes the schema or brings it to this version's format.
pub(super) async fn pool(options: &PostgresOptions, name: &str) -> Result<PgPool> {
    let timeout = options.patience.as_millis().to_string();
    let schema = format!("\"{}\"", options.schema);
    let server = options.server.clone().options([
        ("search_path", schema.as_str()),
        ("statement_timeout", &timeout),
        ("idle_in_transaction_session_timeout", &timeout),
    ]);
    prepare(options, name).await?;
    Ok(PgPoolOptions::new()
        .max_connections(options.connections)
        .acquire_timeout(options.patience)
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(server))
}

async fn prepare(options: &PostgresOptions, name: &str) -> Result<()> {
    let late = |what: &str| {
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, what.to_owned());
        failure(name, "open", sqlx::Error::Io(error))
    };
    let connecting = PgConnection::connect_with(&options.server);
    let mut connection = tokio::time::timeout(options.patience, connecting)
        .await
        .map_err(|_| late("the server does not answer"))?
        .map_err(|error| failure(name, "open", error))?;
    let migrating = migrate(&mut connection, &options.schema, name);
    tokio::time::timeout(MIGRATING, migrating)
        .await
        .map_err(|_| late("another program makes or changes the schema, and takes too long"))??;
    // What is not said goodbye to is closed all the same.
    let _ = connection.close().await;
    Ok(())
}

async fn migrate(connection: &mut PgConnection, schema: &str, name: &str) -> Result<()> {
    let failed = |error| failure(name, "bring to this version's format", error);
    // Nothing is locked nor asked for where nothing is to be done: the user may have no right to make tables.
    if let Some(found) = format(connection, schema).await.map_err(failed)? {
        refuse_newer(found, name)?;
        if found == FORMAT {
            return Ok(());
        }
    }
    // For as long as the connection lives. Not within the transaction: one that waited for it would not see all that was
    // made meanwhile.
    sqlx::query("SELECT pg_advisory_lock($1, hashtext($2))")
        .bind(LOCK)
        .bind(schema)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let mut transaction = connection.begin().await.map_err(failed)?;
    // Another may have been faster.
    let found = format(&mut transaction, schema).await.map_err(failed)?;
    if found.is_none() {
        refuse_strangers(&mut transaction, schema, name).await?;
    }
    let found = found.unwrap_or(0);
    refuse_newer(found, name)?;
    // The schema's name is made of letters, digits and underscores, and may be one of SQL's words.
    let begin = format!(
        "CREATE SCHEMA IF NOT EXISTS \"{schema}\";
         SET LOCAL search_path = \"{schema}\";
         CREATE TABLE IF NOT EXISTS kf_format (number INTEGER NOT NULL);"
    );
    transaction.execute(AssertSqlSafe(begin)).await.map_err(failed)?;
    for sql in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute(*sql).await.map_err(failed)?;
    }
    let end = format!("DELETE FROM kf_format; INSERT INTO kf_format VALUES ({FORMAT})");
    transaction.execute(AssertSqlSafe(end)).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// The schema's format; none where it is not there or not KF's.
async fn format(connection: &mut PgConnection, schema: &str) -> sqlx::Result<Option<i32>> {
    let table = format!("\"{schema}\".kf_format");
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(&table)
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(None);
    }
    let query = format!("SELECT coalesce(max(number), 0) FROM {table}");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await.map(Some)
}

fn refuse_newer(found: i32, name: &str) -> Result<()> {
    if found <= FORMAT {
        return Ok(());
    }
    let number = |number: i32| u32::try_from(number).unwrap_or(0);
    Err(Error::TooNew { path: name.into(), found: number(found), supported: number(FORMAT) })
}

async fn refuse_strangers(connection: &mut PgConnection, schema: &str, name: &str) -> Result<()> {
    let query = "SELECT relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                 WHERE nspname = $1 ORDER BY relname LIMIT 1";
    let stranger: Option<String> = sqlx::query_scalar(query)
        .bind(schema)
        .fetch_optional(connection)
        .await
        .map_err(|error| failure(name, "look at", error))?;
    let Some(stranger) = stranger else { return Ok(()) };
    Err(Error::Conflict {
        what: "schema",
        name: name.to_owned(),
        difference: format!("it holds `{stranger}` of another program; give a schema that is empty or new"),
    })
}
