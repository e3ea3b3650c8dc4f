//! The file's format: told from other files by its application id, with a version that only grows.

use std::path::Path;

use sqlx::{Connection, SqliteConnection};

use super::failure::{Failure, is_busy};
use crate::{Error, Result};

/// Marks a SQLite file as a registry: the bytes `KFRG`.
const APPLICATION_ID: i64 = 0x4B46_5247;

/// The smallest page of SQLite's file format, in bytes; all page sizes are its multiples.
pub(super) const SMALLEST_PAGE: u64 = 512;

/// What brings a file from one schema version to the next; the first entry starts from nothing. Entries are
/// never changed once released.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// Checks that the file is a registry that this version understands, or an empty file, and brings it up to
/// date. A file that is refused stays as it was.
pub(super) async fn prepare(connection: &mut SqliteConnection, path: &Path, in_memory: bool) -> Result<()> {
    let failure = Failure { path };
    let version = version(connection, path).await?;
    if version > 0 {
        check_content(connection, path).await?;
    }
    if !in_memory {
        write_ahead(connection, path).await?;
    }
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failure.of("open the registry"))?;
    // Another process may have migrated between the look and the lock.
    let version = self::version(&mut tx, path).await?;
    for (number, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        sqlx::raw_sql(*sql)
            .execute(&mut *tx)
            .await
            .map_err(failure.of(&format!("migrate the registry to schema {}", number + 1)))?;
    }
    let stamp =
        format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}", MIGRATIONS.len());
    sqlx::raw_sql(sqlx::AssertSqlSafe(stamp))
        .execute(&mut *tx)
        .await
        .map_err(failure.of("migrate the registry"))?;
    tx.commit().await.map_err(failure.of("migrate the registry"))
}

/// Refuses a file that ends in the middle of a page of `page` bytes, which SQLite itself takes for a whole one
/// (or, where it is shorter than 512 bytes, for an empty one). A log beside the file may be about to complete it.
///
/// Asks for lengths only: to open and close the file would drop the locks that SQLite holds on it in this process.
pub(super) async fn check_length(path: &Path, page: u64) -> Result<()> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let length = async |path: &Path| match tokio::fs::metadata(path).await {
        Ok(file) if file.is_file() => file.len(),
        _ => 0,
    };
    let (file, log) = (length(path).await, length(Path::new(&log)).await);
    if log > 0 || file.is_multiple_of(page) {
        return Ok(());
    }
    Err(Failure { path }.damaged(format!("a file of {file} bytes, which are no whole pages of {page}")))
}

/// The file's schema version; 0 of an empty file.
async fn version(connection: &mut SqliteConnection, path: &Path) -> Result<usize> {
    let failure = Failure { path };
    let number = async |connection: &mut SqliteConnection, sql: &'static str| {
        sqlx::query_scalar::<_, i64>(sql)
            .fetch_one(connection)
            .await
            .map_err(Failure { path }.of("open the registry"))
    };
    // At one moment: another process may be about to fill the file.
    let mut tx = connection.begin().await.map_err(failure.of("open the registry"))?;
    let application = number(&mut tx, "PRAGMA application_id").await?;
    let found = number(&mut tx, "PRAGMA user_version").await?;
    let tables = number(&mut tx, "SELECT count(*) FROM sqlite_schema").await?;
    tx.commit().await.map_err(failure.of("open the registry"))?;
    if application != APPLICATION_ID && tables == 0 && found == 0 && application == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(failure.damaged("a SQLite file of another program"));
    }
    let found = u32::try_from(found).map_err(|_| failure.damaged(format!("schema version {found}")))?;
    if found as usize > MIGRATIONS.len() {
        let supported = MIGRATIONS.len() as u32;
        return Err(Error::TooNew { path: path.to_owned(), found, supported });
    }
    Ok(found as usize)
}

/// Finds damage before anything builds on it. Reads the whole file, which holds a few KB for each version.
async fn check_content(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let failure = Failure { path };
    let page = sqlx::query_scalar::<_, u32>("PRAGMA page_size")
        .fetch_one(&mut *connection)
        .await
        .map_err(failure.of("check the registry"))?;
    check_length(path, u64::from(page)).await?;
    let found = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .map_err(failure.of("check the registry"))?;
    if found == "ok" { Ok(()) } else { Err(failure.damaged(found)) }
}

/// Readers and the writer don't wait for each other in this mode. It is a property of the file, so it is set
/// once; the lock that this takes is not covered by SQLite's busy timeout.
async fn write_ahead(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let failure = Failure { path };
    for attempt in 0.. {
        match sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(failure.damaged(format!(
                    "a file system or file that allows journal mode `{mode}` only, where WAL is needed"
                )));
            }
            Err(error) if is_busy(&error) && attempt < 200 => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Err(error) => return Err(failure.of("open the registry")(error)),
        }
    }
    Ok(())
}
