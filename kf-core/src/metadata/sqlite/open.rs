//! Opening a database: which file it is, its format, the way there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::failure::failure;
use crate::{Error, Result};

/// `KFMD`, by which SQLite's files tell whose they are.
const APPLICATION: i32 = 0x4b46_4d44;
/// What leads from one format to the next. The newest format is their number.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];
const FORMAT: u32 = MIGRATIONS.len() as u32;
/// How long a connection waits for another that writes, where it may wait at all.
pub(super) const BUSY: Duration = Duration::from_secs(10);
/// How much of the database a connection keeps in memory, in KiB; SQLite tells them from pages by the sign.
const CACHE: i64 = -16_000;
/// As much where what is written is not read soon.
const SMALL_CACHE: i64 = -256;
/// Bytes of the header of SQLite's files.
const HEADER: u64 = 100;

/// Opens the file for writing; makes it where it is missing.
pub(super) fn file(path: &Path) -> Result<Connection> {
    look_at(path)?;
    let opening = locks_beside(path).join("open.lock");
    // Released when the file is closed.
    let lock = File::create(&opening).map_err(Error::io("lock", &opening))?;
    lock.lock().map_err(Error::io("lock", &opening))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = connect(path, flags)?;
    prepare(&mut connection, path)?;
    // What processes left in the log that were killed before they copied it.
    if let Err(error) = checkpoint(&connection) {
        tracing::warn!(database = %path.display(), %error, "the write-ahead log was not emptied");
    }
    Ok(connection)
}

/// Copies what is in the write-ahead log into the database, as far as nobody is in the way; tells how many pages are left,
/// or nothing where another connection copies just then.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<Option<usize>> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, log, copied): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((!busy).then(|| usize::try_from(log - copied).unwrap_or(0)))
    })
}

/// A database in memory, which its one connection keeps alive.
pub(super) fn memory() -> Result<Connection> {
    let path = Path::new(":memory:");
    let mut connection = Connection::open_in_memory().map_err(failure(path, "open"))?;
    prepare(&mut connection, path)?;
    Ok(connection)
}

/// One more connection to a file that was opened already.
pub(super) fn again(path: &Path) -> Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// One more connection, which only reads.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let open = || {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        // Pages go from the log into the database beside the writer, not in a commit's way.
        connection.execute_batch(
            "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;
             PRAGMA foreign_keys = OFF;",
        )?;
        connection.pragma_update(None, "cache_size", CACHE)?;
        Ok(connection)
    };
    open().map_err(failure(path, "open"))
}

/// Does work that writes much which nobody reads soon: its pages go to the log as they are written, and none are kept.
pub(super) fn past_the_cache<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.pragma_update(None, "cache_size", SMALL_CACHE)?;
    let done = work(connection);
    let restored = connection.pragma_update(None, "cache_size", CACHE);
    if let Err(error) = restored.and_then(|()| connection.release_memory()) {
        // The work is done all the same.
        tracing::warn!(%error, "the cache of a connection stays small");
    }
    done
}

/// The folder of lock files that belongs to a database.
pub(super) fn locks_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("-locks");
    path.with_file_name(name)
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

fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let query = "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM \
                 pragma_user_version), (SELECT count(*) FROM sqlite_schema)";
    let (application, format, tables): (i32, u32, i64) = connection
        .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
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
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(failure(path, "open"))?;
    if !["wal", "memory"].contains(&mode.as_str()) {
        let problem = format!(
            "this file system has no shared memory, which SQLite's WAL mode needs; it offers `{mode}`"
        );
        return Err(Error::io("open", path)(io::Error::new(io::ErrorKind::Unsupported, problem)));
    }
    for (step, sql) in (1..).zip(MIGRATIONS).skip(format as usize) {
        let script = format!(
            "BEGIN IMMEDIATE; {sql} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {step}; COMMIT;"
        );
        connection.execute_batch(&script).map_err(failure(path, "bring to this version's format"))?;
    }
    Ok(())
}
