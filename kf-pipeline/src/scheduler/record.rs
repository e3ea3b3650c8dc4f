//! What a run writes down, and what a restarted engine reads back.

use std::collections::HashMap;
use std::sync::Arc;

use kf_core::metadata::JournalEntry;
use kf_core::{Digest, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{End, Values, rerun};
use crate::engine::Noted;
use crate::plan::Executor;
use crate::{Error, Result};

/// Where a task stands, in the words of Kubeflow Pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum TaskState {
    /// It has not begun.
    Pending,
    /// It is under way.
    Running,
    /// It ended well.
    Succeeded,
    /// Its outputs are those of an earlier execution.
    Cached,
    /// It ended with an error.
    Failed,
    /// It did not run, since its condition is false or a task before it did not succeed.
    Skipped,
    /// It was ended, or not begun, because the run was cancelled.
    Canceled,
}

impl TaskState {
    /// The word as stored and shown, such as `SUCCEEDED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Cached => "CACHED",
            Self::Failed => "FAILED",
            Self::Skipped => "SKIPPED",
            Self::Canceled => "CANCELED",
        }
    }

    /// Whether the task has ended.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a step writes down.
#[derive(Debug)]
pub(crate) enum Record {
    /// A task that an executor carried, or the cache stood for, ended.
    Task(Box<TaskEnd>),
    /// An attempt failed and another follows.
    AttemptFailed {
        task: Arc<str>,
        attempt: u32,
        started_at: Timestamp,
        ended_at: Timestamp,
        error: Arc<str>,
        /// Whether it was lost by no fault of the task.
        lost: bool,
    },
    /// A task ended that no executor carried: a DAG, a loop, or one that was skipped.
    Group { task: Arc<str>, state: TaskState, at: Timestamp, error: Option<Arc<str>> },
    /// Nothing is taken from the cache, from here on.
    NoCache,
    /// A task waits for a person.
    Asked { task: Arc<str>, message: String, at: Timestamp },
    /// Somebody asked for the run's end.
    CancelAsked { reason: String },
    /// What the whole pipeline gave.
    Outputs { outputs: Arc<Values> },
}

#[derive(Debug)]
pub(crate) struct TaskEnd {
    pub(crate) task: Arc<str>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) state: TaskState,
    pub(crate) attempts: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    pub(crate) inputs: Arc<Values>,
    pub(crate) outputs: Arc<Values>,
    pub(crate) error: Option<Arc<str>>,
    pub(crate) cache_key: Option<Digest>,
}

/// A record as the journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum JournalEvent {
    Task {
        task: Arc<str>,
        state: TaskState,
        attempts: u32,
        started_at: Timestamp,
        ended_at: Timestamp,
        #[serde(default, skip_serializing_if = "is_empty")]
        outputs: Arc<Values>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Arc<str>>,
        /// Of its last attempt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        noted: Option<Box<Noted>>,
    },
    AttemptFailed {
        task: Arc<str>,
        attempt: u32,
        started_at: Timestamp,
        ended_at: Timestamp,
        error: Arc<str>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lost: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        noted: Option<Box<Noted>>,
    },
    Group {
        task: Arc<str>,
        state: TaskState,
        at: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Arc<str>>,
    },
    NoCache,
    Asked {
        task: Arc<str>,
        message: String,
        at: Timestamp,
    },
    CancelAsked {
        reason: String,
    },
    Outputs {
        outputs: Arc<Values>,
    },
    /// The run does again what another did, but for what it keeps of it, which follows as tasks that are cached.
    Rerun {
        of: RunId,
        /// Tasks for which nothing may stand.
        fresh: Vec<Arc<str>>,
    },
    /// Everything that the run keeps of the other is written.
    Kept,
}

/// The events of one entry of a run's journal.
pub(crate) fn read_journal(run: &RunId, entry: &JournalEntry) -> Result<Vec<JournalEvent>> {
    serde_json::from_str(&entry.events).map_err(|source| Error::Journal {
        run: run.to_string(),
        seq: entry.seq,
        source,
    })
}

fn is_empty(values: &Arc<Values>) -> bool {
    values.is_empty()
}

impl Record {
    /// The attempt that it tells the end of.
    pub(crate) fn attempt(&self) -> Option<(&Arc<str>, u32)> {
        match self {
            Self::Task(end) => Some((&end.task, end.attempts)),
            Self::AttemptFailed { task, attempt, .. } => Some((task, *attempt)),
            _ => None,
        }
    }
}

impl JournalEvent {
    /// Of a record, and of what was noted of the attempt that it tells the end of.
    pub(crate) fn of(record: &Record, noted: Option<Box<Noted>>) -> Self {
        match record {
            Record::Task(end) => Self::Task {
                task: Arc::clone(&end.task),
                state: end.state,
                attempts: end.attempts,
                started_at: end.started_at,
                ended_at: end.ended_at,
                outputs: Arc::clone(&end.outputs),
                error: end.error.clone(),
                noted,
            },
            Record::AttemptFailed { task, attempt, started_at, ended_at, error, lost } => {
                Self::AttemptFailed {
                    task: Arc::clone(task),
                    attempt: *attempt,
                    started_at: *started_at,
                    ended_at: *ended_at,
                    error: Arc::clone(error),
                    lost: *lost,
                    noted,
                }
            }
            Record::Group { task, state, at, error } => {
                Self::Group { task: Arc::clone(task), state: *state, at: *at, error: error.clone() }
            }
            Record::NoCache => Self::NoCache,
            Record::Asked { task, message, at } => {
                Self::Asked { task: Arc::clone(task), message: message.clone(), at: *at }
            }
            Record::CancelAsked { reason } => Self::CancelAsked { reason: reason.clone() },
            Record::Outputs { outputs } => Self::Outputs { outputs: Arc::clone(outputs) },
        }
    }
}

/// What of a run has happened already.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Leaves that have ended.
    pub(super) ended: HashMap<Arc<str>, End>,
    /// Failed attempts of leaves that have not.
    pub(super) attempts: HashMap<Arc<str>, FailedAttempts>,
    /// Tasks without a leaf whose end is written down.
    pub(super) groups: HashMap<Arc<str>, TaskState>,
    /// Whether nothing is taken from the cache, whoever carries the run on.
    pub(super) no_cache: bool,
    /// When a person was asked.
    pub(super) asked: HashMap<Arc<str>, Timestamp>,
    /// Why the run was cancelled, where it was.
    pub(super) canceled: Option<String>,
    /// How often.
    pub(super) cancels: u32,
    /// Of a cancelled run: what something happened inside of, and of a loop how many iterations had begun.
    begun: HashMap<Box<str>, usize>,
    /// Tasks for which no earlier execution may stand.
    fresh: Vec<Arc<str>>,
    /// The run that it does again and the chosen tasks, where what it keeps is not all written.
    to_keep: Option<(RunId, Vec<Arc<str>>)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FailedAttempts {
    pub(super) count: u32,
    /// How many of them were lost by no fault of the task, and whether the last one was.
    pub(super) lost: u32,
    pub(super) last_lost: bool,
    pub(super) first_started: Timestamp,
    pub(super) last_ended: Timestamp,
}

impl Past {
    /// Adds one event of the journal, in order.
    pub(crate) fn add(&mut self, event: JournalEvent) {
        match event {
            JournalEvent::Task { task, state, outputs, error, .. } => {
                self.attempts.remove(&task);
                let state = if state == TaskState::Cached { TaskState::Succeeded } else { state };
                self.ended.insert(task, End { state, outputs, error });
            }
            JournalEvent::AttemptFailed { task, attempt, started_at, ended_at, lost, .. } => {
                let failed = self.attempts.entry(task).or_insert(FailedAttempts {
                    count: attempt,
                    lost: 0,
                    last_lost: lost,
                    first_started: started_at,
                    last_ended: ended_at,
                });
                (failed.count, failed.last_ended) = (attempt, ended_at);
                (failed.lost, failed.last_lost) = (failed.lost + u32::from(lost), lost);
            }
            JournalEvent::Group { task, state, .. } => {
                self.groups.insert(task, state);
            }
            JournalEvent::Outputs { .. } => {}
            JournalEvent::Rerun { of, fresh } => {
                self.fresh.clone_from(&fresh);
                self.to_keep = Some((of, fresh));
            }
            JournalEvent::Kept => self.to_keep = None,
            JournalEvent::NoCache => self.no_cache = true,
            JournalEvent::Asked { task, at, .. } => {
                self.asked.insert(task, at);
            }
            JournalEvent::CancelAsked { reason } => {
                self.canceled.get_or_insert(reason);
                self.cancels += 1;
            }
        }
    }

    /// Finds out what had begun when the run was cancelled, as far as it was written down.
    pub(super) fn find_begun(&mut self) {
        if self.cancels == 0 {
            return;
        }
        let paths = self.ended.keys().chain(self.attempts.keys()).chain(self.groups.keys());
        for path in paths {
            let mut path: &str = path;
            while let Some((around, iterations)) = around(path) {
                let begun = self.begun.entry(around.into()).or_insert(0);
                *begun = iterations.max(*begun);
                path = around;
            }
        }
    }

    /// Whether a task of a cancelled run had begun, or had ended by itself, before a restart.
    pub(super) fn reached(&self, path: &str) -> bool {
        self.ended.contains_key(path)
            || self.begun.contains_key(path)
            || self.groups.get(path).is_some_and(|state| *state != TaskState::Canceled)
    }

    /// The tasks that have succeeded.
    pub(crate) fn succeeded(&self) -> impl Iterator<Item = &str> {
        let ended = self.ended.iter().filter(|(_, end)| end.state == TaskState::Succeeded);
        ended.map(|(task, _)| task.as_ref())
    }

    /// The run that it does again and the chosen tasks, where what it keeps is not all written.
    pub(crate) fn to_keep(&self) -> Option<(RunId, Vec<Arc<str>>)> {
        self.to_keep.clone()
    }

    /// Whether this task's end is written.
    pub(crate) fn has_ended(&self, path: &str) -> bool {
        self.ended.contains_key(path)
    }

    /// Whether no earlier execution may stand for this task.
    pub(super) fn is_fresh(&self, path: &str) -> bool {
        self.fresh.iter().any(|fresh| rerun::lies_in(path, fresh))
    }

    pub(super) fn begun_iterations(&self, path: &str) -> usize {
        self.begun.get(path).copied().unwrap_or(0)
    }
}

/// What a path lies in; where that is a loop, how many iterations this one makes at least.
fn around(path: &str) -> Option<(&str, usize)> {
    if let Some(inside) = path.strip_suffix(']') {
        let (task, iteration) = inside.rsplit_once('[')?;
        return Some((task, iteration.parse::<usize>().ok()? + 1));
    }
    path.rsplit_once('/').map(|(frame, _)| (frame, 0))
}
