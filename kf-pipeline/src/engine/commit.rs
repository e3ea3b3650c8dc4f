//! Records as a commit: journal, lineage and the run's state together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kf_core::metadata::{Commit, ExecutionRecord, ExecutionState, Io, Lineage, MetadataStore, RunState};
use kf_core::{RunId, Timestamp};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout};

use super::lease::{LEASE, Until, unanswered};
use super::{Noted, RunEvent, TaskCounts};
use crate::TaskState;
use crate::scheduler::{JournalEvent, Record, TaskEnd, Values};

/// How long after the first failure a commit is tried again; each time after three times as long, up to a limit.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// For how long it is tried where the lease has no end, or the store has no room.
const PATIENCE: Duration = LEASE;
/// How long an answer is waited for.
const ANSWER: Duration = LEASE;

/// What was noted of attempts, by task and number.
pub(super) type NotedAttempts = HashMap<(Arc<str>, u32), Box<Noted>>;

/// A commit, and what listeners are told once it is made.
pub(super) struct Writing {
    commit: Commit,
    tell: Vec<RunEvent>,
}

impl Writing {
    /// Everything recorded since commit `seq`, and what was noted of the attempts in it, under the lease of this `epoch`; `ended` is the run's end where it is among it.
    pub(super) fn new(
        run: &RunId,
        epoch: u64,
        seq: u64,
        at: Timestamp,
        (records, mut noted): (Vec<Record>, NotedAttempts),
        ended: Option<(RunState, Option<String>)>,
        listened: bool,
    ) -> Self {
        let journal: Vec<JournalEvent> = records
            .iter()
            .map(|record| {
                let attempt =
                    record.attempt().and_then(|(task, number)| noted.remove(&(Arc::clone(task), number)));
                JournalEvent::of(record, attempt)
            })
            .collect();
        let tell = if listened { records.iter().filter_map(event_of).collect() } else { Vec::new() };
        let executions = records.into_iter().filter_map(|record| match record {
            Record::Task(end) => Some(execution(run, *end)),
            _ => None,
        });
        let commit = Commit {
            at,
            state: ended.or((seq == 0).then_some((RunState::Running, None))),
            lineage: Lineage { executions: executions.collect() },
            ..journaled(run, epoch, seq, &journal)
        };
        Self { commit, tell }
    }

    /// Writes it, tells listeners, and gives the commit's number.
    pub(super) async fn write(
        self,
        store: Arc<dyn MetadataStore>,
        until: Until,
        events: broadcast::Sender<RunEvent>,
    ) -> kf_core::Result<u64> {
        let seq = commit(store.as_ref(), self.commit, &until).await?;
        for event in self.tell {
            let _ = events.send(event);
        }
        Ok(seq)
    }
}

/// What writes these events as the commit after the `seq`th, now, and nothing else.
pub(super) fn journaled(run: &RunId, epoch: u64, seq: u64, events: &[JournalEvent]) -> Commit {
    Commit {
        run: run.clone(),
        epoch,
        expected_seq: seq,
        at: Timestamp::now(),
        events: serde_json::to_string(events).expect("events are made of names, numbers and JSON"),
        state: None,
        lineage: Lineage::default(),
    }
}

/// Makes a commit, and makes it once: a try that failed may have been written all the same, with only its answer lost.
/// While the store can't be reached it is tried again, until the lease would have ended: then another engine may have the
/// run, and who slept until then asks once more, to know.
pub(super) async fn commit(store: &dyn MetadataStore, commit: Commit, until: &Until) -> kf_core::Result<u64> {
    let (mut wait, mut patience, mut late) = (FIRST_WAIT, None, false);
    loop {
        let tried = timeout(ANSWER, once(store, &commit, patience.is_some())).await;
        let error = match tried.unwrap_or_else(|_| Err(unanswered("commit to the"))) {
            Err(error) if error.is_retryable() || is_full(&error) => error,
            done => return done,
        };
        let patience = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
        let lease = until.borrow().filter(|_| error.is_retryable());
        if Instant::now() + wait >= lease.unwrap_or(patience) {
            if late || lease.is_none_or(|end| Instant::now() < end) {
                return Err(error);
            }
            late = true;
            continue;
        }
        tracing::warn!(run = %commit.run, %error, "the commit failed and is tried again");
        tokio::time::sleep(wait).await;
        wait = (wait * 3).min(LONGEST_WAIT);
    }
}

/// Tries to commit. Where an earlier try may have been written, being refused may mean just this.
async fn once(store: &dyn MetadataStore, commit: &Commit, again: bool) -> kf_core::Result<u64> {
    let refused = match store.commit(commit.clone()).await {
        Err(error @ kf_core::Error::Fenced { .. }) if again => error,
        done => return done,
    };
    let seq = commit.expected_seq + 1;
    // Under one epoch one engine commits, one commit after the other: this one is its own.
    match store.run(&commit.run).await? {
        Some(run) if run.epoch == commit.epoch && run.seq == seq => Ok(seq),
        _ => Err(refused),
    }
}

/// Whether there is no room, which there may be soon: tasks that ended give back what they wrote.
fn is_full(error: &kf_core::Error) -> bool {
    matches!(error, kf_core::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}

fn event_of(record: &Record) -> Option<RunEvent> {
    match record {
        Record::Task(end) => Some(RunEvent::TaskEnded {
            task: Arc::clone(&end.task),
            state: end.state,
            error: end.error.clone(),
        }),
        Record::AttemptFailed { task, attempt, error, .. } => Some(RunEvent::AttemptFailed {
            task: Arc::clone(task),
            attempt: *attempt,
            error: Arc::clone(error),
        }),
        Record::Group { task, state, error, .. } => {
            Some(RunEvent::TaskEnded { task: Arc::clone(task), state: *state, error: error.clone() })
        }
        Record::Asked { task, message, .. } => {
            Some(RunEvent::ApprovalAsked { task: Arc::clone(task), message: message.clone() })
        }
        Record::NoCache | Record::CancelAsked { .. } | Record::Outputs { .. } => None,
    }
}

fn execution(run: &RunId, end: TaskEnd) -> ExecutionRecord {
    let state = match end.state {
        TaskState::Succeeded => ExecutionState::Complete,
        TaskState::Cached => ExecutionState::Cached,
        TaskState::Canceled => ExecutionState::Canceled,
        _ => ExecutionState::Failed,
    };
    let parameters = |values: &Values| {
        values.named_parameters().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    };
    let artifacts = |values: &Values| {
        let list = values.artifacts().iter().flat_map(|(port, list)| {
            list.iter().zip(0_u32..).map(move |(artifact, index)| Io {
                port: port.to_string(),
                index,
                artifact: artifact.clone(),
            })
        });
        list.collect()
    };
    ExecutionRecord {
        run: run.clone(),
        task: end.task.to_string(),
        component: end.executor.component().to_owned(),
        state,
        cache_key: end.cache_key,
        started_at: end.started_at,
        ended_at: end.ended_at,
        inputs: parameters(&end.inputs),
        outputs: parameters(&end.outputs),
        input_artifacts: artifacts(&end.inputs),
        output_artifacts: artifacts(&end.outputs),
    }
}

impl TaskCounts {
    pub(super) fn add(&mut self, state: TaskState) {
        match state {
            TaskState::Succeeded => self.succeeded += 1,
            TaskState::Cached => self.cached += 1,
            TaskState::Failed => self.failed += 1,
            TaskState::Canceled => self.canceled += 1,
            TaskState::Pending | TaskState::Running | TaskState::Skipped => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use kf_core::metadata::NewRun;
    use kf_core::testing::{FaultyMetadata, MetadataCall, MetadataFault};
    use kf_core::{Digest, Home};
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn who_slept_through_a_lease_asks_once_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = FaultyMetadata::new(Home::open(folder.path()).await.unwrap().metadata());
        let run: RunId = "slept".parse().unwrap();
        let new = NewRun {
            id: run.clone(),
            pipeline: "p".to_owned(),
            spec_digest: Digest::of(""),
            spec: "".into(),
            args: "{}".to_owned(),
            created_at: Timestamp::now(),
        };
        store.create_run(new).await.unwrap();
        let lease = store.acquire(&run, "one", LEASE).await.unwrap();
        let late = journaled(&run, lease.epoch, lease.seq, &[]);
        store.release(lease).await.unwrap();
        let _taken = store.acquire(&run, "another", LEASE).await.unwrap();
        let (_sender, until) = watch::channel(Some(Instant::now()));
        for (failures, fenced) in [(1, true), (2, false)] {
            let before = store.calls(MetadataCall::Commit);
            store.next(MetadataCall::Commit, MetadataFault::Away, failures);
            let error = commit(&store, late.clone(), &until).await.unwrap_err();
            assert_eq!(matches!(error, kf_core::Error::Fenced { .. }), fenced, "{error}");
            assert_eq!(store.calls(MetadataCall::Commit) - before, 2);
        }
    }
}
