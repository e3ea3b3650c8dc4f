//! The connections of a database: one that writes, a few that read, and the one that empties the write-ahead log.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;

use super::failure::failure;
use super::open;
use super::threads::Threads;
use crate::Result;
use crate::mutex::locked;

/// How many threads read, and so how many connections.
const READERS: usize = 3;
/// About so many pages are written before they are copied from the write-ahead log into the database.
const CHECKPOINT_PAGES: usize = 4096;

#[derive(Debug)]
pub(super) struct Connections {
    pub(super) path: PathBuf,
    writer: Mutex<Connection>,
    /// How many writes were asked for and are not done.
    waiting: AtomicUsize,
    writing: Threads,
    /// None in memory, where the one connection has the database.
    readers: Option<Readers>,
    /// About how many pages were written since the last checkpoint began.
    written: AtomicUsize,
    checkpointer: Mutex<Option<Connection>>,
}

#[derive(Debug)]
struct Readers {
    threads: Threads,
    /// At most one for each thread.
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Connections {
    pub(super) fn to_file(path: PathBuf, writer: Connection) -> Result<Self> {
        let readers = Readers { threads: Threads::start("kf-metadata-read", READERS)?, idle: Arc::default() };
        Ok(Self { readers: Some(readers), ..Self::in_memory(path, writer)? })
    }

    pub(super) fn in_memory(path: PathBuf, writer: Connection) -> Result<Self> {
        Ok(Self {
            path,
            writer: Mutex::new(writer),
            waiting: AtomicUsize::new(0),
            writing: Threads::start("kf-metadata", 1)?,
            readers: None,
            written: AtomicUsize::new(0),
            checkpointer: Mutex::default(),
        })
    }

    /// Lets `work` write if nobody else does or waits to. It runs on the caller's thread, which is several times as quick
    /// as the way to another and back; it must be short.
    pub(super) fn write_now<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let mut writer = self.writer.try_lock().ok()?;
        // What was asked for earlier comes first, also where its caller has gone away: what comes after it finds it made
        // or not, and never under way.
        if self.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        // Fails only where SQLite is misused.
        writer.busy_timeout(Duration::ZERO).ok()?;
        Some(work(&mut writer))
    }

    /// Lets `work` write on the store's own thread, when its turn has come.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T> {
        let waiting = Waiting::new(self);
        self.writing
            .run(move || {
                let this = &waiting.0;
                let mut writer = locked(&this.writer);
                writer.busy_timeout(open::BUSY).map_err(failure(&this.path, "write to"))?;
                Ok(work(&mut writer))
            })
            .await?
    }

    /// Lets `work` read on one of the store's own threads.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(readers) = &self.readers else {
            return self.write(|writer| work(writer)).await?.map_err(failure(&self.path, "read"));
        };
        let (this, idle) = (Arc::clone(self), Arc::clone(&readers.idle));
        readers
            .threads
            .run(move || {
                let reader = locked(&idle).pop();
                let reader = match reader {
                    Some(reader) => reader,
                    None => open::reader(&this.path)?,
                };
                let found = work(&reader).map_err(failure(&this.path, "read"));
                locked(&idle).push(reader);
                found
            })
            .await?
    }

    /// Notes that about so many pages were written; when that is many, they are copied into the database meanwhile.
    pub(super) fn wrote(self: &Arc<Self>, pages: usize) {
        let Some(readers) = &self.readers else { return };
        let before = self.written.fetch_add(pages, Ordering::Relaxed);
        if before + pages < CHECKPOINT_PAGES {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let this = Arc::clone(self);
        readers.threads.post(move || match this.checkpoint() {
            // Somebody reads what is there still; it is tried again after the next few writes.
            Ok(left) => drop(this.written.fetch_add(left.min(CHECKPOINT_PAGES - 64), Ordering::Relaxed)),
            Err(error) => {
                tracing::warn!(database = %this.path.display(), %error, "the write-ahead log was not emptied; it grows");
            }
        });
    }

    /// Copies the write-ahead log into the database: nearly all of it beside the writer, and what came meanwhile in its
    /// way, so that the log begins anew where nobody reads from it. Tells how many pages are left.
    fn checkpoint(&self) -> Result<usize> {
        // Who finds one under way leaves it at that.
        let Ok(mut beside) = self.checkpointer.try_lock() else { return Ok(0) };
        let connection = match &mut *beside {
            Some(connection) => connection,
            empty => empty.insert(open::again(&self.path)?),
        };
        let failure = |error| failure(&self.path, "empty the write-ahead log of")(error);
        open::checkpoint(connection).map_err(failure)?;
        open::checkpoint(&locked(&self.writer)).map_err(failure)
    }
}

/// A write that was asked for; none any more when dropped.
struct Waiting(Arc<Connections>);

impl Waiting {
    fn new(connections: &Arc<Connections>) -> Self {
        connections.waiting.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(connections))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
