//! How an agent works.

use std::path::PathBuf;
use std::time::Duration;

use kf_core::CancellationToken;

use super::quorum::QuorumOptions;
use crate::contract::Framework;
use crate::{Error, JobSpec, Result};

/// How an [`Agent`](super::Agent) works.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The job's name among all that meet at the same endpoints; the same on all nodes. A new one where it is empty.
    pub run_id: String,
    /// Where the agents meet, as `host:port`: the same list on all nodes, of one node or more, each of which serves its
    /// own. With several, a node that comes later finds the others while one of these lives. Empty for a job of one node.
    pub endpoints: Vec<String>,
    /// The name or address that other nodes reach this one by. Where not given, the address from which this machine
    /// reaches the first endpoint.
    pub host: Option<String>,
    /// What this node is called among the job's, where it has a name that outlives its agent, such as that of a pod that is
    /// replaced when it is lost. An endpoint of this name is this node's, also before the name is known to it; and a node
    /// that comes with the name of another takes its place: the other has ended, so whoever gives names lets no two run.
    pub name: Option<String>,
    /// This node's number among the nodes, from 0, for a job whose number of nodes is fixed: `GROUP_RANK`, as torchrun's
    /// `--node-rank` gives it. Where not given, nodes are numbered in the order in which they come.
    pub node_rank: Option<usize>,
    /// When a round is made.
    pub quorum: QuorumOptions,
    /// How often a node tells the coordinator that it lives.
    pub heartbeat: Duration,
    /// How long a node looks for a coordinator, or for enough others.
    pub join_timeout: Duration,
    /// How long ranks may take to end when the node is to leave, such as to write a checkpoint.
    pub leave_grace: Duration,
    /// Where the ranks' files go: `attempt_0/0/output.log`, `error.json` …, counted by this node's starts.
    pub folder: PathBuf,
    /// A file, or a stream such as `/dev/stdout`, that is told of each round by a line: `{"round":{"number":2,"nodes":3,
    /// "world_size":6,"restarts":0,"reason":"…"}}`.
    pub rounds: Option<PathBuf>,
    /// Keep ranks going from round to round: each is a node of its own for the [quorum](QuorumOptions), whose numbers of nodes
    /// count for ranks then. For functions that train in a [`Team`](../struct.Team.html) (feature `torch`).
    pub heal: bool,
    /// Cancelled, the node leaves in good order: its ranks are asked to end, and the others go on without it.
    pub leave: CancellationToken,
}

impl AgentOptions {
    /// A job of one node that keeps its files in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            run_id: String::new(),
            endpoints: Vec::new(),
            host: None,
            name: None,
            node_rank: None,
            quorum: QuorumOptions::default(),
            heartbeat: Duration::from_secs(1),
            join_timeout: Duration::from_secs(600),
            leave_grace: Duration::from_secs(30),
            folder: folder.into(),
            rounds: None,
            heal: false,
            leave: CancellationToken::new(),
        }
    }

    /// Refuses what agents can't do.
    pub(super) fn check(&self, spec: &JobSpec) -> Result<()> {
        let wrong = |reason: String| Err(Error::Job { job: spec.name.clone(), reason });
        if spec.framework != Framework::Torchrun {
            return wrong(format!(
                "agents give their ranks torchrun's environment, whose store they serve, and not that of {}; a \
                 `LocalLauncher` does",
                spec.framework
            ));
        }
        if let Some(rank) = self.node_rank {
            let (min, max) = (self.quorum.min_nodes, self.quorum.max_nodes);
            if min != max || rank >= max || self.heal {
                return wrong(format!(
                    "this node was given number {rank} of {min} to {max} nodes; numbers are for a fixed count of nodes, that \
                     are started anew together, and below that count"
                ));
            }
        }
        let (min, max) = (self.quorum.min_nodes, self.quorum.max_nodes);
        if min > max {
            return wrong(format!("it needs {min} nodes, and takes at most {max}"));
        }
        let alone = if self.heal { spec.ranks_per_node } else { 1 };
        if self.endpoints.is_empty() && min > alone {
            return wrong(format!(
                "it needs {min} nodes, and is one of {alone} without endpoints; name where the agents meet in `endpoints`"
            ));
        }
        if self.quorum.heartbeat_timeout <= self.heartbeat {
            return wrong(format!(
                "its nodes tell every {:?} that they live, and are lost after {:?}; the quorum's heartbeat_timeout must be \
                 longer than the heartbeat",
                self.heartbeat, self.quorum.heartbeat_timeout
            ));
        }
        if self.heal && self.name.is_some() && spec.ranks_per_node > 1 {
            return wrong(format!(
                "each of its {} ranks is a node of its own, and they can't all have one name; start an agent for each, or leave \
                 `name` out",
                spec.ranks_per_node
            ));
        }
        if self.heal && spec.progress_timeout.is_some() {
            return wrong(
                "ranks that outlive rounds tell no progress while they wait for one: a progress_timeout is not for them"
                    .into(),
            );
        }
        Ok(())
    }
}
