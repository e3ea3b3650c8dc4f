//! What to run, on how many ranks, and for whom.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kf_core::CancellationToken;
use kf_core::resources::Resources;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JobEvent, JobSpec, Program};
use crate::contract::Framework;
use crate::{Error, Progress, Result};

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

    /// Whose environment the ranks get, see [`contract`](crate::contract): torchrun's where not given. For
    /// [`command`](Self::command) only.
    ///
    /// Whatever the framework, a rank finds `TORCHELASTIC_ERROR_FILE` and `KF_TRAIN_PROGRESS`, to tell its error and
    /// its progress. Frameworks whose launcher starts all ranks at once (MPI) have no environment for one that is started
    /// by itself, and a [`LocalLauncher`](crate::LocalLauncher) refuses them: run that launcher, such as `mpirun`, as a job
    /// of one rank, with what [`Framework::launch`] says.
    #[must_use]
    pub fn framework(mut self, framework: Framework) -> Self {
        self.spec.framework = framework;
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

    /// How long a rank may tell no progress before it counts as hung, and fails; no limit where not given. Every rank
    /// must tell its progress then ([`Rank::report`](crate::Rank::report)), not the main one alone.
    #[must_use]
    pub fn progress_timeout(mut self, timeout: Duration) -> Self {
        self.spec.progress_timeout = Some(timeout);
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

    /// What each rank asks for. On the machines of a [`LocalLauncher`](crate::LocalLauncher) or an
    /// [`Agent`](crate::elastic::Agent), a job that asks for more than there is can't be started, and
    /// - cores (`cpu`) give each rank as many threads for its numerics; the system hands the cores out;
    /// - `memory` is a limit, on Linux: a rank whose process has more than that, looked at every 0.1 s, fails. Mapped files
    ///   and what it starts itself do not count;
    /// - `nvidia.com/gpu`, whole ones, are shared out to the nodes: `CUDA_VISIBLE_DEVICES` has those of all the node's ranks,
    ///   and the rank of local number k takes the k-th, as programs for torchrun, DeepSpeed, JAX and Paddle do (with n each,
    ///   those from k · n on). Ranks of TensorFlow and XGBoost are told no local number: there `CUDA_VISIBLE_DEVICES` has
    ///   the rank's own alone. Jobs that run at the same time are not kept apart.
    ///
    /// ```
    /// use kf_core::resources::Resources;
    /// use kf_train::Job;
    ///
    /// let each = Resources::none().cpu(2.0).memory("4Gi")?.accelerator("nvidia.com/gpu", 1.0);
    /// let job = Job::command("python", ["train.py"], 4).resources(each);
    /// # Ok::<(), kf_core::Error>(())
    /// ```
    #[must_use]
    pub fn resources(mut self, each: Resources) -> Self {
        self.spec.resources = each;
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

    /// Calls a function with each line that a rank prints, as `[rank 0] the line`, and with how many events were
    /// [missed](JobEvent::Missed), lines among them, where ranks print faster than it returns.
    #[must_use]
    pub fn on_line(self, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_event(move |event| match event {
            JobEvent::Line { rank, line, .. } => sink(&format!("[rank {rank}] {line}")),
            JobEvent::Missed(missed) => sink(&format!("[{missed} events were missed, lines among them]")),
            _ => {}
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
    /// The kind of launcher: `local`, `kubernetes`.
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
