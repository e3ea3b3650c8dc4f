//! The connections of a database: one that writes, a few that read, and the one that empties the write-ahead log.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Mutex as TurnMutex, Semaphore};

use super::failure::failure;
use super::open;
use crate::{Error, Result};

/// How many connections read at once.
const READERS: usize = 4;
/// How long a connection waits for another that writes, where it may wait at all.
const BUSY: Duration = Duration::from_secs(10);
/// About so many pages are written before they are copied from the write-ahead log into the database.
const CHECKPOINT_PAGES: usize = 4096;

#[derive(Debug)]
pub(super) struct Connections {
    pub(super) path: PathBuf,
    /// Given in turn, and to a write that was asked for before its caller went away too: what comes after it finds it
    /// made or not, and never under way.
    writer: Arc<TurnMutex<Connection>>,
    /// None in memory, where the one connection has the database.
    readers: Option<Readers>,
    /// About how many pages were written since the last checkpoint began.
    written: AtomicUsize,
    checkpointer: Mutex<Option<Connection>>,
}

#[derive(Debug)]
struct Readers {
    room: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Connections {
    pub(super) fn to_file(path: PathBuf, writer: Connection) -> Self {
        let readers = Readers { room: Semaphore::new(READERS), idle: Mutex::default() };
        Self { readers: Some(readers), ..Self::in_memory(path, writer) }
    }

    pub(super) fn in_memory(path: PathBuf, writer: Connection) -> Self {
        Self {
            path,
            writer: Arc::new(TurnMutex::new(writer)),
            readers: None,
            written: AtomicUsize::new(0),
            checkpointer: Mutex::default(),
        }
    }

    /// Lets `work` write if nobody else does at the moment. It runs on the caller's thread, which is several times as
    /// quick as the way to another and back; it must be short.
    pub(super) fn write_now<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let mut writer = self.writer.try_lock().ok()?;
        // Fails only where SQLite is misused.
        writer.busy_timeout(Duration::ZERO).ok()?;
        Some(work(&mut writer))
    }

    /// Lets `work` write, off the runtime's threads, when its turn has come.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let this = Arc::clone(self);
        blocking(move || {
            writer.busy_timeout(BUSY).map_err(failure(&this.path, "write to"))?;
            Ok(work(&mut writer))
        })
        .await
    }

    /// Lets `work` read, off the runtime's threads.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(readers) = &self.readers else {
            return self.write(|writer| work(writer)).await?.map_err(failure(&self.path, "read"));
        };
        let _turn = readers.room.acquire().await.map_err(|error| Error::Process(error.to_string()))?;
        let this = Arc::clone(self);
        blocking(move || {
            let reader = match this.idle(Vec::pop).flatten() {
                Some(reader) => reader,
                None => open::reader(&this.path, BUSY)?,
            };
            let found = work(&reader).map_err(failure(&this.path, "read"));
            this.idle(|idle| idle.push(reader));
            found
        })
        .await
    }

    fn idle<T>(&self, with: impl FnOnce(&mut Vec<Connection>) -> T) -> Option<T> {
        self.readers.as_ref().map(|readers| with(&mut lock(&readers.idle)))
    }

    /// Notes that about so many pages were written; when that is many, they are copied into the database meanwhile.
    pub(super) fn wrote(self: &Arc<Self>, pages: usize) {
        let before = self.written.fetch_add(pages, Ordering::Relaxed);
        if self.readers.is_none() || before + pages < CHECKPOINT_PAGES {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = this.checkpoint() {
                tracing::warn!(database = %this.path.display(), %error, "the write-ahead log was not emptied; it grows");
            }
        });
    }

    /// Copies the write-ahead log into the database: nearly all of it beside the writer, and what came meanwhile in its
    /// way, so that the log is then empty and begins anew.
    fn checkpoint(&self) -> Result<()> {
        // Who finds one under way leaves it at that.
        let Ok(mut beside) = self.checkpointer.try_lock() else { return Ok(()) };
        let connection = match &mut *beside {
            Some(connection) => connection,
            empty => empty.insert(open::writer(&self.path, BUSY)?),
        };
        let failure = |error| failure(&self.path, "empty the write-ahead log of")(error);
        open::checkpoint(connection).map_err(failure)?;
        open::checkpoint(&self.writer.blocking_lock()).map_err(failure)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::Process(format!("the runtime is shutting down: {error}"))),
        },
    }
}
