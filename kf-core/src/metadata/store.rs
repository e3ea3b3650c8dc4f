//! The [`MetadataStore`] trait.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{ExecutionRecord, Lineage, LineageQuery, NewRun, Page, RunQuery, RunRecord, RunState};
use crate::{Digest, Result, RunId, Timestamp};

/// What [`MetadataStore::create_run`] found.
#[derive(Clone, Debug)]
pub enum Created {
    /// The run is new.
    New,
    /// A run of this id, pipeline and arguments was there already.
    Existing(Box<RunRecord>),
}

/// The right to write a run's journal, until it ends or is dropped.
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// The lease's number; a commit under a smaller one than the newest is refused.
    pub epoch: u64,
    /// The number of the run's last commit when the lease was given.
    pub seq: u64,
    /// When it ends unless renewed; none where it holds as long as its process lives.
    pub expires_at: Option<Timestamp>,
    /// What the implementation must keep alive with the lease, such as a locked file.
    pub guard: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("run", &self.run)
            .field("epoch", &self.epoch)
            .field("seq", &self.seq)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A place under a name that a run wants, or has. Made before it is asked for, so that it can be [let
/// go](MetadataStore::let_go) also where the answer was lost.
pub struct Hold {
    /// The name.
    pub name: String,
    /// The run.
    pub run: RunId,
    /// The number of the run's lease; the place ends with that lease, or with the process where leases do.
    pub epoch: u64,
    /// What tells it from others.
    pub id: uuid::Uuid,
    /// What the implementation must keep alive while it is held, such as a locked file.
    pub guard: Option<Box<dyn Any + Send + Sync>>,
}

impl Hold {
    /// A place that is still to be asked for.
    pub fn new(name: impl Into<String>, run: &RunId, epoch: u64) -> Self {
        Self { name: name.into(), run: run.clone(), epoch, id: uuid::Uuid::new_v4(), guard: None }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("name", &self.name)
            .field("run", &self.run)
            .field("epoch", &self.epoch)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What becomes true together, or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The run.
    pub run: RunId,
    /// The number of the lease under which it is made.
    pub epoch: u64,
    /// The number of the commit before it.
    pub expected_seq: u64,
    /// When it was made.
    pub at: Timestamp,
    /// What happened, as JSON text of one array; its elements mean something to the engine alone.
    pub events: String,
    /// The run's new state and why, where it changes.
    pub state: Option<(RunState, Option<String>)>,
    /// Executions that ended.
    pub lineage: Lineage,
}

/// One commit of a run's journal.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// The commit's number, from 1 without gaps.
    pub seq: u64,
    /// When it was made.
    pub at: Timestamp,
    /// What happened, as JSON text of one array.
    pub events: String,
}

/// Keeps runs, journals and lineage. All calls may be made from any task or process at any time.
#[async_trait]
pub trait MetadataStore: Send + Sync + fmt::Debug + 'static {
    /// Creates a run. Doing it again with the same pipeline and arguments finds the run that is there.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) where the id belongs to a run of another pipeline or with
    /// other arguments.
    async fn create_run(&self, run: NewRun) -> Result<Created>;

    /// Takes the right to write the run's journal. Where the lease has an end, it is `ttl` from now by the
    /// store's clock.
    ///
    /// # Errors
    /// [`Error::Held`](crate::Error::Held) while another holds it, [`Error::NotFound`](crate::Error::NotFound)
    /// where there is no such run.
    async fn acquire(&self, run: &RunId, owner: &str, ttl: Duration) -> Result<Lease>;

    /// Puts the lease's end off to `ttl` from now.
    ///
    /// # Errors
    /// [`Error::Fenced`](crate::Error::Fenced) where it has been given to another since.
    async fn renew(&self, lease: &mut Lease, ttl: Duration) -> Result<()>;

    /// Gives the lease back, so that another may take it at once.
    async fn release(&self, lease: Lease) -> Result<()>;

    /// Takes one of so many `places` under the hold's name, and tells whether it did: not where all are taken, nor where the
    /// run's lease is not held. All who share the store share the places: a mutex is a name with one. Asked again with the
    /// same hold, it has one place.
    ///
    /// Who holds a place under a lease that is over loses place and lease to whoever asks.
    ///
    /// # Errors
    /// Where the store can't be asked; whether the place is held is not known then, and it may be asked again.
    async fn hold(&self, hold: &mut Hold, places: u32) -> Result<bool>;

    /// Gives a place back, where it is held.
    ///
    /// # Errors
    /// Where the store can't be asked; it may be asked again.
    async fn let_go(&self, hold: &mut Hold) -> Result<()>;

    /// Writes journal, state and lineage together and returns the commit's number, `expected_seq` + 1.
    ///
    /// # Errors
    /// [`Error::Fenced`](crate::Error::Fenced) where `epoch` is not the newest lease's or `expected_seq` is not
    /// the last commit's: somebody else has taken the run over, and nothing is written.
    async fn commit(&self, commit: Commit) -> Result<u64>;

    /// The run, where there is one.
    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>>;

    /// Runs, newest first.
    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>>;

    /// The journal's entries after number `after`, in order, at most `limit` of them.
    async fn journal(&self, run: &RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>>;

    /// The newest execution in state `COMPLETE` with this cache key, those of run `not_of` left out.
    async fn cached(&self, key: &Digest, not_of: &RunId) -> Result<Option<ExecutionRecord>>;

    /// Executions by run or by the content they read or made, oldest first.
    async fn executions(&self, query: &LineageQuery) -> Result<Page<ExecutionRecord>>;
}
