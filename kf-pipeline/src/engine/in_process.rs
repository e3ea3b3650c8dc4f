//! Carries attempts on the engine's own runtime: `async fn`s as tasks, `fn`s on threads where they may block.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kf_core::CancellationToken;
use kf_core::process::{LogFeed, LogStream};
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tracing::{Instrument, Span};

use super::body::{end_of, panic_message, task_io};
use super::executor::{
    Attempt, AttemptEnd, AttemptHandle, AttemptStatus, Executor, ExecutorError, Submission, Work,
};
use super::local::{Running, gone};
use super::task_log::TaskLog;
use crate::component::{Body, LogSink, TaskError, TaskOutputs};
use crate::mutex::locked;

/// The executor that is used where a task asks for none.
#[derive(Debug, Default)]
pub(crate) struct InProcess {
    running: Arc<Running<Carried>>,
}

/// An attempt under way.
#[derive(Debug)]
struct Carried {
    cancel: CancellationToken,
    abort: AbortHandle,
    log: Arc<TaskLog>,
}

/// A body under way. Dropped, it ends where it waits next; one that blocks runs on, its result ignored.
struct Under {
    handle: AttemptHandle,
    running: Arc<Running<Carried>>,
    log: Arc<TaskLog>,
    joined: JoinHandle<BodyResult>,
}

impl Drop for Under {
    fn drop(&mut self) {
        locked(&self.running).remove(&self.handle);
        self.joined.abort();
        self.log.end();
    }
}

#[async_trait]
impl Executor for InProcess {
    fn outlives_engine(&self) -> bool {
        false
    }

    fn accepts(&self, work: &Work) -> Result<(), String> {
        match work {
            Work::Component(_) => Ok(()),
            Work::Container(_) => Err("is a container, which does not run in process".to_owned()),
        }
    }

    async fn submit(&self, attempt: Arc<Attempt>) -> Result<Submission, ExecutorError> {
        let Work::Component(component) = &attempt.work else {
            return Err(ExecutorError::Start("a container does not run in process".to_owned()));
        };
        let handle = attempt.handle();
        let log = Arc::new(TaskLog::new(attempt.dir.clone()));
        let (io, outputs) = task_io(&attempt, LogSink(log.clone()));
        // The body holds on to the attempt, and so to its resources, until it has returned.
        let holds = Arc::clone(&attempt);
        let span = Span::current();
        let joined = match component.body {
            Body::Async(body) => {
                let carries = async move {
                    let result = body(io).await;
                    drop(holds);
                    result
                };
                tokio::spawn(carries.instrument(span))
            }
            Body::Blocking(body) => tokio::task::spawn_blocking(move || {
                let result = span.in_scope(|| body(io));
                drop(holds);
                result
            }),
        };
        let carried =
            Carried { cancel: attempt.cancel.clone(), abort: joined.abort_handle(), log: Arc::clone(&log) };
        locked(&self.running).insert(handle.clone(), carried);
        let mut under = Under { handle: handle.clone(), running: Arc::clone(&self.running), log, joined };
        let end = async move { AttemptStatus::Ended(end_of(flatten((&mut under.joined).await), outputs)) };
        Ok(Submission { handle, status: stream::once(end).boxed() })
    }

    async fn attach(&self, handle: &AttemptHandle) -> Result<Submission, ExecutorError> {
        Err(ExecutorError::Gone(handle.clone()))
    }

    async fn cancel(&self, handle: &AttemptHandle, grace: Duration) {
        let Some(cancel) = locked(&self.running).get(handle).map(|carried| carried.cancel.clone()) else {
            return;
        };
        cancel.cancel();
        gone(&self.running, handle, grace).await;
        // Ends an async body where it waits next. A blocking one can't be ended: it runs on, its result ignored.
        if let Some(carried) = locked(&self.running).remove(handle) {
            carried.abort.abort();
        }
    }

    async fn logs(&self, handle: &AttemptHandle) -> Result<Option<LogStream>, ExecutorError> {
        let running = locked(&self.running);
        let feed = running.get(handle).and_then(|carried| carried.log.feed());
        Ok(feed.as_ref().map(LogFeed::follow))
    }
}

type BodyResult = Result<TaskOutputs, TaskError>;

/// What a body's task gave; an error is how it ended otherwise.
fn flatten(result: Result<BodyResult, JoinError>) -> Result<TaskOutputs, AttemptEnd> {
    match result {
        Ok(Ok(outputs)) => Ok(outputs),
        Ok(Err(error)) => {
            Err(AttemptEnd::Failed { message: error.to_string(), permanent: error.is_permanent() })
        }
        Err(error) if error.is_panic() => {
            let message = panic_message(error.into_panic().as_ref());
            Err(AttemptEnd::Failed { message, permanent: false })
        }
        Err(_) => Err(AttemptEnd::Canceled),
    }
}
