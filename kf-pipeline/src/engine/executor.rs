//! The [`Executor`] trait: what carries one attempt of one task.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kf_core::artifact::{ArtifactRef, Metadata, Stored};
use kf_core::process::{LogStream, Usage};
use kf_core::resources::Resources;
use kf_core::telemetry::TraceContext;
use kf_core::{CancellationToken, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::admission::Permit;
use super::locks::Held;
use crate::component::{ComponentDef, Memory, Progress, Written};
use crate::placeholder::RunNames;
use crate::plan::ContainerTask;
use crate::spec::OutputDefinitions;

/// Carries attempts. The engine has one in process and one that starts subprocesses; a program adds its own with
/// [`EngineBuilder::executor`](crate::EngineBuilder::executor).
#[async_trait]
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// Whether attempts go on when the engine's process ends, so that a restarted engine can
    /// [`attach`](Self::attach) to them.
    fn outlives_engine(&self) -> bool;

    /// Whether it can carry a task with this work; the reason where it can't. Asked before a run starts.
    ///
    /// # Errors
    /// Says what is missing.
    fn accepts(&self, work: &Work) -> Result<(), String>;

    /// Whether attempts run on this machine: they share its resources, take files of it and leave theirs on it. Where not,
    /// inputs are not fetched before an attempt is submitted, what it gives is [stored](GivenArtifact::stored) by whoever
    /// ran it, and its resources are nothing of the engine's.
    fn on_this_machine(&self) -> bool {
        true
    }

    /// Starts an attempt, within its span. Where attempts outlive the engine, submitting the same one twice must start it once; the engine
    /// itself never submits an attempt twice in its life.
    ///
    /// # Errors
    /// Where it can't be started; the attempt counts as failed.
    async fn submit(&self, attempt: Arc<Attempt>) -> Result<Submission, ExecutorError>;

    /// Finds an attempt again that this or another process has submitted.
    ///
    /// # Errors
    /// [`ExecutorError::Gone`] where it ended with the engine that submitted it.
    async fn attach(&self, handle: &AttemptHandle) -> Result<Submission, ExecutorError>;

    /// The attempt's end is committed: whatever was kept to tell it again may go.
    async fn release(&self, handle: &AttemptHandle) {
        let _ = handle;
    }

    /// A run is over, or was [abandoned](crate::Engine::abandon): nothing of it is to stay, attempts that still run
    /// among it.
    ///
    /// # Errors
    /// Where that can't be said or done.
    async fn end_run(&self, run: &RunId) -> Result<(), ExecutorError> {
        let _ = run;
        Ok(())
    }

    /// Asks the attempt to end, and ends it by force after `grace`. Its status stream then ends with
    /// [`AttemptStatus::Ended`].
    async fn cancel(&self, handle: &AttemptHandle, grace: Duration);

    /// What the attempt prints: what was kept so far, then what comes, until its end. None where this executor keeps no
    /// log of it, or none any more: what it left in the attempt's folder as `log.txt` is read then.
    ///
    /// # Errors
    /// [`ExecutorError::Log`] where there is a log and it can't be read.
    async fn logs(&self, handle: &AttemptHandle) -> Result<Option<LogStream>, ExecutorError>;
}

/// What a task runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Work {
    /// A component of this program.
    Component(Arc<ComponentDef>),
    /// A command in an image.
    Container(Arc<ContainerTask>),
}

/// One attempt of one task: what an executor needs to know.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The run.
    pub run: RunId,
    /// The task's path in the run.
    pub task: Arc<str>,
    /// The attempt's number, from 1.
    pub number: u32,
    /// What to run.
    pub work: Work,
    /// Input parameters.
    pub parameters: Vec<(Arc<str>, Arc<Json>)>,
    /// Input artifacts, each with the local path of its verified content where it has any.
    pub artifacts: BTreeMap<String, Vec<(ArtifactRef, Option<PathBuf>)>>,
    /// Output artifacts: where each is to be written. The folder exists.
    pub outputs: BTreeMap<String, PathBuf>,
    /// What the task needs.
    pub resources: Resources,
    /// How long it may take; the engine sees to that, and whoever outlives it should too.
    pub timeout: Option<Duration>,
    /// The attempt's own folder; made by whoever needs it.
    pub dir: PathBuf,
    /// Fires when the attempt should end.
    pub cancel: CancellationToken,
    /// The place of the attempt's span in a trace, or what the run was given: for the environment of processes.
    pub trace: Option<TraceContext>,
    /// What its component declares to give.
    pub(crate) declared: Arc<OutputDefinitions>,
    /// What placeholders say of the run.
    pub(crate) names: Arc<RunNames>,
    /// The name of the folder in its own for what is of no use once it has ended.
    pub(crate) scratch: Arc<str>,
    /// Takes the task's progress.
    pub(crate) progress: crate::component::ProgressSink,
    pub(crate) state: Arc<crate::component::StateMap>,
    pub(crate) report: Option<crate::report::ReportSource>,
    /// What other tasks gave that is in memory here.
    pub(crate) memory: Option<Memory>,
    /// Where the task saves what its next attempt is to know.
    pub(crate) checkpoint: crate::component::checkpoint::Origin,
    /// Mutexes and resources; given back when the last who may use them lets go of the attempt.
    pub(crate) _permit: (Held, Option<Permit>),
}

impl Attempt {
    /// The attempt's handle: the same for the same run, task and number.
    pub fn handle(&self) -> AttemptHandle {
        AttemptHandle(format!("{}/{}#{}", self.run, self.task, self.number))
    }

    /// A folder for what is of no use once the attempt has ended; made by whoever needs it.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.join(&*self.scratch)
    }

    /// Tells how far the task is.
    pub fn progress(&self, progress: Progress) {
        (self.progress.0)(progress);
    }
}

/// Names an attempt, in a journal too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptHandle(pub String);

/// An attempt that was started.
pub struct Submission {
    /// Its handle.
    pub handle: AttemptHandle,
    /// What becomes of it; the last item is [`AttemptStatus::Ended`].
    pub status: BoxStream<'static, AttemptStatus>,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// What becomes of an attempt.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttemptStatus {
    /// It waits for something.
    Pending {
        /// For what.
        reason: String,
    },
    /// It runs.
    Running,
    /// Something is wrong with it while it runs, which may pass.
    Warned {
        /// What.
        message: String,
    },
    /// What it has used, told before its end. How long it ran is taken from its states where this does not say.
    Used(Usage),
    /// It has ended.
    Ended(AttemptEnd),
}

/// How an attempt ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// Well.
    Succeeded(AttemptOutputs),
    /// The task failed.
    Failed {
        /// Why.
        message: String,
        /// Whether a further attempt is of no use.
        permanent: bool,
    },
    /// What carried it is gone, by no fault of the task, such as the machine that it ran on. Such attempts have a
    /// [budget of their own](crate::EngineBuilder::max_lost).
    Lost {
        /// What happened.
        message: String,
    },
    /// It was ended from outside.
    Canceled,
}

/// What an attempt gave.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct AttemptOutputs {
    /// Output parameters.
    pub parameters: Metadata,
    /// What was said about output artifacts, by name. Of one about which nothing was said, the content lies where
    /// [`Attempt::outputs`] says.
    pub artifacts: BTreeMap<String, Vec<GivenArtifact>>,
}

/// What was said about an output artifact.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GivenArtifact {
    /// Its metadata.
    pub metadata: Metadata,
    /// Where its content lies, where not at the place that it was given.
    pub path: Option<PathBuf>,
    /// Where it lies outside of this machine; it is named then, not read.
    pub uri: Option<String>,
    /// What it is in the engine's artifact store, where whoever ran the attempt has put it there; nothing is read then.
    pub stored: Option<Stored>,
    /// The file as the body wrote it, and its content as a value.
    pub(crate) written: Option<Written>,
}

impl From<Metadata> for GivenArtifact {
    fn from(metadata: Metadata) -> Self {
        Self { metadata, ..Self::default() }
    }
}

/// Why an attempt could not be carried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// It ended with the engine that submitted it.
    #[error("attempt `{}` ended with the engine that started it", .0.0)]
    Gone(AttemptHandle),
    /// It could not be started.
    #[error("can't start the attempt: {0}")]
    Start(String),
    /// What was left of it can't be removed.
    #[error("can't remove what is left of the attempts: {0}")]
    Remove(String),
    /// Its log can't be read.
    #[error("can't read the attempt's log: {0}")]
    Log(String),
}
