//! Drives one backfill: a run for each partition that needs one, so many at once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::{StreamExt, stream};
use kf_core::RunId;
use kf_core::metadata::{Commit, RunState};
use tokio_util::sync::DropGuard;

use super::decide::next_attempt;
use super::handle::DriverEnd;
use super::identity::Identity;
use super::{Backfill, BackfillEvent, PartitionStatus, PartitionTable, look_up, look_up_all};
use crate::engine::Inner;
use crate::engine::commit::journaled;
use crate::{Engine, Error, Partition, Pipeline, Result, RunHandle, StartOptions};

/// How often a run that another engine carries is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Driver {
    pub(super) engine: Arc<Inner>,
    /// What keeps the engine alive, which a backfill does not.
    pub(super) alive: Weak<DropGuard>,
    pub(super) pipeline: Pipeline,
    pub(super) backfill: Backfill,
    pub(super) identity: Identity,
    pub(super) end: DriverEnd,
}

/// Why a partition, or the whole backfill, is not gone on with.
enum Trouble {
    /// The engine ends.
    Stop,
    /// This partition can't be carried.
    Failed(Error),
}

impl Driver {
    pub(super) async fn run(self) {
        let ending = match self.drive().await {
            Ok(table) => Ok(Arc::new(table)),
            Err(why) => Err(format!("stopped before its end: {why}; ask for it again to go on where it was")),
        };
        self.end.ending.send_replace(Some(ending));
    }

    async fn drive(&self) -> Result<PartitionTable, String> {
        let known = tokio::select! {
            known = look_up_all(self.engine.metadata.as_ref(), &self.identity, &self.backfill) => known,
            () = self.engine.shutdown.cancelled() => return Err(self.why_stopped()),
        };
        let mut rows = known.map_err(|error| error.to_string())?;
        let needs_run = rows.iter().cloned().enumerate().filter(|(_, status)| self.next(status, 0).is_some());
        let to_run: Vec<_> = needs_run.collect();
        let of = to_run.len();
        self.tell(BackfillEvent::Planned { partitions: rows.len(), to_run: of });
        let mut ended = 0;
        let mut running = stream::iter(to_run)
            .map(|(at, status)| async move { self.partition(status).await.map(|status| (at, status)) })
            .buffer_unordered(self.backfill.at_once);
        while let Some(done) = running.next().await {
            let Some((at, status)) = done else { return Err(self.why_stopped()) };
            ended += 1;
            self.tell(BackfillEvent::Ended { status: status.clone(), ended, of });
            rows[at] = status;
        }
        drop(running);
        Ok(PartitionTable::new(rows))
    }

    fn next(&self, status: &PartitionStatus, made: u32) -> Option<u32> {
        next_attempt(status, made, self.backfill.retries, self.backfill.rerun_before)
    }

    fn tell(&self, event: BackfillEvent) {
        // Where nobody listens, that is fine.
        let _ = self.end.events.send(event);
    }

    /// Carries a partition until nothing further is to be done for it; none where the engine ends.
    async fn partition(&self, mut status: PartitionStatus) -> Option<PartitionStatus> {
        let mut made = 0;
        loop {
            let cancelled = self.end.cancel.borrow().is_some();
            let Some(attempt) = self.next(&status, made).filter(|_| !cancelled) else { return Some(status) };
            if let Some(run) = status.run.clone().filter(|_| made > 0) {
                let (key, error) = (status.partition.key().to_owned(), status.error.clone());
                self.tell(BackfillEvent::Retried { key, run, error });
            }
            let failed = match self.attempt(&status.partition, attempt).await {
                Ok(ended) => {
                    made += u32::from(ended);
                    None
                }
                Err(Trouble::Stop) => return None,
                Err(Trouble::Failed(error)) => Some(error),
            };
            let known = vec![status.partition.clone()];
            let known = look_up(self.engine.metadata.as_ref(), &self.identity, known).await;
            let failed = match known {
                Ok(mut known) => {
                    status = known.pop().unwrap_or(status);
                    failed
                }
                Err(error) => failed.or(Some(error)),
            };
            if let Some(error) = failed {
                return Some(PartitionStatus { error: Some(error.to_string()), ..status });
            }
        }
    }

    /// Carries an attempt to its end, and tells whether it did: where another engine does, or an old run was in the way,
    /// the partition is to be looked at again.
    async fn attempt(&self, partition: &Partition, attempt: u32) -> Result<bool, Trouble> {
        let run = self.identity.run(partition.key(), attempt);
        let mut options = StartOptions::new().id(run.clone());
        options.no_cache = self.backfill.no_cache;
        let started = {
            let alive = self.alive.upgrade().ok_or(Trouble::Stop)?;
            let engine = Engine { inner: Arc::clone(&self.engine), _alive: alive };
            engine.start_with(&self.pipeline, self.backfill.args_of(partition), options).await
        };
        let held = match started {
            Ok(handle) => {
                self.tell(BackfillEvent::Started { key: partition.key().to_owned(), run, attempt });
                return self.wait(handle).await;
            }
            Err(Error::Draining) => return Err(Trouble::Stop),
            Err(Error::Core(kf_core::Error::Held { .. })) => true,
            Err(Error::Core(kf_core::Error::Conflict { what: "run", .. })) => {
                match self.supersede(&run).await {
                    Ok(()) => false,
                    Err(kf_core::Error::Held { .. }) => true,
                    Err(error) => return Err(Trouble::Failed(error.into())),
                }
            }
            Err(error) => return Err(Trouble::Failed(error)),
        };
        if held {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.engine.shutdown.cancelled() => return Err(Trouble::Stop),
            }
        }
        Ok(false)
    }

    async fn wait(&self, handle: RunHandle) -> Result<bool, Trouble> {
        let mut cancel = self.end.cancel.subscribe();
        // What was asked before this run began counts too.
        cancel.mark_changed();
        loop {
            tokio::select! {
                outcome = handle.wait() => return match outcome {
                    Ok(_) => Ok(true),
                    Err(_) if self.is_stopping() => Err(Trouble::Stop),
                    Err(error) => Err(Trouble::Failed(error)),
                },
                _ = cancel.changed() => {
                    let reason = cancel.borrow_and_update().clone();
                    if let Some(reason) = reason {
                        handle.cancel(reason).await;
                    }
                }
            }
        }
    }

    /// Ends a run that no engine carries, and that can't be gone on with: the pipeline or a file among its arguments has
    /// changed since.
    async fn supersede(&self, run: &RunId) -> kf_core::Result<()> {
        let metadata = &self.engine.metadata;
        let lease = metadata.acquire(run, "another engine", self.engine.options.lease).await?;
        let unfinished = metadata.run(run).await?.is_some_and(|record| !record.state.is_terminal());
        let reason = "left unfinished, and the pipeline or its arguments have changed since".to_owned();
        let commit = Commit {
            state: Some((RunState::Canceled, Some(reason))),
            ..journaled(run, lease.epoch, lease.seq, &[])
        };
        let done = if unfinished { metadata.commit(commit).await.map(|_| ()) } else { Ok(()) };
        metadata.release(lease).await?;
        done
    }

    fn is_stopping(&self) -> bool {
        self.engine.shutdown.is_cancelled() || self.engine.lock().draining
    }

    fn why_stopped(&self) -> String {
        let dropped = self.engine.shutdown.is_cancelled();
        if dropped { "its engine was dropped".to_owned() } else { "its engine was drained".to_owned() }
    }
}
