//! The connections of a database: one that writes, a few that read, and the one that empties the write-ahead log.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
/// With about so many pages that could be copied, writes wait until they are: a slow disk slows writers down. What somebody
/// reads still can't be copied, and is not waited for.
const FULL_PAGES: usize = 2 * CHECKPOINT_PAGES;
/// How often it is looked whether another process has copied.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Connections {
    pub(super) path: PathBuf,
    writer: Mutex<Connection>,
    /// How many writes were asked for and are not done.
    waiting: AtomicUsize,
    writing: Threads,
    /// None in memory, where the one connection has the database.
    readers: Option<Readers>,
    /// About how many pages were written since the last checkpoint that anybody made here, and those that it left.
    written: AtomicUsize,
    /// Whether a checkpoint was asked for and is not done.
    copying: AtomicBool,
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
            copying: AtomicBool::new(false),
            checkpointer: Mutex::default(),
        })
    }

    /// Lets `work` write if nobody else does or waits to. It runs on the caller's thread, which is several times as quick
    /// as the way to another and back; it must be short.
    pub(super) fn write_now<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let mut writer = self.writer.try_lock().ok()?;
        // What was asked for earlier comes first, also where its caller has gone away: what comes after it finds it made
        // or not, and never under way.
        if self.waiting.load(Ordering::Acquire) > 0 || self.has_written(FULL_PAGES) {
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
                this.make_room();
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
        self.written.fetch_add(pages, Ordering::Relaxed);
        if !self.has_written(CHECKPOINT_PAGES) || self.copying.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        readers.threads.post(move || {
            this.empty_log(CHECKPOINT_PAGES);
            this.copying.store(false, Ordering::Release);
        });
    }

    fn has_written(&self, pages: usize) -> bool {
        self.written.load(Ordering::Relaxed) >= pages
    }

    /// Waits while the log is full, for a while.
    fn make_room(&self) {
        let until = Instant::now() + open::BUSY;
        while self.has_written(FULL_PAGES) && !self.empty_log(FULL_PAGES) && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }

    /// Copies the write-ahead log into the database where so many pages are in it, once nobody of this process does; false
    /// where another process does so.
    fn empty_log(&self, pages: usize) -> bool {
        let mut beside = locked(&self.checkpointer);
        if !self.has_written(pages) {
            return true;
        }
        let left = match self.checkpoint(&mut beside) {
            Ok(Some(left)) => left,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(database = %self.path.display(), %error, "the write-ahead log was not emptied; it grows");
                0
            }
        };
        // What somebody reads still is tried again after the next few writes.
        self.written.store(left.min(CHECKPOINT_PAGES - 64), Ordering::Relaxed);
        true
    }

    /// Copies nearly all of the log beside the writer, and what came meanwhile in its way, so that the log begins anew
    /// where nobody reads from it. Tells how many pages are left, or nothing where another process copies.
    fn checkpoint(&self, beside: &mut Option<Connection>) -> Result<Option<usize>> {
        let connection = match beside {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writes_wait_for_a_log_that_is_copied_slowly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.db");
        let connections = Arc::new(Connections::to_file(path.clone(), open::file(&path).unwrap()).unwrap());
        let insert = |connection: &mut Connection| {
            connection.execute("CREATE TABLE IF NOT EXISTS many (text BLOB)", []).unwrap();
            connection.execute("INSERT INTO many VALUES (zeroblob(262144))", []).unwrap();
        };
        let slow = Arc::clone(&connections);
        let (begun, begins) = std::sync::mpsc::channel();
        let (go_on, end) = std::sync::mpsc::channel::<()>();
        let copying = std::thread::spawn(move || {
            let _held = locked(&slow.checkpointer);
            begun.send(()).unwrap();
            let _ = end.recv();
        });
        begins.recv().unwrap();
        let writer = Arc::clone(&connections);
        let writing = tokio::spawn(async move {
            // 100 MiB.
            for _ in 0..400 {
                if writer.write_now(insert).is_none() {
                    writer.write(insert).await.unwrap();
                }
                writer.wrote(64);
            }
        });
        let log = || std::fs::metadata(folder.path().join("metadata.db-wal")).map_or(0, |about| about.len());
        for _ in 0..1200 {
            if connections.has_written(FULL_PAGES) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(connections.has_written(FULL_PAGES));
        // One write may be under way.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let full = log();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(log() == full && !writing.is_finished(), "it waits: {full} bytes, then {}", log());
        drop(go_on);
        copying.join().unwrap();
        writing.await.unwrap();
        assert!(log() < 48 << 20, "{} MiB", log() >> 20);
        assert!(log() > 16 << 20, "{} MiB: nothing was written while it could not be copied", log() >> 20);
    }

    #[test]
    fn what_another_copies_is_waited_for_and_not_taken_for_copied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.db");
        let writer = open::file(&path).unwrap();
        writer.execute_batch("CREATE TABLE many (text BLOB); INSERT INTO many VALUES (1);").unwrap();
        let reader = open::reader(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM many;").unwrap();
        writer.execute_batch("INSERT INTO many VALUES (2);").unwrap();
        let connections = Connections::to_file(path.clone(), writer).unwrap();
        let other = std::thread::spawn(move || {
            // Nobody else copies until the reader is done.
            let other = open::again(&path).unwrap();
            let busy = || other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0));
            // The first one may find the other side copying.
            let began = Instant::now();
            while busy().unwrap() && began.elapsed() < 3 * open::BUSY {}
        });
        let began = Instant::now();
        let mut copied = true;
        while copied && began.elapsed() < open::BUSY {
            std::thread::sleep(Duration::from_millis(2));
            connections.written.store(FULL_PAGES, Ordering::Relaxed);
            copied = connections.empty_log(FULL_PAGES);
        }
        assert!(!copied && connections.has_written(FULL_PAGES));
        reader.execute_batch("COMMIT").unwrap();
        connections.make_room();
        assert!(!connections.has_written(CHECKPOINT_PAGES));
        other.join().unwrap();
    }
}
