//! Reading a run's journal from the store, a page at a time.

use std::collections::VecDeque;

use kf_core::RunId;
use kf_core::metadata::{JournalEntry, MetadataStore};

use crate::Result;
use crate::scheduler::{JournalEvent, read_journal};

/// How many entries are read at once.
const PAGE: usize = 1000;

/// A run's journal from its beginning.
pub(crate) struct Journal<'s> {
    store: &'s dyn MetadataStore,
    run: &'s RunId,
    after: u64,
    page: VecDeque<JournalEntry>,
}

impl<'s> Journal<'s> {
    pub(crate) fn new(store: &'s dyn MetadataStore, run: &'s RunId) -> Self {
        Self { store, run, after: 0, page: VecDeque::new() }
    }

    /// The events of the next entry; none at the end.
    ///
    /// # Errors
    /// Where the store can't be read, or what it holds is not understood.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<JournalEvent>>> {
        if self.page.is_empty() {
            self.page = self.store.journal(self.run, self.after, PAGE).await?.into();
        }
        let Some(entry) = self.page.pop_front() else { return Ok(None) };
        self.after = entry.seq;
        read_journal(self.run, &entry).map(Some)
    }
}
