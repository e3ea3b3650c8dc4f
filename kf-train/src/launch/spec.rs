//! A job as data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kf_core::resources::Resources;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::Framework;
use crate::{Error, Result};

/// A job as data: what a [`Launcher`](super::Launcher) takes, and what can be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobSpec {
    /// For people.
    pub name: String,
    /// What each rank runs.
    pub program: Program,
    /// Whose environment the ranks get. That of torchrun where not given, and always with [`Program::Ranks`], which reads
    /// it.
    #[serde(default)]
    pub framework: Framework,
    /// How many nodes: machines, or what stands for them.
    pub nodes: usize,
    /// How many ranks on each node.
    pub ranks_per_node: usize,
    /// How many times the ranks are started anew when one has failed.
    pub max_restarts: u64,
    /// Environment variables beside the caller's and the framework's.
    pub env: BTreeMap<String, String>,
    /// The folder that the ranks start in; the caller's where not given.
    pub cwd: Option<PathBuf>,
    /// When the whole job must be done; no limit where not given.
    pub timeout: Option<Duration>,
    /// When each rank must have reached its function; only for [`Program::Ranks`].
    pub start_timeout: Duration,
    /// How long a rank may tell no progress, from its beginning on (its function's, with [`Program::Ranks`]), before it
    /// counts as hung, and fails; no limit where not given. Every rank must tell its progress then, not the main one alone.
    #[serde(default)]
    pub progress_timeout: Option<Duration>,
    /// How long ranks that are asked to end may take before they are killed.
    pub stop_grace: Duration,
    /// Threads for each rank's numerics (`OMP_NUM_THREADS`). Where not given: the whole cores that each rank asks for, or 1
    /// if a node has several ranks and the variable is not set, as torchrun has it.
    pub threads_per_rank: Option<usize>,
    /// What each rank asks for; nothing where not given. See [`Job::resources`](super::Job::resources).
    #[serde(default)]
    pub resources: Resources,
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
    /// Another program, such as `python train.py`, that reads its framework's environment. It can tell its progress in
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
pub(super) const MOST_RANKS: usize = 1 << 20;
/// Ranks tell their progress every 0.1 s at most, and it is read as often.
const LEAST_PROGRESS_TIMEOUT: Duration = Duration::from_secs(1);

impl JobSpec {
    pub(super) fn new(name: String, program: Program, ranks: usize) -> Self {
        Self {
            name,
            program,
            framework: Framework::default(),
            nodes: 1,
            ranks_per_node: ranks,
            max_restarts: 0,
            env: BTreeMap::new(),
            cwd: None,
            timeout: None,
            start_timeout: Duration::from_secs(60),
            progress_timeout: None,
            stop_grace: Duration::from_millis(500),
            threads_per_rank: None,
            resources: Resources::none(),
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
        if matches!(self.program, Program::Ranks { .. }) && self.framework != Framework::Torchrun {
            return wrong(format!(
                "it runs functions of this program, which read torchrun's environment and not that of {}; run a program \
                 of that framework by `Job::command`",
                self.framework
            ));
        }
        if let Some(timeout) = self.progress_timeout.filter(|timeout| *timeout < LEAST_PROGRESS_TIMEOUT) {
            return wrong(format!(
                "its progress_timeout is {timeout:?}; at least {LEAST_PROGRESS_TIMEOUT:?} is needed, since progress is \
                 looked for every now and then"
            ));
        }
        let name_is_wrong = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
        if let Some(name) = self.env.keys().find(name_is_wrong) {
            return wrong(format!("{name:?} can't name an environment variable"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Job;

    #[test]
    fn what_no_launcher_can_start_is_refused() {
        for (job, expected) in [
            (
                Job::ranks("fit", 1).framework(Framework::Jax),
                "read torchrun's environment and not that of jax",
            ),
            (Job::ranks("fit", 1).progress_timeout(Duration::from_millis(999)), "at least 1s is needed"),
            (Job::ranks("fit", 1).nodes(0), "it has 0 nodes"),
        ] {
            let error = job.spec().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn specs_are_stored_and_those_of_before_still_load() {
        let job = Job::command("python", ["fit.py"], 2)
            .framework(Framework::TensorFlow)
            .progress_timeout(Duration::from_secs(60))
            .resources(Resources::none().cpu(2.0).accelerator("nvidia.com/gpu", 1.0));
        let stored = serde_json::to_value(job.spec().unwrap()).unwrap();
        assert_eq!(stored["framework"], "tensorflow");
        assert_eq!(serde_json::from_value::<JobSpec>(stored).unwrap(), *job.spec().unwrap());

        let before = r#"{"name": "fit", "program": {"ranks": {"entry": "fit", "args": null}}, "nodes": 1,
            "ranks_per_node": 2, "max_restarts": 0, "env": {}, "cwd": null, "timeout": null,
            "start_timeout": {"secs": 60, "nanos": 0}, "stop_grace": {"secs": 0, "nanos": 500000000},
            "threads_per_rank": null, "stderr_apart": false}"#;
        assert_eq!(serde_json::from_str::<JobSpec>(before).unwrap(), *Job::ranks("fit", 2).spec().unwrap());
    }
}
