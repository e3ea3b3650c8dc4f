//! What to run, on how many ranks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kf_core::CancellationToken;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::JobEvent;
use crate::{Error, Progress, Result};

/// A job as data: what a [`Launcher`](super::Launcher) takes, and what can be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobSpec {
    /// For people.
    pub name: String,
    /// What each rank runs.
    pub program: Program,
    /// How many nodes: machines, or what stands for them.
    pub nodes: usize,
    /// How many ranks on each node.
    pub ranks_per_node: usize,
    /// How many times the ranks are started anew when one has failed.
    pub max_restarts: u64,
    /// Environment variables beside the caller's and torchrun's.
    pub env: BTreeMap<String, String>,
    /// The folder that the ranks start in; the caller's where not given.
    pub cwd: Option<PathBuf>,
    /// When the whole job must be done; no limit where not given.
    pub timeout: Option<Duration>,
    /// When each rank must have reached its function; only for [`Program::Ranks`].
    pub start_timeout: Duration,
    /// How long ranks that are asked to end may take before they are killed.
    pub stop_grace: Duration,
    /// Threads for each rank's numerics (`OMP_NUM_THREADS`). Where not given: 1 if a node has several ranks and the
    /// variable is not set, as torchrun has it.
    pub threads_per_rank: Option<usize>,
    /// Keep standard error apart from standard output (`stderr.log` and `stdout.log` in place of `output.log`), at the
    /// price of how they were mixed.
    pub stderr_apart: bool,
}

/// What each rank runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// An entry of this program, made by [`ranks`](crate::ranks).
    Ranks {
        /// Its name.
        entry: String,
        /// Its arguments.
        args: Value,
    },
    /// Another program, such as `python train.py`, that reads torchrun's environment. It can tell its progress in
    /// lines such as `{"progress":{"epoch":1,"metrics":{"loss":0.5}}}` that it adds to the file which `KF_TRAIN_PROGRESS`
    /// names.
    Command {
        /// Its name or path.
        program: String,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// More would be a mistake.
const MOST_RANKS: usize = 1 << 20;

impl JobSpec {
    fn new(name: String, program: Program, ranks: usize) -> Self {
        Self {
            name,
            program,
            nodes: 1,
            ranks_per_node: ranks,
            max_restarts: 0,
            env: BTreeMap::new(),
            cwd: None,
            timeout: None,
            start_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_millis(500),
            threads_per_rank: None,
            stderr_apart: false,
        }
    }

    /// How many ranks it has in all.
    pub fn world_size(&self) -> usize {
        self.nodes.saturating_mul(self.ranks_per_node)
    }

    /// Refuses what no launcher can start.
    ///
    /// # Errors
    /// [`Error::Job`].
    pub fn check(&self) -> Result<()> {
        let wrong = |reason: String| Err(Error::Job { job: self.name.clone(), reason });
        if self.nodes == 0 {
            return wrong("it has 0 nodes; at least 1 is needed".into());
        }
        if self.ranks_per_node == 0 {
            return wrong("it has 0 ranks; at least 1 is needed".into());
        }
        if self.world_size() > MOST_RANKS {
            return wrong(format!("it has {} ranks; at most {MOST_RANKS} are possible", self.world_size()));
        }
        if self.threads_per_rank == Some(0) {
            return wrong("threads_per_rank is 0; at least 1 is needed".into());
        }
        let name_is_wrong = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
        if let Some(name) = self.env.keys().find(name_is_wrong) {
            return wrong(format!("{name:?} can't name an environment variable"));
        }
        Ok(())
    }
}

pub(crate) type EventSink = Arc<dyn Fn(&JobEvent) + Send + Sync>;

/// A job with its caller's side: who listens, and how it is cancelled.
#[derive(Clone)]
pub struct Job {
    pub(super) spec: JobSpec,
    pub(super) attempt_id: Option<String>,
    pub(crate) on_event: Vec<EventSink>,
    pub(crate) cancel: CancellationToken,
    pub(super) wrong: Option<String>,
}

impl Job {
    /// A job that runs an entry of this program, made by [`ranks`](crate::ranks), on so many ranks of one node.
    pub fn ranks(entry: impl Into<String>, ranks: usize) -> Self {
        let entry = entry.into();
        let program = Program::Ranks { entry: entry.clone(), args: Value::Null };
        Self::of(JobSpec::new(entry, program, ranks))
    }

    /// A job that runs another program on so many ranks of one node: `Job::command("python", ["train.py"], 2)`.
    pub fn command<A: Into<String>>(
        program: impl Into<String>,
        args: impl IntoIterator<Item = A>,
        ranks: usize,
    ) -> Self {
        let program = program.into();
        let args = args.into_iter().map(Into::into).collect();
        Self::of(JobSpec::new(program.clone(), Program::Command { program, args }, ranks))
    }

    /// A job of which the data is there already.
    pub fn of(spec: JobSpec) -> Self {
        Self { spec, attempt_id: None, on_event: Vec::new(), cancel: CancellationToken::new(), wrong: None }
    }

    /// What every rank's function gets; a foreign program takes none. Values that JSON can't hold, such as NaN, make the
    /// job one that can't be started.
    #[must_use]
    pub fn args(mut self, args: &impl Serialize) -> Self {
        match (&mut self.spec.program, kf_core::json::to_json(args)) {
            (Program::Ranks { args: place, .. }, Ok(args)) => *place = args,
            (Program::Command { .. }, _) => {
                self.wrong = Some("a foreign program gets its arguments in `Job::command`".into());
            }
            (_, Err(error)) => self.wrong = Some(format!("its arguments are not JSON: {error}")),
        }
        self
    }

    /// How many nodes; each has as many ranks as the job was made with. 1 where not given.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.spec.nodes = nodes;
        self
    }

    /// How many times the ranks, all of them, are started anew when one has failed; 0 where not given.
    #[must_use]
    pub fn max_restarts(mut self, restarts: u64) -> Self {
        self.spec.max_restarts = restarts;
        self
    }

    /// A name for messages; that of the entry or program where not given.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.spec.name = name.into();
        self
    }

    /// An environment variable for every rank.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.env.insert(name.into(), value.into());
        self
    }

    /// The folder that the ranks start in.
    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spec.cwd = Some(folder.into());
        self
    }

    /// When the whole job must be done.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = Some(timeout);
        self
    }

    /// When each rank must have reached its function; 60 s where not given.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.spec.start_timeout = timeout;
        self
    }

    /// How long ranks that are asked to end may take before they are killed; 0.5 s where not given.
    #[must_use]
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.spec.stop_grace = grace;
        self
    }

    /// Threads for each rank's numerics.
    #[must_use]
    pub fn threads_per_rank(mut self, threads: usize) -> Self {
        self.spec.threads_per_rank = Some(threads);
        self
    }

    /// Keeps what the ranks print to standard error apart from what they print to standard output.
    #[must_use]
    pub fn stderr_apart(mut self) -> Self {
        self.spec.stderr_apart = true;
        self
    }

    /// Calls a function with each event, on the task that waits for the job. It must be quick.
    #[must_use]
    pub fn on_event(mut self, sink: impl Fn(&JobEvent) + Send + Sync + 'static) -> Self {
        self.on_event.push(Arc::new(sink));
        self
    }

    /// Calls a function with each line that a rank prints, as `[rank 0] the line`.
    #[must_use]
    pub fn on_line(self, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_event(move |event| {
            if let JobEvent::Line { rank, line, .. } = event {
                sink(&format!("[rank {rank}] {line}"));
            }
        })
    }

    /// Calls a function with what the main rank, number 0, tells of how far it is.
    #[must_use]
    pub fn on_progress(self, sink: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.on_event(move |event| {
            if let JobEvent::Progress { rank: 0, progress } = event {
                sink(progress);
            }
        })
    }

    /// Ends the job when this token is cancelled.
    #[must_use]
    pub fn cancel_with(mut self, token: CancellationToken) -> Self {
        self.cancel = token;
        self
    }

    /// The id of this attempt at the job: ASCII letters, digits, `.`, `_` and `-`. A new one where not given.
    #[must_use]
    pub fn attempt_id(mut self, id: impl Into<String>) -> Self {
        self.attempt_id = Some(id.into());
        self
    }

    /// The job as data.
    ///
    /// # Errors
    /// [`Error::Job`] for one that can't be started.
    pub fn spec(&self) -> Result<&JobSpec> {
        match &self.wrong {
            Some(reason) => Err(Error::Job { job: self.spec.name.clone(), reason: reason.clone() }),
            None => self.spec.check().map(|()| &self.spec),
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("spec", &self.spec)
            .field("attempt_id", &self.attempt_id)
            .finish_non_exhaustive()
    }
}

/// What a job is found by; can be stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobHandle {
    /// The kind of launcher: `local`.
    pub launcher: String,
    /// The attempt id that it was submitted under.
    pub attempt_id: String,
}

impl JobHandle {
    /// A handle, as a launcher makes it.
    pub fn new(launcher: impl Into<String>, attempt_id: impl Into<String>) -> Self {
        Self { launcher: launcher.into(), attempt_id: attempt_id.into() }
    }
}
