//! A store that tells the witness of commits.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kf_core::metadata::{
    Commit, Created, ExecutionRecord, Hold, JournalEntry, Lease, LineageQuery, MetadataStore, NewRun, Page,
    RunQuery, RunRecord,
};
use kf_core::{Digest, RunId};

use super::phase::Phase;
use super::witness::Witness;

#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: Arc<dyn MetadataStore>,
    pub(crate) witness: Witness,
}

#[async_trait]
impl MetadataStore for Watched {
    async fn commit(&self, commit: Commit) -> kf_core::Result<u64> {
        let noted = kf_core::Error::io("write", "witness");
        self.witness.reached(Phase::BeforeCommit);
        self.witness.note("commit", "-", "-", 0).map_err(noted)?;
        self.witness.reached(Phase::DuringCommit);
        let seq = self.inner.commit(commit).await?;
        self.witness.note("committed", "-", "-", 0).map_err(kf_core::Error::io("write", "witness"))?;
        self.witness.reached(Phase::AfterCommit);
        Ok(seq)
    }

    async fn create_run(&self, run: NewRun) -> kf_core::Result<Created> {
        self.inner.create_run(run).await
    }

    async fn acquire(&self, run: &RunId, owner: &str, ttl: Duration) -> kf_core::Result<Lease> {
        self.inner.acquire(run, owner, ttl).await
    }

    async fn renew(&self, lease: &mut Lease, ttl: Duration) -> kf_core::Result<()> {
        self.inner.renew(lease, ttl).await
    }

    async fn release(&self, lease: Lease) -> kf_core::Result<()> {
        self.inner.release(lease).await
    }

    async fn hold(&self, hold: &mut Hold, places: u32) -> kf_core::Result<bool> {
        self.inner.hold(hold, places).await
    }

    async fn let_go(&self, hold: &mut Hold) -> kf_core::Result<()> {
        self.inner.let_go(hold).await
    }

    async fn run(&self, run: &RunId) -> kf_core::Result<Option<RunRecord>> {
        self.inner.run(run).await
    }

    async fn runs(&self, query: &RunQuery) -> kf_core::Result<Page<RunRecord>> {
        self.inner.runs(query).await
    }

    async fn journal(&self, run: &RunId, after: u64, limit: usize) -> kf_core::Result<Vec<JournalEntry>> {
        self.inner.journal(run, after, limit).await
    }

    async fn cached(&self, key: &Digest, not_of: &RunId) -> kf_core::Result<Option<ExecutionRecord>> {
        self.inner.cached(key, not_of).await
    }

    async fn executions(&self, query: &LineageQuery) -> kf_core::Result<Page<ExecutionRecord>> {
        self.inner.executions(query).await
    }
}
