//! One task of a report.

use kf_core::artifact::{ArtifactRef, Metadata};
use kf_core::metadata::Io;
use kf_core::process::Usage;
use kf_core::{RunId, Timestamp};

use super::LogTail;
use crate::TaskState;
use crate::component::{Param, TaskError};
use crate::engine::{AttemptEvent, Noted};

/// A task that has ended.
#[derive(Clone, Debug)]
pub struct TaskReport {
    /// Its path in the run.
    pub path: String,
    /// Its component; empty for loops, branches and tasks that did not run.
    pub component: String,
    /// How it ended.
    pub state: TaskState,
    /// How many attempts it took; 0 where it did not run.
    pub attempts: u32,
    /// When its first attempt started; none where it did not run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// Attempts that failed before its last.
    pub failed_attempts: Vec<FailedAttempt>,
    /// What its last attempt used, as far as that is known: see [`FailedAttempt::usage`].
    pub usage: Usage,
    /// What its last attempt waited for and was warned of: see [`FailedAttempt::events`].
    pub events: Vec<AttemptEvent>,
    /// Where its outputs come from, of a cached task, as far as that is known.
    pub cached_from: Option<CachedFrom>,
    /// The end of its last attempt's log, where it left one.
    pub log: Option<LogTail>,
    /// Input parameters.
    pub inputs: Metadata,
    /// Output parameters.
    pub outputs: Metadata,
    /// Input artifacts.
    pub input_artifacts: Vec<Io>,
    /// Output artifacts.
    pub output_artifacts: Vec<Io>,
}

/// The execution whose outputs a cached task has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedFrom {
    /// Its run.
    pub run: RunId,
    /// Its path in that run.
    pub task: String,
}

/// An attempt that failed and was followed by another.
#[derive(Clone, Debug)]
pub struct FailedAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it failed.
    pub error: String,
    /// What it used, as far as that is known. Of a task in the engine's own process, how long it ran; in a process of its
    /// own, the processor time too, and its memory where it came to its end by itself and was no command. A task as a pod is
    /// as one in a process of its own.
    pub usage: Usage,
    /// What it waited for and was warned of, in the order of when that was told first: the last 20 that differ.
    pub events: Vec<AttemptEvent>,
}

impl Noted {
    /// As a report has it.
    pub(super) fn parts(noted: Option<Box<Self>>) -> (Usage, Vec<AttemptEvent>) {
        noted.map(|noted| (noted.usage, noted.events.into())).unwrap_or_default()
    }
}

impl TaskReport {
    /// An output artifact; the first where it is a list.
    pub fn output_artifact(&self, name: &str) -> Option<&ArtifactRef> {
        self.output_artifacts.iter().find(|io| io.port == name).map(|io| &io.artifact)
    }

    /// An output parameter.
    ///
    /// # Errors
    /// Where the task gave none of this name, or one of another type.
    pub fn output<T: Param>(&self, name: &str) -> Result<T, TaskError> {
        let value = self.outputs.get(name);
        let value =
            value.ok_or_else(|| TaskError::new(format!("task `{}` gave no output `{name}`", self.path)))?;
        T::from_json(value)
            .map_err(|error| TaskError::new(format!("task `{}`, output `{name}`: {error}", self.path)))
    }
}
