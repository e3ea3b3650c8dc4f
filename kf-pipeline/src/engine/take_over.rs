//! Runs whose engine is gone.

use std::sync::Arc;
use std::time::Duration;

use kf_core::metadata::{RunQuery, RunRecord, RunState};
use kf_core::{Digest, Timestamp};
use tokio::task::JoinHandle;

use super::{Carry, Engine, Inner, RunHandle};
use crate::{Error, Pipeline, Result};

/// An engine that takes over what others leave. It stops to look for more when this is dropped; what it has taken over
/// goes on.
#[derive(Debug)]
#[must_use = "it stops to look for runs when dropped"]
pub struct StandBy(JoinHandle<()>);

impl Drop for StandBy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Engine {
    /// Takes over every run of these pipelines that has not ended and that no engine carries: of an engine that was
    /// killed, once its lease is over, or of one that was drained or dropped. They go on where they were, with the cache
    /// in use, and their handles are returned.
    ///
    /// A run is of one of the pipelines where it was made by the very same definition. One that was created less than a
    /// lease ago and not begun is left to the engine that is about to begin it. A run that can't be taken over for a
    /// reason of its own is left where it is, with a warning.
    ///
    /// # Errors
    /// Where this engine can't run one of the pipelines, is [draining](Error::Draining), or the store can't be read.
    pub async fn take_over(&self, pipelines: &[&Pipeline]) -> Result<Vec<RunHandle>> {
        self.inner.take_over(pipelines).await
    }

    /// [Takes over](Self::take_over) runs of these pipelines from now on: it looks for them twice in the time that a lease
    /// lasts, until the engine or what this returns is dropped. [`handle`](Self::handle) finds their handles.
    ///
    /// # Errors
    /// Where this engine can't run one of the pipelines.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn stand_by(&self, pipelines: impl IntoIterator<Item = Pipeline>) -> Result<StandBy> {
        let pipelines: Vec<Pipeline> = pipelines.into_iter().collect();
        pipelines.iter().try_for_each(|pipeline| self.inner.check(pipeline))?;
        let (inner, shutdown) = (Arc::clone(&self.inner), self.inner.shutdown.clone());
        let looking = look(inner, pipelines, self.inner.options.lease / 2);
        Ok(StandBy(tokio::spawn(async move {
            let _ = shutdown.run_until_cancelled_owned(looking).await;
        })))
    }
}

async fn look(inner: Arc<Inner>, pipelines: Vec<Pipeline>, every: Duration) {
    let pipelines: Vec<&Pipeline> = pipelines.iter().collect();
    let mut times = tokio::time::interval(every);
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        match inner.take_over(&pipelines).await {
            Ok(_) => {}
            Err(Error::Draining) => return,
            Err(error) => tracing::warn!(%error, "runs to take over were not looked for; it is tried again"),
        }
    }
}

impl Inner {
    async fn take_over(self: &Arc<Self>, pipelines: &[&Pipeline]) -> Result<Vec<RunHandle>> {
        let mut taken = Vec::new();
        for pipeline in pipelines {
            self.check(pipeline)?;
            let digest = Digest::of(pipeline.text().as_bytes());
            for state in [RunState::Running, RunState::Pending] {
                let mut query = RunQuery {
                    pipeline: Some(pipeline.name().to_owned()),
                    state: Some(state),
                    brief: true,
                    ..RunQuery::default()
                };
                loop {
                    let page = self.metadata.runs(&query).await?;
                    for run in page.items.into_iter().filter(|run| run.spec_digest == digest) {
                        taken.extend(self.take(pipeline, run).await?);
                    }
                    query.after = page.next;
                    if query.after.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(taken)
    }

    /// Takes a run, where it can be had.
    async fn take(self: &Arc<Self>, pipeline: &Pipeline, run: RunRecord) -> Result<Option<RunHandle>> {
        let _starting = self.starting.lock().await;
        let carried = self.lock().active.get(&run.id).is_some_and(|handle| !handle.is_over());
        let young = Timestamp::now().since(run.created_at) < self.options.lease;
        if carried || (run.state == RunState::Pending && young) {
            return Ok(None);
        }
        let args = match serde_json::from_str(&run.args) {
            Ok(args) => args,
            Err(error) => {
                tracing::warn!(run = %run.id, %error, "its arguments are not understood; it is not taken over");
                return Ok(None);
            }
        };
        let how = Carry { cache: true, trace: None, seed: None };
        match self.carry(run.id.clone(), pipeline, args, run.created_at, how).await {
            Ok(handle) => {
                tracing::info!(run = %run.id, "taken over");
                Ok(Some(handle))
            }
            Err(Error::Core(kf_core::Error::Held { .. })) => Ok(None),
            Err(error) if error.is_retryable() || matches!(error, Error::Draining) => Err(error),
            Err(error) => {
                tracing::warn!(run = %run.id, %error, "it can't be taken over");
                Ok(None)
            }
        }
    }
}
