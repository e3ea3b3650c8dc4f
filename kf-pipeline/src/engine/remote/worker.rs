//! The worker entry that runs an attempt where it was carried.

use std::future::Future;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kf_core::artifact::ArtifactStore;
use kf_core::process::Usage;
use kf_core::worker::{Entry, Request, WorkerError};
use tokio::signal::unix::{SignalKind, signal};

use super::attempt::{RemoteAttempt, contents};
use super::reply::{Answer, Reply};
use super::{ENTRY, FOLDER, REPLY, command};
use crate::component::checkpoint::Open;
use crate::component::{Body, Components, LogSink, Memory, StandardOutput};
use crate::engine::body::{end_of, panic_message, task_io};
use crate::engine::keep::{Keeping, Strictness, keep};
use crate::engine::{Attempt, AttemptEnd, Work};

/// How long a reply may be; Kubernetes cuts the messages of ended containers off at 4 KiB.
const MOST_REPLY: usize = 4000;

/// Lets copies of this program run attempts of these components, and of containers, away from the engine:
/// `Workers::new().with(RemoteTasks::new(components, store))`.
#[derive(Clone)]
pub struct RemoteTasks {
    components: Components,
    store: Arc<Open>,
}

impl std::fmt::Debug for RemoteTasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RemoteTasks").field(&self.components.names().collect::<Vec<_>>()).finish()
    }
}

impl RemoteTasks {
    /// Of these components. `store` opens the engine's artifact store from where the attempt runs.
    pub fn new(
        components: Components,
        store: impl Fn() -> kf_core::Result<ArtifactStore> + Send + Sync + 'static,
    ) -> Self {
        Self { components, store: Arc::new(store) }
    }
}

impl Entry for RemoteTasks {
    fn name(&self) -> &str {
        ENTRY
    }

    fn run(&self, request: Request) -> Result<(), WorkerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(WorkerError::failed)?;
        let ran = runtime.block_on(self.answer(&request));
        // What a body has left to run is not waited for.
        runtime.shutdown_background();
        ran
    }
}

impl RemoteTasks {
    /// Runs the attempt, and replies.
    async fn answer(&self, request: &Request) -> Result<(), WorkerError> {
        // The first process of a container hears of no signal that it does not ask for.
        let mut terminate = signal(SignalKind::terminate()).map_err(WorkerError::failed)?;
        let store = match (self.store)() {
            Ok(store) => store,
            Err(error) => {
                let message = format!("the artifact store can't be opened where the task is to run: {error}");
                let answer = Answer { reply: Reply::Lost { message }, usage: Usage::default() };
                return tell(&answer.reply, answer.whole().map_err(WorkerError::failed)?);
            }
        };
        let temporary;
        let folder = match std::env::var_os(FOLDER) {
            Some(folder) => PathBuf::from(folder),
            None => {
                temporary = tempfile::tempdir().map_err(WorkerError::failed)?;
                temporary.path().to_owned()
            }
        };
        let (reply, usage) = match self.attempt(request.json(), &folder, &store).await {
            Err(reply) => (reply, Usage::default()),
            Ok(attempt) => {
                let terminated = async {
                    terminate.recv().await;
                };
                let (reply, wall) = self.reply(&attempt, &store, terminated).await;
                let mut usage = Usage::of_this_process();
                usage.wall = Some(wall);
                if let Work::Container(_) = attempt.work {
                    // The command's own memory is not known, and this process's is not the task's.
                    usage.peak_memory = None;
                }
                (reply, usage)
            }
        };
        let answer = Answer { reply, usage };
        let text = answer.pack(MOST_REPLY, &store).await.map_err(WorkerError::failed)?;
        tell(&answer.reply, text)
    }

    /// What is to be run, ready to be; or what is replied where there is nothing.
    async fn attempt(
        &self,
        request: &str,
        folder: &Path,
        store: &ArtifactStore,
    ) -> Result<Arc<Attempt>, Reply> {
        let attempt = RemoteAttempt::parse(request, store).await;
        let attempt = attempt.map_err(|problem| {
            let message = format!("what it is asked for can't be read: {problem}");
            Reply::Lost { message }
        })?;
        Ok(Arc::new(attempt.at(folder, &self.components, store, &self.store).await?))
    }

    /// Runs the attempt; tells how long that took, too.
    async fn reply(
        &self,
        attempt: &Arc<Attempt>,
        store: &ArtifactStore,
        terminated: impl Future<Output = ()>,
    ) -> (Reply, Duration) {
        let began = Instant::now();
        let running = async {
            match &attempt.work {
                Work::Component(component) => run_body(attempt, component.body).await,
                Work::Container(task) => command::run(attempt, task).await,
            }
        };
        let mut running = std::pin::pin!(running);
        let end = tokio::select! {
            end = running.as_mut() => end,
            () = terminated => {
                attempt.cancel.cancel();
                match &attempt.work {
                    // One that does not listen would hold on to its place for as long as it is let.
                    Work::Component(_) => AttemptEnd::Canceled,
                    Work::Container(_) => running.await,
                }
            }
        };
        let wall = began.elapsed();
        let given = match end {
            AttemptEnd::Succeeded(given) => given,
            AttemptEnd::Failed { message, permanent } => return (Reply::Failed { message, permanent }, wall),
            AttemptEnd::Lost { message } => return (Reply::Lost { message }, wall),
            AttemptEnd::Canceled => return (Reply::Canceled {}, wall),
        };
        let inputs = contents(attempt);
        let keeping = Keeping {
            store,
            paths: &attempt.outputs,
            inputs: &inputs,
            strictness: match &attempt.work {
                Work::Component(_) => Strictness::All,
                Work::Container(_) => Strictness::Any,
            },
            memory: &Memory::new(0),
        };
        let reply = match keep(&keeping, &attempt.declared, given).await {
            Ok(kept) => Reply::of(&kept),
            Err(failure) => failure.into(),
        };
        (reply, wall)
    }
}

/// Replies, and ends as the attempt did.
fn tell(reply: &Reply, text: String) -> Result<(), WorkerError> {
    match std::env::var_os(REPLY) {
        Some(file) => std::fs::write(file, text),
        None => writeln!(std::io::stdout(), "{text}"),
    }
    .map_err(WorkerError::failed)?;
    match reply {
        Reply::Succeeded { .. } => Ok(()),
        Reply::Failed { message, .. } | Reply::Lost { message } => Err(WorkerError::failed(message.as_str())),
        Reply::Canceled {} => Err(WorkerError::failed("it was asked to end")),
    }
}

/// Runs a component's body.
async fn run_body(attempt: &Arc<Attempt>, body: Body) -> AttemptEnd {
    let (io, outputs) = task_io(attempt, LogSink(Arc::new(StandardOutput)));
    let ran = match body {
        Body::Async(body) => AssertUnwindSafe(body(io)).catch_unwind().await,
        Body::Blocking(body) => match tokio::task::spawn_blocking(move || body(io)).await {
            Ok(ran) => Ok(ran),
            Err(error) => Err(error.try_into_panic().unwrap_or_else(|error| Box::new(error.to_string()))),
        },
    };
    let ended = match ran {
        Ok(Ok(outputs)) => Ok(outputs),
        Ok(Err(error)) => {
            Err(AttemptEnd::Failed { message: error.to_string(), permanent: error.is_permanent() })
        }
        Err(panic) => Err(AttemptEnd::Failed { message: panic_message(panic.as_ref()), permanent: false }),
    };
    end_of(ended, outputs)
}
