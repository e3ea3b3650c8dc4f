//! What to start, and with what around it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::SpawnError;
use crate::worker::{EXEC_ENTRY, ExecRequest};

/// Called with each line of a child's output, without its end-of-line.
pub(super) type LineSink = Arc<dyn Fn(&str) + Send + Sync>;

/// What becomes of standard error, where that is kept apart.
#[derive(Clone)]
pub(super) struct Stderr {
    pub(super) log: Log,
    pub(super) on_line: LineSink,
}

/// What to start: a worker entry of this program, or another program.
#[derive(Clone)]
pub struct Command {
    pub(super) what: String,
    pub(super) entry: String,
    pub(super) request: String,
    pub(super) env: Vec<(String, Option<String>)>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) log: Option<Log>,
    pub(super) on_line: Option<LineSink>,
    pub(super) stderr: Option<Stderr>,
    pub(super) ahead: bool,
}

impl Command {
    /// A copy of this program that runs the [worker entry](crate::worker::Entry) of this name.
    ///
    /// The request goes through a file without a name, in memory where the system has such, that only the two can open.
    ///
    /// # Errors
    /// [`SpawnError::Request`] where the request has no JSON form.
    pub fn entry(name: impl Into<String>, request: &impl Serialize) -> Result<Self, SpawnError> {
        let entry = name.into();
        let what = format!("worker `{entry}`");
        match serde_json::to_string(request) {
            Ok(request) => Ok(Self::new(what, entry, request)),
            Err(source) => Err(SpawnError::Request { what, source: source.into() }),
        }
    }

    /// Another program, looked up in `PATH` like a shell does, with its arguments.
    ///
    /// It is started by a copy of this program, which arranges for its end and then becomes it. A program that
    /// does not exist thus starts and ends at once with [`EXIT_REFUSED`](crate::worker::EXIT_REFUSED) and a line that
    /// names it.
    pub fn program<A: Into<String>>(program: impl Into<String>, args: impl IntoIterator<Item = A>) -> Self {
        Self::exec(program.into(), args.into_iter().map(Into::into).collect(), None)
    }

    /// As [`program`](Self::program), with this environment and nothing else in it. The program is looked up in the
    /// `PATH` that is among it.
    pub fn program_with_env<A: Into<String>>(
        program: impl Into<String>,
        args: impl IntoIterator<Item = A>,
        env: BTreeMap<String, String>,
    ) -> Self {
        Self::exec(program.into(), args.into_iter().map(Into::into).collect(), Some(env))
    }

    fn exec(program: String, args: Vec<String>, env: Option<BTreeMap<String, String>>) -> Self {
        let what = format!("`{program}`");
        let request = serde_json::json!(ExecRequest { program, args, env }).to_string();
        Self::new(what, EXEC_ENTRY.to_owned(), request)
    }

    fn new(what: String, entry: String, request: String) -> Self {
        Self {
            what,
            entry,
            request,
            env: Vec::new(),
            cwd: None,
            log: None,
            on_line: None,
            stderr: None,
            ahead: false,
        }
    }

    /// Sets an environment variable, beside those of this process.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Keeps one of this process's environment variables from the child.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    /// The folder it starts in; this process's where not given.
    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// Keeps what it prints, standard output and error together, in a file.
    #[must_use]
    pub fn log(mut self, log: Log) -> Self {
        self.log = Some(log);
        self
    }

    /// Keeps standard error apart from standard output: in a log of its own, and its lines to a function of its own, which
    /// is called as that of [`on_line`](Self::on_line) is. How the two were mixed is lost.
    #[must_use]
    pub fn stderr(mut self, log: Log, on_line: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.stderr = Some(Stderr { log, on_line: Arc::new(on_line) });
        self
    }

    /// Takes a copy of this program that was started ahead, and has another one started for the next command, so that who
    /// starts many one after the other does not wait for each.
    ///
    /// A copy is used for one command only, and only by one that has the same entry, folder and environment, this
    /// process's included; what else it takes from this process, such as limits, is as it was when it was started. It
    /// waits in [`run_if_asked`](crate::worker::run_if_asked), costs an idle process, and ends where no command has
    /// come for 10 seconds or so.
    #[must_use]
    pub fn ahead(mut self) -> Self {
        self.ahead = true;
        self
    }

    /// Hands each line that it prints to a function, as it comes. Lines above 8 KiB come in pieces; bytes that are
    /// not UTF-8 are replaced. The function is called on the runtime's threads and must be quick: while it runs, the
    /// child's output waits.
    #[must_use]
    pub fn on_line(mut self, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_line = Some(Arc::new(sink));
        self
    }
}

impl fmt::Debug for Command {
    /// Leaves out the request and the environment's values, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("what", &self.what)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// A log file that can't fill the disk: the first bytes and the last ones are kept, and a line between them says how
/// much was left out.
///
/// While the child runs, the last bytes lie in the file as a ring; they are put in order when it ends.
#[derive(Debug, Clone)]
pub struct Log {
    pub(super) path: PathBuf,
    pub(super) head: u64,
    pub(super) tail: u64,
    pub(super) on_demand: bool,
}

impl Log {
    /// A log in this file, replaced where it exists, of the first 1 MiB and the last 4 MiB. Missing folders are made.
    pub fn to(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), head: 1 << 20, tail: 4 << 20, on_demand: false }
    }

    /// Makes the file when the first bytes come, so that who prints nothing leaves none. Where it can't be made then,
    /// nothing is kept, as on a full disk.
    #[must_use]
    pub fn on_demand(mut self) -> Self {
        self.on_demand = true;
        self
    }

    /// How many bytes are kept of the beginning.
    #[must_use]
    pub fn head(mut self, bytes: u64) -> Self {
        self.head = bytes;
        self
    }

    /// How many bytes are kept of the end; at least 1 KiB.
    #[must_use]
    pub fn tail(mut self, bytes: u64) -> Self {
        self.tail = bytes.max(1 << 10);
        self
    }
}
