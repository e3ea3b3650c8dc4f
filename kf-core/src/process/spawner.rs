//! The one thread that starts children.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::child::{self, Child};
use super::guard::{Guard, Guarded, Guards};
use super::log::LogWriter;
use super::output::Output;
use super::{Command, SpawnError};
use crate::worker::{self, Exchange};

/// Starts children, which end when it is dropped.
///
/// The kernel sends a parent-death signal when the *thread* that started the child ends. A thread of a runtime's
/// pool comes and goes; so all children are started by one thread, which lives exactly as long as the `Spawner`.
#[derive(Debug)]
pub struct Spawner {
    jobs: mpsc::Sender<Job>,
    guard: Arc<OnceLock<Guard>>,
    ends: CancellationToken,
    _ends_children: DropGuard,
}

struct Job {
    command: std::process::Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<(tokio::process::Child, Guarded)>>,
}

impl Spawner {
    /// A spawner with its thread.
    ///
    /// # Errors
    /// [`SpawnError::Start`] where the system has no thread left.
    pub fn new() -> Result<Self, SpawnError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(64);
        let guard = Arc::<OnceLock<Guard>>::default();
        let guards = Arc::clone(&guard);
        std::thread::Builder::new()
            .name("kf-spawner".into())
            .stack_size(256 << 10)
            .spawn(move || {
                let mut guards_process = None;
                while let Some(job) = queue.blocking_recv() {
                    if guards_process.is_none() {
                        // Without one, only what is started itself ends with this process.
                        match Guard::start() {
                            Ok((guard, process)) => {
                                drop(guards.set(guard));
                                guards_process = Some(process);
                            }
                            Err(error) => tracing::warn!(%error, "no guard process for what children start"),
                        }
                    }
                    let _inside = job.runtime.enter();
                    let mut command = tokio::process::Command::from(job.command);
                    // A reply that nobody waits for any more drops the child, which ends it.
                    let started = command.kill_on_drop(true).spawn().map(|child| {
                        let group = Guarded::new(guards.get().cloned(), child.id().unwrap_or_default());
                        (child, group)
                    });
                    let _ = job.reply.send(started);
                }
                drop(guards);
                if let Some(mut process) = guards_process {
                    // It ends when the last child's handle is gone, too.
                    let _ = process.wait();
                }
            })
            .map_err(|source| SpawnError::Start { what: "the spawner's thread".into(), source })?;
        let ends = CancellationToken::new();
        Ok(Self { jobs, guard, _ends_children: ends.clone().drop_guard(), ends })
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
        let what = command.what.clone();
        if !worker::dispatches() {
            return Err(SpawnError::NoDispatch { what });
        }
        let runtime = Handle::try_current().map_err(|_| SpawnError::NoRuntime { what: what.clone() })?;
        let start = |source| SpawnError::Start { what: what.clone(), source };
        let exchange = Exchange::of(&command.request)
            .map_err(|source| SpawnError::Request { what: what.clone(), source })?;
        let log = match &command.log {
            None => None,
            Some(options) => Some(LogWriter::create(options).map_err(|source| SpawnError::Log {
                what: what.clone(),
                path: options.path.clone(),
                source,
            })?),
        };
        let (read, write) = io::pipe().map_err(start)?;
        let output = Output {
            pipe: pipe::Receiver::from_owned_fd(read.into()).map_err(start)?,
            log,
            on_line: command.on_line.clone(),
            recent: Arc::new(Mutex::default()),
        };
        let (reply, started) = oneshot::channel();
        let command = prepare(&command, &exchange, write).map_err(start)?;
        let closed = || start(io::Error::other("the spawner's thread has ended"));
        self.jobs.send(Job { command, runtime, reply }).await.map_err(|_| closed())?;
        let (process, guarded) = started.await.map_err(|_| closed())?.map_err(start)?;
        child::supervise(what.clone(), process, guarded, output, exchange, self.ends.clone()).map_err(start)
    }
}

/// The file of this program, and what it was called by.
pub(super) fn this_program() -> io::Result<(PathBuf, OsString)> {
    // The link follows the running program even where its file was replaced or removed.
    #[cfg(target_os = "linux")]
    let program = PathBuf::from("/proc/self/exe");
    #[cfg(not(target_os = "linux"))]
    let program = std::env::current_exe()?;
    let name = std::env::args_os().next().unwrap_or_else(|| program.clone().into());
    Ok((program, name))
}

fn prepare(
    command: &Command,
    exchange: &Exchange,
    output: io::PipeWriter,
) -> io::Result<std::process::Command> {
    use std::os::unix::process::CommandExt;
    let (program, name) = this_program()?;
    let mut process = std::process::Command::new(program);
    process
        .arg0(name)
        .arg(&command.entry)
        .stdin(exchange.stdin()?)
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    for (name, value) in &command.env {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    }
    if let Some(folder) = &command.cwd {
        process.current_dir(folder);
    }
    process
        .env(worker::ENTRY, &command.entry)
        .env(worker::REQUEST, worker::STDIN)
        .env(worker::PARENT, std::process::id().to_string());
    Ok(process)
}
