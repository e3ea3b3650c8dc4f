//! The one thread that starts children.

use std::fs::File;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::child::{self, Child};
use super::copy::{Ahead, Form, Started};
use super::guard::{Guard, Guards};
use super::log::LogWriter;
use super::output::Output;
use super::{Command, Log, SpawnError};
use crate::worker::{self, Exchange};

/// How long a copy that was started ahead waits for a request.
const AHEAD: Duration = Duration::from_secs(10);

/// Starts children, which end when it is dropped.
///
/// The kernel sends a parent-death signal when the *thread* that started the child ends. A thread of a runtime's
/// pool comes and goes; so all children are started by one thread, which lives exactly as long as the `Spawner`.
#[derive(Debug)]
pub struct Spawner {
    jobs: mpsc::Sender<Job>,
    ahead: Arc<Ahead>,
    guard: Arc<OnceLock<Guard>>,
    ends: CancellationToken,
    _ends_children: DropGuard,
}

struct Job {
    form: Form,
    runtime: Handle,
    /// What to start now.
    now: Option<(File, oneshot::Sender<io::Result<Started>>)>,
    /// Whether another one is to wait for the next request.
    ahead: bool,
}

/// What the thread does.
struct Starter {
    ahead: Arc<Ahead>,
    guard: Arc<OnceLock<Guard>>,
    guards_process: Option<std::process::Child>,
}

impl Starter {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            match jobs.recv_timeout(AHEAD) {
                Ok(job) => self.start(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.ahead.clear(AHEAD);
        }
        self.ahead.clear(Duration::ZERO);
        drop((self.ahead, self.guard));
        if let Some(mut process) = self.guards_process {
            // It ends when the last child's handle is gone, too.
            let _ = process.wait();
        }
    }

    fn start(&mut self, job: Job) {
        let guard = self.guard();
        let _inside = job.runtime.enter();
        if let Some((request, reply)) = job.now {
            if reply.is_closed() {
                return;
            }
            // One may have been started since it was looked for.
            let taken = job.ahead.then(|| self.ahead.take(&job.form, &job.runtime, &request)).flatten();
            let started = taken.map_or_else(|| job.form.start(request, guard.clone()), Ok);
            // A reply that nobody waits for any more drops what was started, which ends it.
            let _ = reply.send(started);
        }
        if job.ahead
            && let Err(error) = self.ahead.fill(job.form, &job.runtime, guard)
        {
            tracing::debug!(%error, "no copy is started ahead");
        }
    }

    /// The guard, which is started when it is asked for first.
    fn guard(&mut self) -> Option<Guard> {
        if let (Some(guard), Some(process)) = (self.guard.get(), &mut self.guards_process)
            && matches!(process.try_wait(), Ok(Some(_)))
        {
            match guard.renew() {
                Ok(started) => *process = started,
                Err(error) => tracing::warn!(%error, "the guard process has ended, and there is no other"),
            }
        }
        if self.guards_process.is_none() {
            // Without one, only what is started itself ends with this process.
            match Guard::start() {
                Ok((guard, process)) => {
                    drop(self.guard.set(guard));
                    self.guards_process = Some(process);
                }
                Err(error) => tracing::warn!(%error, "no guard process for what children start"),
            }
        }
        self.guard.get().cloned()
    }
}

impl Spawner {
    /// A spawner with its thread.
    ///
    /// # Errors
    /// [`SpawnError::Start`] where the system has no thread left.
    pub fn new() -> Result<Self, SpawnError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ahead, guard) = (Arc::<Ahead>::default(), Arc::<OnceLock<Guard>>::default());
        let starter = Starter { ahead: ahead.clone(), guard: guard.clone(), guards_process: None };
        std::thread::Builder::new()
            .name("kf-spawner".into())
            .stack_size(256 << 10)
            .spawn(move || starter.run(&queue))
            .map_err(|source| SpawnError::Start { what: "the spawner's thread".into(), source })?;
        let ends = CancellationToken::new();
        Ok(Self { jobs, ahead, guard, _ends_children: ends.clone().drop_guard(), ends })
    }

    /// What has process groups ended that children make.
    pub fn guards(&self) -> Guards {
        Guards(self.guard.get().cloned())
    }

    /// Starts a child. Where the returned future is dropped, no child stays.
    ///
    /// # Errors
    /// [`SpawnError`]; nothing was started then. A worker entry or program that does not exist is not among them: the
    /// child starts, and ends with [`EXIT_REFUSED`](worker::EXIT_REFUSED).
    pub async fn spawn(&self, command: Command) -> Result<Child, SpawnError> {
        let Command { what, entry, request, env, cwd, log, on_line, stderr, ahead } = command;
        if !worker::dispatches() {
            return Err(SpawnError::NoDispatch { what });
        }
        let runtime = Handle::try_current().map_err(|_| SpawnError::NoRuntime { what: what.clone() })?;
        let start = |source| SpawnError::Start { what: what.clone(), source };
        let (exchange, request) =
            Exchange::of(&request).map_err(|source| SpawnError::Request { what: what.clone(), source })?;
        let open = |log: &Log| {
            let refused = |source| SpawnError::Log { what: what.clone(), path: log.path.clone(), source };
            LogWriter::create(log).map_err(refused)
        };
        let log = log.as_ref().map(open).transpose()?;
        let stderr = stderr.map(|stderr| Ok((open(&stderr.log)?, stderr.on_line))).transpose()?;
        let form = Form { entry, env, cwd, stderr_apart: stderr.is_some() };
        let closed = || start(io::Error::other("the spawner's thread has ended"));
        let taken = ahead.then(|| self.ahead.take(&form, &runtime, &request)).flatten();
        let copy = if let Some(copy) = taken {
            let job = Job { form, runtime, now: None, ahead };
            self.jobs.send(job).map_err(|_| closed())?;
            copy
        } else {
            let (reply, started) = oneshot::channel();
            let job = Job { form, runtime, now: Some((request, reply)), ahead };
            self.jobs.send(job).map_err(|_| closed())?;
            started.await.map_err(|_| closed())?.map_err(start)?
        };
        let Started { process, group, output, errors } = copy;
        let recent = Arc::new(Mutex::default());
        let pump = |pipe, log, on_line| {
            let pipe = pipe::Receiver::from_owned_fd(pipe).map_err(start)?;
            Ok(Output { pipe, log, on_line, recent: recent.clone() })
        };
        let output = pump(output, log, on_line)?;
        let errors = errors.zip(stderr);
        let errors = errors.map(|(pipe, (log, on_line))| pump(pipe, Some(log), Some(on_line))).transpose()?;
        child::supervise(what.clone(), process, group, (output, errors), exchange, self.ends.clone())
            .map_err(start)
    }
}
