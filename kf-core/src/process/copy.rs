//! Copies of this program: how one is started, and the one that is started ahead of its request.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::guard::{Guard, Guarded};
use crate::mutex::locked;
use crate::worker;

/// What a copy is started as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) entry: String,
    pub(super) env: Vec<(String, Option<String>)>,
    pub(super) cwd: Option<PathBuf>,
    /// Whether standard error goes into a pipe of its own.
    pub(super) stderr_apart: bool,
}

/// A copy that was started. Dropped, it is killed with what it has started itself.
#[derive(Debug)]
pub(super) struct Started {
    /// Before the process, whose drop may have it reaped.
    pub(super) group: Unowned,
    pub(super) process: tokio::process::Child,
    /// The end of the pipe into which it prints.
    pub(super) output: OwnedFd,
    /// The same of standard error, where that has its own.
    pub(super) errors: Option<OwnedFd>,
}

/// The process group of a copy that nobody watches yet.
#[derive(Debug)]
pub(super) struct Unowned(Option<Guarded>);

impl Unowned {
    /// Hands the group to who watches it from now on.
    pub(super) fn own(mut self) -> Option<Guarded> {
        self.0.take()
    }
}

impl Drop for Unowned {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.kill();
        }
    }
}

impl Form {
    /// Starts a copy that reads its request from this file.
    pub(super) fn start(&self, request: File, guard: Option<Guard>) -> io::Result<Started> {
        self.start_with(request.into(), worker::STDIN, guard)
    }

    /// Starts one in the current runtime. The thread that does it must live as long as the copy.
    fn start_with(&self, stdin: Stdio, request: &str, guard: Option<Guard>) -> io::Result<Started> {
        let (output, print) = io::pipe()?;
        let (program, name) = this_program()?;
        let mut command = std::process::Command::new(program);
        command.arg0(name).arg(&self.entry).stdin(stdin).process_group(0);
        let mut errors = None;
        if self.stderr_apart {
            let (read, write) = io::pipe()?;
            errors = Some(read.into());
            command.stderr(write);
        } else {
            command.stderr(print.try_clone()?);
        }
        command.stdout(print);
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        command
            .env(worker::ENTRY, &self.entry)
            .env(worker::REQUEST, request)
            .env(worker::PARENT, std::process::id().to_string());
        let process = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let group = Unowned(Some(Guarded::new(guard, process.id().unwrap_or_default())));
        Ok(Started { group, process, output: output.into(), errors })
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

/// The place of one copy that waits for its request.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    waiting: Option<Waiting>,
    /// Those that did not fit, to be ended by the thread that has started them.
    unfit: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    copy: Started,
    /// Over which it gets the file with its request. Closed, it ends by itself.
    socket: UnixStream,
    form: Form,
    around: Around,
    runtime: tokio::runtime::Id,
}

/// What a copy takes from this process when it is started.
#[derive(Debug, PartialEq, Eq)]
struct Around {
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
}

impl Around {
    fn now() -> Self {
        Self { env: std::env::vars_os().collect(), cwd: std::env::current_dir().ok() }
    }
}

impl Ahead {
    /// Gives the request to the copy that waits, where that one is what would be started now. Another one is ended.
    pub(super) fn take(&self, form: &Form, runtime: &Handle, request: &File) -> Option<Started> {
        let waiting = locked(&self.0).waiting.take()?;
        let fits =
            waiting.form == *form && waiting.runtime == runtime.id() && waiting.around == Around::now();
        // One that has ended meanwhile has closed its side.
        if fits && worker::hand(&waiting.socket, request).is_ok() {
            return Some(waiting.copy);
        }
        locked(&self.0).unfit.push(waiting);
        None
    }

    /// Starts one that waits, in the current runtime, unless there is one.
    pub(super) fn fill(&self, form: Form, runtime: &Handle, guard: Option<Guard>) -> io::Result<()> {
        if locked(&self.0).waiting.is_some() {
            return Ok(());
        }
        let around = Around::now();
        let (socket, theirs) = UnixStream::pair()?;
        let copy = form.start_with(OwnedFd::from(theirs).into(), worker::HANDED, guard)?;
        let waiting = Waiting { since: Instant::now(), copy, socket, form, around, runtime: runtime.id() };
        locked(&self.0).waiting = Some(waiting);
        Ok(())
    }

    /// Ends those that did not fit, and the one that has waited for as long.
    pub(super) fn clear(&self, waited: Duration) {
        let mut places = locked(&self.0);
        let mut over = std::mem::take(&mut places.unfit);
        over.extend(places.waiting.take_if(|waiting| waiting.since.elapsed() >= waited));
        drop(places);
        over.into_iter().for_each(Waiting::end);
    }
}

impl Waiting {
    /// Kills it and waits for that, which takes no time, so that nothing is left for the runtime to see to.
    fn end(mut self) {
        drop(self.copy.group);
        for _ in 0..1000 {
            if !matches!(self.copy.process.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
