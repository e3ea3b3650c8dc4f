//! Carries each attempt in a process of its own: a copy of this program, which `kf_core::worker` sends to the
//! component. What a body leaks, corrupts or crashes ends with its process, and a deadline can end it by force.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kf_core::artifact::{ArtifactRef, Metadata};
use kf_core::process::{Child, Command, Exit, Log, LogFeed, LogStream, Spawner, Usage};
use kf_core::telemetry::TraceContext;
use kf_core::worker::{Entry, Request, WorkerError};
use kf_core::{CancellationToken, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::panic_message;
use super::contract;
use super::executor::{
    Attempt, AttemptEnd, AttemptHandle, AttemptOutputs, AttemptStatus, Executor, ExecutorError, Submission,
    Work,
};
use super::local::{Running, last_lines};
use super::logs::LOG;
use crate::component::checkpoint::{Checkpoints, Place};
use crate::component::{
    Body, Components, Context, InputArtifact, LogLines, LogSink, OutputArtifact, ProgressSink,
    StandardOutput, TaskError, TaskIo, TaskIoParts, TaskOutputs,
};
use crate::mutex::locked;

/// The worker entry that runs a component.
const ENTRY: &str = "kf-task";
/// How many of the last lines go into an error.
const TAIL_LINES: usize = 10;

pub(crate) struct Subprocess {
    spawner: Spawner,
    room: Arc<Semaphore>,
    running: Arc<Running<Arc<Child>>>,
}

/// A process under way. Dropped, it is killed.
struct Under {
    handle: AttemptHandle,
    running: Arc<Running<Arc<Child>>>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Under {
    fn drop(&mut self) {
        locked(&self.running).remove(&self.handle);
    }
}

impl std::fmt::Debug for Subprocess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subprocess")
    }
}

impl Subprocess {
    /// Runs at most `at_once` processes.
    pub(crate) fn new(at_once: usize) -> kf_core::Result<Self> {
        let spawner = Spawner::new().map_err(|error| kf_core::Error::Process(error.to_string()))?;
        Ok(Self { spawner, room: Arc::new(Semaphore::new(at_once.max(1))), running: Arc::default() })
    }
}

/// What a worker is asked to do.
#[derive(Serialize, Deserialize)]
pub(super) struct TaskRequest {
    pub(super) component: String,
    pub(super) run: RunId,
    pub(super) task: Arc<str>,
    pub(super) attempt: u32,
    pub(super) dir: PathBuf,
    pub(super) parameters: Vec<(Arc<str>, Json)>,
    pub(super) artifacts: BTreeMap<String, Vec<(ArtifactRef, Option<PathBuf>)>>,
    pub(super) outputs: BTreeMap<String, PathBuf>,
    pub(super) checkpoint: Place,
}

/// What a worker answers.
#[derive(Serialize, Deserialize)]
struct Answer {
    reply: TaskReply,
    used: Usage,
}

/// How its component ended.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TaskReply {
    Succeeded { parameters: Metadata, artifacts: BTreeMap<String, Metadata> },
    Failed { message: String, permanent: bool },
}

#[async_trait]
impl Executor for Subprocess {
    fn outlives_engine(&self) -> bool {
        false
    }

    fn accepts(&self, work: &Work) -> Result<(), String> {
        match work {
            Work::Component(_) => Ok(()),
            Work::Container(_) => Err("is a container, which this executor does not run".to_owned()),
        }
    }

    async fn submit(&self, attempt: Arc<Attempt>) -> Result<Submission, ExecutorError> {
        let Work::Component(component) = &attempt.work else {
            return Err(ExecutorError::Start("a container does not run as a worker".to_owned()));
        };
        let start = |error: String| ExecutorError::Start(error);
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|error| start(error.to_string()))?;
        let log = attempt.dir.join(LOG);
        let request = TaskRequest {
            component: component.name.to_owned(),
            run: attempt.run.clone(),
            task: Arc::clone(&attempt.task),
            attempt: attempt.number,
            dir: attempt.dir.clone(),
            parameters: attempt
                .parameters
                .iter()
                .map(|(name, value)| (Arc::clone(name), (**value).clone()))
                .collect(),
            artifacts: attempt.artifacts.clone(),
            outputs: attempt.outputs.clone(),
            checkpoint: attempt.checkpoint.place(),
        };
        let mut command = Command::entry(ENTRY, &request).map_err(|error| start(error.to_string()))?;
        if attempt.trace.is_none() {
            command = command.ahead();
        }
        for (name, value) in attempt.trace.iter().flat_map(TraceContext::env) {
            command = match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = self
            .spawner
            .spawn(command.log(Log::to(&log).on_demand()))
            .await
            .map_err(|error| start(error.to_string()))?;
        let child = Arc::new(child);
        let handle = attempt.handle();
        locked(&self.running).insert(handle.clone(), Arc::clone(&child));
        let under = Under { handle: handle.clone(), running: Arc::clone(&self.running), _room: room };
        let end = async move {
            let exit = child.wait().await;
            drop(under);
            let (end, used) = end_of(exit, &child, &log, &attempt.cancel);
            [AttemptStatus::Used(used), AttemptStatus::Ended(end)]
        };
        Ok(Submission { handle, status: stream::once(end).flat_map(stream::iter).boxed() })
    }

    async fn attach(&self, handle: &AttemptHandle) -> Result<Submission, ExecutorError> {
        Err(ExecutorError::Gone(handle.clone()))
    }

    async fn cancel(&self, handle: &AttemptHandle, grace: Duration) {
        let child = locked(&self.running).get(handle).map(Arc::clone);
        if let Some(child) = child {
            child.terminate(grace).await;
        }
    }

    async fn logs(&self, handle: &AttemptHandle) -> Result<Option<LogStream>, ExecutorError> {
        Ok(locked(&self.running).get(handle).and_then(|child| child.log()).map(LogFeed::follow))
    }
}

/// How an attempt ended, and what it used: of the processor as its end tells, of the rest as it says itself.
fn end_of(exit: Exit, child: &Child, log: &Path, cancel: &CancellationToken) -> (AttemptEnd, Usage) {
    let answer = match child.answer() {
        Ok(answer) => answer,
        Err(error) => {
            let message = format!("its answer can't be read: {error}");
            return (AttemptEnd::Failed { message, permanent: false }, child.usage());
        }
    };
    // One that was killed while it answered has not answered.
    let answer = serde_json::from_slice::<Answer>(&answer).ok();
    let used = answer.as_ref().map(|answer| answer.used).unwrap_or_default();
    let end = match answer.map(|answer| answer.reply) {
        Some(TaskReply::Succeeded { parameters, artifacts }) if exit.success() => {
            let artifacts = artifacts.into_iter().map(|(name, said)| (name, vec![said.into()]));
            AttemptEnd::Succeeded(AttemptOutputs { parameters, artifacts: artifacts.collect() })
        }
        Some(TaskReply::Failed { message, permanent }) => AttemptEnd::Failed { message, permanent },
        _ if cancel.is_cancelled() => AttemptEnd::Canceled,
        _ => {
            let by_itself = match exit {
                Exit::Code(_) => " (by `exit` in its body, or in `main` before `run_if_asked`)",
                _ => "",
            };
            let message = format!(
                "its process ended without an answer: {exit}{by_itself}{}",
                last_lines(&child.tail(TAIL_LINES), log)
            );
            AttemptEnd::Failed { message, permanent: false }
        }
    };
    (end, child.usage().or(used))
}

/// Lets copies of this program run the components: `Workers::new().with(components)`.
impl Entry for Components {
    fn name(&self) -> &str {
        ENTRY
    }

    fn run(&self, request: Request) -> Result<(), WorkerError> {
        let asked: TaskRequest = request.parse()?;
        let reply = match catch_unwind(AssertUnwindSafe(|| self.run_component(asked))) {
            Ok(Ok((TaskOutputs(parameters), artifacts))) => TaskReply::Succeeded { parameters, artifacts },
            Ok(Err(error)) => {
                TaskReply::Failed { message: error.to_string(), permanent: error.is_permanent() }
            }
            Err(panic) => TaskReply::Failed { message: panic_message(panic.as_ref()), permanent: false },
        };
        request.answer(&Answer { reply, used: Usage::of_this_process() })
    }

    fn run_container(&self, function: &str, executor_input: &str) -> Option<Result<(), WorkerError>> {
        let definition = self.get(function)?;
        Some(contract::run(self, definition, executor_input).map_err(WorkerError::failed))
    }
}

impl Components {
    pub(super) fn run_component(
        &self,
        request: TaskRequest,
    ) -> Result<(TaskOutputs, BTreeMap<String, Metadata>), TaskError> {
        let component = self.get(&request.component).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            TaskError::permanent(format!(
                "this program's workers have no component `{}`, only: {}; add it to the list that is given to \
                 `run_if_asked`",
                request.component,
                known.join(", ")
            ))
        })?;
        let mut said = BTreeMap::new();
        let outputs = request.outputs.into_iter().map(|(name, path)| {
            let output = OutputArtifact::at(path);
            said.insert(name.clone(), Arc::clone(&output.metadata));
            (name, output)
        });
        let artifacts = request.artifacts.into_iter().map(|(name, list)| {
            (name, list.into_iter().map(|(artifact, path)| InputArtifact { artifact, path }).collect())
        });
        let io = TaskIo(TaskIoParts {
            parameters: request.parameters.into_iter().map(|(name, value)| (name, Arc::new(value))).collect(),
            artifacts: artifacts.collect(),
            outputs: outputs.collect(),
            context: Context {
                run: request.run,
                task: request.task,
                attempt: request.attempt,
                dir: request.dir,
                cancel: CancellationToken::new(),
                progress: ProgressSink(Arc::new(|progress| StandardOutput.line(&progress.message))),
                log: LogSink(Arc::new(StandardOutput)),
                report: None,
                checkpoints: Checkpoints::new(request.checkpoint),
            },
            state: Arc::new(self.state.clone()),
            memory: None,
        });
        let outputs = match component.body {
            Body::Blocking(body) => body(io)?,
            Body::Async(body) => {
                // With threads, though they take longer to start than a short body takes: it may block in place, and
                // spawn tasks to run beside one another, as it may in the engine's own process.
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                let outputs = catch_unwind(AssertUnwindSafe(|| runtime.block_on(body(io))));
                // As in the engine's own process, what the body has left to run is not waited for.
                runtime.shutdown_background();
                outputs.unwrap_or_else(|panic| resume_unwind(panic))?
            }
        };
        let said = said.into_iter().map(|(name, metadata)| (name, locked(&metadata).clone()));
        Ok((outputs, said.collect()))
    }
}
