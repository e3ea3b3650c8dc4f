//! A metadata store that fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::script::Script;
use crate::metadata::{
    Commit, Created, ExecutionRecord, Hold, JournalEntry, Lease, LineageQuery, MetadataStore, NewRun, Page,
    RunQuery, RunRecord,
};
use crate::{Digest, Error, Result, RunId, Timestamp};

/// A call of a [`MetadataStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataCall {
    /// [`MetadataStore::create_run`].
    CreateRun,
    /// [`MetadataStore::acquire`].
    Acquire,
    /// [`MetadataStore::renew`].
    Renew,
    /// [`MetadataStore::release`].
    Release,
    /// [`MetadataStore::hold`] and [`MetadataStore::let_go`].
    Hold,
    /// [`MetadataStore::commit`].
    Commit,
    /// Any call that only reads.
    Read,
}

/// What goes wrong in a call.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataFault {
    /// It does what it was asked, so much later.
    Late(Duration),
    /// It does nothing and gives an error after which the same call may go through.
    Away,
    /// It does nothing and gives an error after which the same call fails again.
    Refuses,
    /// It does what it was asked, and gives an error as if the connection had broken before the answer.
    AnswerLost,
    /// It never answers.
    Hangs,
    /// It does what it was asked and never answers.
    AnswerHangs,
}

/// A metadata store around another, in which calls fail by rule or at random.
#[derive(Debug)]
pub struct FaultyMetadata {
    inner: Arc<dyn MetadataStore>,
    script: Script<MetadataCall, MetadataFault>,
    expiring: AtomicBool,
}

impl FaultyMetadata {
    /// A store that has no faults yet.
    pub fn new(inner: Arc<dyn MetadataStore>) -> Self {
        Self { inner, script: Script::new(), expiring: AtomicBool::new(false) }
    }

    /// Leases end unless renewed, as those of a database that many machines share.
    pub fn expire_leases(&self) {
        self.expiring.store(true, Ordering::SeqCst);
    }

    /// The next so many calls of this kind meet this fault, after those that were asked for before.
    pub fn next(&self, call: MetadataCall, fault: MetadataFault, times: usize) {
        self.script.rule(call, fault, times);
    }

    /// Of all other calls, one in so many meets one of these faults. The same seed gives the same for the same
    /// order of calls.
    pub fn at_random(&self, seed: u64, one_in: u64, faults: Vec<MetadataFault>) {
        self.script.at_random(seed, one_in, faults);
    }

    /// Every call fails as [`Away`](MetadataFault::Away) for so long from now.
    pub fn away_for(&self, time: Duration) {
        self.script.away_for(time);
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.script.heal();
    }

    /// How many calls of this kind were made.
    pub fn calls(&self, call: MetadataCall) -> usize {
        self.script.calls(call)
    }

    /// How many calls met a fault, those while the store was away aside.
    pub fn met(&self) -> usize {
        self.script.met()
    }

    async fn faulty<T>(&self, call: MetadataCall, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = self.script.next(call, None);
        if self.script.is_away() {
            return Err(away("the store is away"));
        }
        match fault {
            None => work.await,
            Some(MetadataFault::Late(time)) => {
                tokio::time::sleep(time).await;
                work.await
            }
            Some(MetadataFault::Away) => Err(away("the store is away")),
            Some(MetadataFault::Refuses) => {
                Err(Error::Database { context: format!("{call:?}"), source: "the store is broken".into() })
            }
            Some(MetadataFault::AnswerLost) => {
                work.await?;
                Err(away("the connection broke before the answer"))
            }
            Some(MetadataFault::Hangs) => std::future::pending().await,
            Some(MetadataFault::AnswerHangs) => {
                work.await?;
                std::future::pending().await
            }
        }
    }
}

fn away(why: &'static str) -> Error {
    Error::io("reach", "metadata store")(io::Error::new(io::ErrorKind::TimedOut, why))
}

#[async_trait]
impl MetadataStore for FaultyMetadata {
    async fn create_run(&self, run: NewRun) -> Result<Created> {
        self.faulty(MetadataCall::CreateRun, self.inner.create_run(run)).await
    }

    async fn acquire(&self, run: &RunId, owner: &str, ttl: Duration) -> Result<Lease> {
        let mut lease = self.faulty(MetadataCall::Acquire, self.inner.acquire(run, owner, ttl)).await?;
        if self.expiring.load(Ordering::SeqCst) {
            lease.expires_at = Some(Timestamp::now().after(ttl));
        }
        Ok(lease)
    }

    async fn renew(&self, lease: &mut Lease, ttl: Duration) -> Result<()> {
        self.faulty(MetadataCall::Renew, self.inner.renew(lease, ttl)).await
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        self.faulty(MetadataCall::Release, self.inner.release(lease)).await
    }

    async fn hold(&self, hold: &mut Hold, places: u32) -> Result<bool> {
        self.faulty(MetadataCall::Hold, self.inner.hold(hold, places)).await
    }

    async fn let_go(&self, hold: &mut Hold) -> Result<()> {
        self.faulty(MetadataCall::Hold, self.inner.let_go(hold)).await
    }

    async fn commit(&self, commit: Commit) -> Result<u64> {
        self.faulty(MetadataCall::Commit, self.inner.commit(commit)).await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        self.faulty(MetadataCall::Read, self.inner.run(run)).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        self.faulty(MetadataCall::Read, self.inner.runs(query)).await
    }

    async fn journal(&self, run: &RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        self.faulty(MetadataCall::Read, self.inner.journal(run, after, limit)).await
    }

    async fn cached(&self, key: &Digest, not_of: &RunId) -> Result<Option<ExecutionRecord>> {
        self.faulty(MetadataCall::Read, self.inner.cached(key, not_of)).await
    }

    async fn executions(&self, query: &LineageQuery) -> Result<Page<ExecutionRecord>> {
        self.faulty(MetadataCall::Read, self.inner.executions(query)).await
    }
}
