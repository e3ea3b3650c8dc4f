//! What is asked for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use kf_core::resources::Resources;
use kf_train::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::pod::is_label;

/// The most letters of a name, to which pods' numbers are added.
const LONGEST_NAME: usize = 48;
/// More nodes than anybody has, and what a pod's number may be.
const MOST_NODES: usize = 10_000;
/// How many pods have endpoints: one that comes finds the others while one of these lives.
const ENDPOINTS: usize = 3;

/// An elastic job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ElasticJob {
    /// Its name, and that of its object: a DNS label of at most 48 letters that begins with one, unlike those of other jobs
    /// of the namespace.
    pub name: String,
    /// What runs in each pod, an agent; the image's entrypoint where empty.
    pub command: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, besides torchrun's.
    pub env: BTreeMap<String, String>,
    /// The fewest and the most nodes, each a pod. With fewer nothing runs.
    pub nodes: RangeInclusive<usize>,
    /// How many nodes it starts with.
    pub start: usize,
    /// How many ranks a node has.
    pub ranks_per_node: usize,
    /// How many times failed ranks may have all ranks started anew.
    pub max_restarts: u64,
    /// How many pods that failed otherwise, such as for want of memory, may be replaced before the job has failed. Those that
    /// left, were evicted or preempted don't count. Of a PyTorchJob any number may, but for [`torchrun`](Self::torchrun).
    pub max_replaced: u32,
    /// The port at which agents meet.
    pub port: u16,
    /// How long the first round waits for more nodes once the fewest are there. Names of new pods take some seconds to be
    /// known.
    pub last_call: Duration,
    /// How long a node looks for the others, and how long too few nodes wait for more, until the job fails.
    pub join_timeout: Duration,
    /// What each pod asks for.
    pub resources: Resources,
    /// How long a node that is to leave may take to end, such as to write a checkpoint.
    pub stop_grace: Duration,
    /// How long the whole job may take; any time where not given.
    pub timeout: Option<Duration>,
    /// The agent is PyTorch's torchrun. It takes one endpoint, so that nobody can join while the first pod is away; and it
    /// ends with the same code when it is asked to leave as when the job has failed, so a failed one is replaced, too,
    /// [`max_replaced`](Self::max_replaced) times.
    pub torchrun: bool,
}

impl ElasticJob {
    /// A job of so many nodes that starts with the fewest, of one rank each, and runs the image's entrypoint.
    ///
    /// Port 29400, a last call of 10 seconds, a join timeout of 10 minutes, a grace of 30 seconds; no restarts, 10 pods
    /// replaced.
    pub fn new(name: impl Into<String>, nodes: RangeInclusive<usize>) -> Self {
        Self {
            name: name.into(),
            command: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            start: *nodes.start(),
            nodes,
            ranks_per_node: 1,
            max_restarts: 0,
            max_replaced: 10,
            port: 29_400,
            last_call: Duration::from_secs(10),
            join_timeout: Duration::from_secs(600),
            resources: Resources::default(),
            stop_grace: Duration::from_secs(30),
            timeout: None,
            torchrun: false,
        }
    }

    /// How many of the first pods are endpoints.
    pub(super) fn endpoints(&self) -> usize {
        if self.torchrun { 1 } else { ENDPOINTS.min(*self.nodes.end()) }
    }

    /// Refuses what no job can be.
    ///
    /// # Errors
    /// [`Error::Job`].
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |reason: String| Err(self.wrong(reason));
        let name = self.name.as_str();
        let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
        if !is_label(name) || !begins || name.len() > LONGEST_NAME {
            return wrong(format!(
                "its name must be of a-z, 0-9 and -, begin with a letter, end with no -, and have at most {LONGEST_NAME} \
                 letters"
            ));
        }
        let (min, max) = (*self.nodes.start(), *self.nodes.end());
        if min == 0 || max < min || max > MOST_NODES {
            return wrong(format!("it is of {min} to {max} nodes; expected 1 ≤ least ≤ most ≤ {MOST_NODES}"));
        }
        self.check_nodes(self.start)?;
        if self.ranks_per_node == 0 || self.port == 0 {
            let Self { ranks_per_node, port, .. } = self;
            return wrong(format!(
                "it has {ranks_per_node} ranks per node, and port {port}; expected one of each, or a higher number"
            ));
        }
        let taken = |name: &&String| name.starts_with("PET_") || name.starts_with("KF_");
        match self.env.keys().find(taken) {
            Some(name) => wrong(format!(
                "its variable `{name}` is not its own: agents are told by PET_… and KF_…; leave it out, or name it otherwise"
            )),
            None => Ok(()),
        }
    }

    /// Refuses a number of nodes that it can't have.
    ///
    /// # Errors
    /// [`Error::Job`].
    pub(super) fn check_nodes(&self, nodes: usize) -> Result<()> {
        match self.nodes.contains(&nodes) {
            true => Ok(()),
            false => {
                let (min, max) = (self.nodes.start(), self.nodes.end());
                Err(self.wrong(format!("it can't have {nodes} nodes: it is of {min} to {max}")))
            }
        }
    }

    pub(super) fn wrong(&self, reason: String) -> Error {
        Error::Job { job: self.name.clone(), reason }
    }
}
