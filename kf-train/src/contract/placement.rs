//! Where the ranks of a job are.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::check::{MAX_RANKS, check};
use super::node::{Address, Node};
use crate::{Error, Result};

/// The port at which Kubeflow Trainer's containers listen (its `ContainerTrainerPort`).
const TRAINER_PORT: u16 = 29_500;

/// Which rank, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankPlace {
    /// Its number in the job, from 0.
    pub rank: usize,
    /// The number of its node.
    pub node: usize,
    /// Its number on the node, from 0.
    pub local_rank: usize,
}

/// A job whose ranks have their places: the first node has the first ranks, and so on.
///
/// What it holds is checked: there is a rank, no node is empty, hosts and texts are of a form that no framework's
/// environment or file breaks on. It can be stored, and read back by another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Placement {
    job: String,
    run_id: String,
    nodes: Vec<Node>,
    master: Address,
    restart_count: u64,
    max_restarts: u64,
    agent_store: bool,
    /// Of each node its first rank, and, last, how many ranks there are.
    #[serde(skip)]
    first_ranks: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    job: String,
    run_id: String,
    nodes: Vec<Node>,
    master: Address,
    restart_count: u64,
    max_restarts: u64,
    agent_store: bool,
}

impl TryFrom<Unchecked> for Placement {
    type Error = Error;

    fn try_from(from: Unchecked) -> Result<Self> {
        Self::new(from.job, from.run_id, from.nodes, from.master)?
            .restarts(from.restart_count, from.max_restarts)
            .map(|placement| placement.agent_store(from.agent_store))
    }
}

impl Placement {
    /// A job on these nodes, with rank 0's host, or the one of an agent's store, and the port there as `master`.
    ///
    /// # Errors
    /// [`Error::Job`], which names the node and what is wrong with it.
    pub fn new(
        job: impl Into<String>,
        run_id: impl Into<String>,
        nodes: Vec<Node>,
        master: Address,
    ) -> Result<Self> {
        let (job, run_id) = (job.into(), run_id.into());
        let first_ranks = check(&job, &run_id, &nodes, &master)
            .map_err(|reason| Error::Job { job: job.clone(), reason })?;
        Ok(Self {
            job,
            run_id,
            nodes,
            master,
            restart_count: 0,
            max_restarts: 0,
            agent_store: false,
            first_ranks,
        })
    }

    /// All ranks on this machine, with rank 0 at this port of the loopback interface.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn local(job: impl Into<String>, run_id: impl Into<String>, ranks: usize, port: u16) -> Result<Self> {
        let master = Address::new("127.0.0.1", port);
        Self::new(job, run_id, vec![Node::new(master.host.clone(), ranks)], master)
    }

    /// The pods of a Kubeflow `TrainJob`, as its v2 controller names them: node i is the pod of completion index i, at
    /// `{job}-node-0-{i}.{job}`, and the master is the first one's port 29500.
    ///
    /// # Errors
    /// [`Error::Job`] also for a job whose name can't be a part of a pod's host name.
    pub fn pods(
        job: impl Into<String>,
        run_id: impl Into<String>,
        nodes: usize,
        ranks_per_node: usize,
    ) -> Result<Self> {
        let job = job.into();
        let wrong = |reason| Error::Job { job: job.clone(), reason };
        if nodes > MAX_RANKS {
            return Err(wrong(format!("it has {nodes} nodes; at most {MAX_RANKS} are supported")));
        }
        let last = format!("{job}-node-0-{}", nodes.saturating_sub(1));
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = job.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || job.ends_with('-') || !job.chars().all(fits) || last.len() > 63 {
            return Err(wrong(format!(
                "its last pod would be `{last}`; that takes at most 63 characters, and the job's name lower-case letters, \
                 digits and `-`, with a letter first and no `-` last"
            )));
        }
        let host = |node| format!("{job}-node-0-{node}.{job}");
        let all = (0..nodes).map(|node| Node::new(host(node), ranks_per_node)).collect();
        Self::new(job.clone(), run_id, all, Address::new(host(0), TRAINER_PORT))
    }

    /// How many restarts failures have used up, and how many they may.
    ///
    /// # Errors
    /// [`Error::Job`] where more were used than there may be.
    pub fn restarts(mut self, count: u64, max: u64) -> Result<Self> {
        if count > max {
            return Err(self.wrong(format!("{count} restarts were used up, and it may have {max}")));
        }
        (self.restart_count, self.max_restarts) = (count, max);
        Ok(self)
    }

    /// Whether a store outside the ranks serves at the master's address, so that rank 0 joins it as any other does;
    /// rank 0 serves where not said.
    #[must_use]
    pub fn agent_store(mut self, serves: bool) -> Self {
        self.agent_store = serves;
        self
    }

    /// The job's name.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// What tells this run of the job from others.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The nodes in the order of their ranks.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where the ranks find one another.
    pub fn master(&self) -> &Address {
        &self.master
    }

    /// How many restarts failures have used up.
    pub fn restart_count(&self) -> u64 {
        self.restart_count
    }

    /// How many restarts failures may use up.
    pub fn max_restarts(&self) -> u64 {
        self.max_restarts
    }

    /// Whether a store outside the ranks serves at the master's address.
    pub fn has_agent_store(&self) -> bool {
        self.agent_store
    }

    /// How many ranks there are on all nodes.
    pub fn world_size(&self) -> usize {
        self.first_ranks.last().copied().unwrap_or(0)
    }

    /// Where a rank is.
    ///
    /// # Errors
    /// [`Error::Job`] where there is no such rank.
    pub fn place(&self, rank: usize) -> Result<RankPlace> {
        if rank >= self.world_size() {
            return Err(self.wrong(format!("it has no rank {rank}; its last is {}", self.world_size() - 1)));
        }
        let node = self.first_ranks.partition_point(|&first| first <= rank) - 1;
        Ok(RankPlace { rank, node, local_rank: rank - self.first_ranks[node] })
    }

    /// Which rank is the one of this number on a node.
    ///
    /// # Errors
    /// [`Error::Job`] where there is no such node, or the node has no such rank.
    pub fn rank(&self, node: usize, local_rank: usize) -> Result<usize> {
        let Node { host, ranks, .. } = self.node(node)?;
        if local_rank >= *ranks {
            let found = format!("node {node} (`{host}`) has no local rank {local_rank}");
            return Err(self.wrong(format!("{found}; its last is {}", ranks - 1)));
        }
        Ok(self.first_ranks[node] + local_rank)
    }

    /// All ranks, in order.
    pub fn places(&self) -> impl Iterator<Item = RankPlace> + '_ {
        self.nodes.iter().enumerate().flat_map(|(node, Node { ranks, .. })| {
            let first = self.first_ranks[node];
            (0..*ranks).map(move |local_rank| RankPlace { rank: first + local_rank, node, local_rank })
        })
    }

    /// A node by its number.
    pub(super) fn node(&self, node: usize) -> Result<&Node> {
        let last = self.nodes.len() - 1;
        self.nodes.get(node).ok_or_else(|| self.wrong(format!("it has no node {node}; its last is {last}")))
    }

    /// Where each rank listens: at its node's ports, and elsewhere at `first` and the ports after it, counted on each
    /// host.
    pub(super) fn listens(&self, first: usize) -> Result<Vec<Address>> {
        let mut counted: HashMap<&str, usize> = HashMap::new();
        let mut taken = HashSet::new();
        let mut addresses = Vec::with_capacity(self.world_size());
        for place in self.places() {
            let node = &self.nodes[place.node];
            let at = counted.entry(&node.host).or_default();
            let port = node.ports.get(place.local_rank).map_or(first + *at, |&port| port.into());
            *at += 1;
            let rank = format!("rank {} on `{}`", place.rank, node.host);
            let port = u16::try_from(port)
                .map_err(|_| self.wrong(format!("{rank} would listen at port {port}; the last is 65535")))?;
            if !taken.insert((&node.host, port)) {
                return Err(self.wrong(format!("{rank} would listen at port {port}, as another rank does")));
            }
            addresses.push(Address::new(&node.host, port));
        }
        Ok(addresses)
    }

    /// The hosts in the order of their ranks, each once, with how many ranks it has.
    pub(super) fn hosts(&self) -> Result<Vec<(&str, usize)>> {
        let mut hosts: Vec<(&str, usize)> = Vec::new();
        let mut seen = HashSet::new();
        for (number, node) in self.nodes.iter().enumerate() {
            match hosts.last_mut() {
                Some((host, ranks)) if *host == node.host => *ranks += node.ranks,
                _ if seen.insert(&node.host) => hosts.push((&node.host, node.ranks)),
                _ => {
                    let found = format!(
                        "node {number} is on `{}` as an earlier one is, with others between",
                        node.host
                    );
                    return Err(self.wrong(format!(
                        "{found}; a hostfile has each host once, so that nodes of one host must follow one another"
                    )));
                }
            }
        }
        Ok(hosts)
    }

    /// Refuses a placement in which something else listens where this framework must.
    pub(super) fn master_is_free(&self, framework: &str) -> Result<()> {
        if self.agent_store {
            let master = &self.master;
            return Err(self.wrong(format!(
                "an agent's store listens at {master}, where {framework} is to listen; give it a master of its own"
            )));
        }
        Ok(())
    }

    /// Refuses IPv6 addresses, for a framework that takes the first `:` for the one before the port.
    pub(super) fn has_no_ipv6(&self, framework: &str) -> Result<()> {
        let hosts = self.nodes.iter().map(|node| &node.host).chain([&self.master.host]);
        match hosts.into_iter().find(|host| host.contains(':')) {
            Some(host) => Err(self.wrong(format!(
                "{framework} can't tell the IPv6 address {host} from a port; give a host name or an IPv4 address"
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Job { job: self.job.clone(), reason: reason.into() }
    }
}
