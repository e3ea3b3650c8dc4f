//! Opening a database: which file it is, its format, the way there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::failure::failure;
use crate::{Error, Result};

/// `KFMD`, by which SQLite's files tell whose they are.
const APPLICATION: i32 = 0x4b46_4d44;
/// What leads from one format to the next. The newest format is their number.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];
const FORMAT: u32 = MIGRATIONS.len() as u32;
/// Pages of write-ahead log after which a commit copies them into the database and waits for the disk.
const CHECKPOINT_PAGES: &str = "4096";
const READERS: u32 = 4;
/// Bytes of the header of SQLite's files.
const HEADER: u64 = 100;

/// The file's writer and its readers.
pub(super) async fn file(path: &Path) -> Result<(SqliteConnection, SqlitePool)> {
    look_at(path)?;
    let options = options().filename(path).create_if_missing(true);
    let _opening = alone(locks_beside(path).join("open.lock")).await?;
    let writer = connect(&options, path).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options.create_if_missing(false).read_only(true));
    Ok((writer, readers))
}

/// A database in memory, which its one connection keeps alive.
pub(super) async fn memory() -> Result<SqliteConnection> {
    connect(&options().in_memory(true), Path::new(":memory:")).await
}

/// The folder of lock files that belongs to a database.
pub(super) fn locks_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("-locks");
    path.with_file_name(name)
}

fn options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .busy_timeout(Duration::from_secs(10))
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(false)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("cache_size", "-16000")
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(128)
        .thread_name(|n| format!("kf-metadata-{n}"))
        .disable_statement_logging()
}

/// What can be said of the file before SQLite opens it. It is not opened here: closing it again would drop the locks
/// that SQLite holds on it for another connection of this process (<https://sqlite.org/howtocorrupt.html>, 2.2).
fn look_at(path: &Path) -> Result<()> {
    let locks = locks_beside(path);
    fs::create_dir_all(&locks).map_err(Error::io("create", &locks))?;
    let about = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        about => about.map_err(Error::io("open", path))?,
    };
    if !about.is_file() {
        return Err(Error::io("open", path)(io::Error::other("expected a database file, found no file")));
    }
    // SQLite takes a file that is shorter than its header for an empty one.
    if about.len() == 0 || about.len() >= HEADER {
        return Ok(());
    }
    Err(Error::Corrupt {
        name: path.display().to_string(),
        expected: "a metadata database".to_owned(),
        found: format!("a file of {} bytes", about.len()),
    })
}

/// Waits until no other process is opening the same database.
async fn alone(path: PathBuf) -> Result<File> {
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(&path).and_then(|file| file.lock().map(|()| file));
        file.map_err(Error::io("lock", path))
    });
    locked.await.map_err(|error| Error::Process(format!("opening a database was interrupted: {error}")))?
}

async fn connect(options: &SqliteConnectOptions, path: &Path) -> Result<SqliteConnection> {
    let mut connection = options.connect().await.map_err(failure(path, "open"))?;
    match prepare(&mut connection, path).await {
        Ok(()) => Ok(connection),
        Err(error) => {
            // So that the file is closed when the caller hears of it.
            let _ = connection.close().await;
            Err(error)
        }
    }
}

async fn prepare(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let (application, format, tables): (i32, u32, i64) = sqlx::query_as(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
                (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failure(path, "read"))?;
    if application != APPLICATION && (application, format, tables) != (0, 0, 0) {
        return Err(Error::Conflict {
            what: "database",
            name: path.display().to_string(),
            difference: "it belongs to another program".to_owned(),
        });
    }
    if format > FORMAT {
        return Err(Error::TooNew { path: path.to_owned(), found: format, supported: FORMAT });
    }
    sqlx::query("PRAGMA journal_mode = WAL")
        .execute(&mut *connection)
        .await
        .map_err(failure(path, "open"))?;
    for (step, sql) in (1..).zip(MIGRATIONS).skip(format as usize) {
        let script = format!(
            "BEGIN IMMEDIATE; {sql} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {step}; COMMIT;"
        );
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(&mut *connection)
            .await
            .map_err(failure(path, "bring to this version's format"))?;
    }
    Ok(())
}
