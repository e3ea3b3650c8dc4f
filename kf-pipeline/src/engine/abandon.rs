//! Ending runs that nobody is to carry any more.

use kf_core::RunId;
use kf_core::metadata::{Commit, RunState};

use super::Engine;
use super::commit::journaled;
use crate::scheduler::JournalEvent;
use crate::{Error, Result};

impl Engine {
    /// Ends a run for good that has not ended and that no engine carries, without carrying it: it is
    /// [canceled](RunState::Canceled) as it stands, and its exit handlers do not run. For runs whose pipeline has changed
    /// since, or that nobody wants any more; [`rerun`](Self::rerun) can then keep what they did. A run that has ended stays
    /// as it is, but for what executors whose attempts outlive their engines still have of it.
    ///
    /// # Errors
    /// [`Error::Run`] where there is no such run, or this engine carries it; [`kf_core::Error::Held`] where another does.
    pub async fn abandon(&self, run: &RunId, reason: impl Into<String>) -> Result<()> {
        let (inner, reason) = (&self.inner, reason.into());
        let refuse = |problem: &str| Error::Run { run: run.to_string(), problem: problem.to_owned() };
        let _starting = inner.starting.lock().await;
        let record = inner.metadata.run(run).await?.ok_or_else(|| refuse("there is no such run"))?;
        let outliving = inner.outliving(inner.executors.values().chain(&inner.default_executor));
        if record.state.is_terminal() {
            // Its engine may have died before it had removed what was left.
            inner.end_run(&outliving, run).await;
            return Ok(());
        }
        if self.handle(run).is_some_and(|handle| !handle.is_over()) {
            return Err(refuse("this engine carries it: cancel it by its handle"));
        }
        let lease = inner.metadata.acquire(run, "an engine that abandons it", inner.options.lease).await?;
        let events = [JournalEvent::CancelAsked { reason: reason.clone() }];
        let commit = Commit {
            state: Some((RunState::Canceled, Some(format!("abandoned: {reason}")))),
            ..journaled(run, lease.epoch, lease.seq, &events)
        };
        let committed = inner.metadata.commit(commit).await;
        let released = inner.metadata.release(lease).await;
        committed?;
        inner.end_run(&outliving, run).await;
        Ok(released?)
    }
}
