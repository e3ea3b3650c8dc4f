//! Tells the server's owner what changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::watch;

use super::Shared;
use crate::store::table::{Entry, Table};
use crate::{Error, Result};

/// A key's value, and how it came there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreEntry {
    /// The value.
    pub value: Bytes,
    /// Grows with every change in the store, and never repeats: an entry of the same revision is the same.
    pub revision: u64,
    /// When it was last set.
    pub set_at: Instant,
    /// Whether the connection that set it is still open. Where it is not, its process has most likely ended.
    pub connected: bool,
}

impl StoreEntry {
    pub(super) fn of(entry: &Entry, table: &Table) -> Self {
        Self {
            value: entry.value.clone(),
            revision: entry.revision,
            set_at: entry.set_at,
            connected: table.is_open(entry.setter),
        }
    }
}

/// Tells of changes under a prefix: keys set and deleted, and ends of the connections that set them.
///
/// Many changes may come as one, so that a slow reader misses none: after each [`changed`](Self::changed) read the
/// [`snapshot`](Self::snapshot). It doesn't keep the server going.
#[derive(Debug)]
pub struct StoreWatch {
    prefix: String,
    shared: Arc<Shared>,
    revision: watch::Receiver<u64>,
}

impl StoreWatch {
    /// Waits for a change since the last that was told. Safe to drop half-way.
    ///
    /// # Errors
    /// [`Error::StoreEnded`] once the server has ended.
    pub async fn changed(&mut self) -> Result<()> {
        self.revision.changed().await.map_err(|_| Error::StoreEnded)
    }

    /// What is under the prefix just now, by whole key.
    pub fn snapshot(&self) -> BTreeMap<String, StoreEntry> {
        self.shared.snapshot(&self.prefix)
    }
}

/// The watches that there are, by prefix on the wire.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<(String, watch::Sender<u64>)>);

impl Watches {
    pub(super) fn add(&mut self, shared: &Arc<Shared>, prefix: &str) -> StoreWatch {
        let (sender, revision) = watch::channel(0);
        if !shared.has_ended() {
            self.0.push((format!("/{prefix}"), sender));
        }
        StoreWatch { prefix: prefix.to_owned(), shared: shared.clone(), revision }
    }

    pub(super) fn tell(&mut self, changed: &[Arc<str>], revision: u64) {
        if changed.is_empty() {
            return;
        }
        self.0.retain(|(_, sender)| !sender.is_closed());
        for (prefix, sender) in &self.0 {
            if changed.iter().any(|key| key.starts_with(prefix.as_str())) {
                sender.send_replace(revision);
            }
        }
    }
}
