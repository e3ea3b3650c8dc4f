//! Who waits for which keys.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::{Connection, size};

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In the order in which they came.
    by_key: HashMap<Arc<str>, VecDeque<Connection>>,
    waits: HashMap<Connection, Wait>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Wait {
    /// Not there yet; empty when the wait is over.
    missing: HashSet<Arc<str>>,
    /// The wait is over and its connection was not told.
    stopped: bool,
    /// The queue for one value of which this connection was woken.
    queue: Option<Arc<str>>,
}

impl Waiting {
    /// What the keys waited for take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A connection that doesn't wait begins to.
    pub(super) fn wait(&mut self, connection: Connection, missing: HashSet<Arc<str>>) {
        for key in &missing {
            self.bytes += size(key, &[]);
            self.by_key.entry(key.clone()).or_default().push_back(connection);
        }
        self.waits.insert(connection, Wait { missing, ..Wait::default() });
    }

    /// A key is there now: the connections that wait for nothing more.
    pub(super) fn wake_all(&mut self, key: &Arc<str>) -> Vec<Connection> {
        let waiters = self.by_key.remove(key).unwrap_or_default();
        self.bytes -= size(key, &[]) * waiters.len();
        waiters.into_iter().filter(|connection| self.arrived(*connection, key)).collect()
    }

    /// A value for one is there now: the first connection that waits for nothing more.
    pub(super) fn wake_one(&mut self, queue: &Arc<str>) -> Option<Connection> {
        loop {
            let waiters = self.by_key.get_mut(queue)?;
            let first = waiters.pop_front();
            if waiters.is_empty() {
                self.by_key.remove(queue);
            }
            let connection = first?;
            self.bytes -= size(queue, &[]);
            if self.arrived(connection, queue) {
                if let Some(wait) = self.waits.get_mut(&connection) {
                    wait.queue = Some(queue.clone());
                }
                return Some(connection);
            }
        }
    }

    fn arrived(&mut self, connection: Connection, key: &str) -> bool {
        let Some(wait) = self.waits.get_mut(&connection) else { return false };
        wait.missing.remove(key);
        wait.stopped = wait.missing.is_empty();
        wait.stopped
    }

    /// Whether this connection's wait is over and it was not told. It counts as told from now on.
    pub(super) fn take_stop(&mut self, connection: Connection) -> bool {
        let Some(wait) = self.waits.get_mut(&connection).filter(|wait| wait.stopped) else { return false };
        wait.stopped = false;
        if wait.queue.is_none() {
            self.waits.remove(&connection);
        }
        true
    }

    /// A connection takes from a queue, and so what it may have been woken for.
    pub(super) fn came_for(&mut self, connection: Connection, queue: &str) {
        if let Some(wait) = self.waits.get_mut(&connection)
            && wait.queue.as_deref() == Some(queue)
        {
            wait.queue = None;
        }
    }

    /// Ends a connection's wait; the queue for one value of which it was woken, and did not come.
    pub(super) fn end(&mut self, connection: Connection) -> Option<Arc<str>> {
        let wait = self.waits.remove(&connection)?;
        for key in &wait.missing {
            self.bytes -= size(key, &[]);
            if let Some(waiters) = self.by_key.get_mut(key) {
                waiters.retain(|other| *other != connection);
                if waiters.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        wait.queue
    }
}
