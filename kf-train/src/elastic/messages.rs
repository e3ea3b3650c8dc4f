//! What agents tell one another through a store, and under which keys.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::quorum::Phase;
use super::round::{Node, Round};
use crate::{Failure, JobEnd};

/// Who coordinates, as an agent's own store tells whoever asks there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Coordinator {
    pub(super) node: Node,
    /// Counts how often this node has become the coordinator; its keys belong to one time.
    pub(super) lead: u64,
    /// The last round that all of its nodes have taken up.
    pub(super) round: u64,
    /// Whether it made that round itself, and did not take it over.
    pub(super) made: bool,
}

impl Coordinator {
    /// Of two coordinators the one that goes on: who made the later round that was agreed, and else the one of the smaller
    /// id.
    pub(super) fn gives_way_to(&self, other: &Self) -> bool {
        let rank = |one: &Self| (one.round, one.made, std::cmp::Reverse(one.node.id.clone()));
        self.node.id != other.node.id && rank(other) > rank(self)
    }

    pub(super) fn address(&self) -> String {
        address(&self.node)
    }
}

/// What a node tells its coordinator, again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) node: Node,
    pub(super) ticket: u64,
    pub(super) phase: Phase,
    /// The last round that it knows of.
    pub(super) round: Option<Round>,
    /// What failed, where something did.
    pub(super) failure: Option<Box<Failure>>,
    /// What rank 0 returned, from the node that has it.
    pub(super) result: Value,
    /// Makes every report another one.
    pub(super) beat: u64,
}

/// What a coordinator tells all its nodes, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum News {
    /// A round begins.
    Round { round: Round, reason: String },
    /// The round is over, and there is no other yet.
    Over { round: u64, reason: String },
    /// After this round, 0 before the first, there is none for a while.
    Waits { after: u64, reason: String },
    /// The job has ended.
    End(JobEnd),
}

/// What an agent tells a rank that keeps its state from round to round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plan {
    /// The rank is of this round.
    Round(RankPlan),
    /// The round is over, and there is none with this rank yet.
    Over { reason: String },
}

/// A rank's place in a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RankPlan {
    pub(crate) round: u64,
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    pub(crate) restarts: u64,
    /// The ids of the round's nodes, in order.
    pub(crate) nodes: Vec<String>,
    /// Where the round's store is, as `host:port`.
    pub(crate) store: String,
    /// The address that the other ranks reach this one by.
    pub(crate) host: String,
}

/// The key, below a rank's own, that it sets when it is ready for a round.
pub(crate) const WARM: &str = "warm";

/// The key, below a rank's own, by which it tells that it can't go on in a round, and which ranks it misses.
pub(crate) fn stuck(round: u64) -> String {
    format!("stuck/{round}")
}

/// The key of a plan, below the rank's own.
pub(crate) fn plan(number: u64) -> String {
    format!("plan/{number}")
}

/// The keys of one job.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    job: String,
}

impl Keys {
    pub(super) fn of(run_id: &str) -> Self {
        Self { job: format!("kf/{run_id}") }
    }

    /// In every agent's store: who coordinates.
    pub(super) fn coordinator(&self) -> String {
        format!("{}/coordinator", self.job)
    }

    /// Before every key of a coordinator's time.
    pub(super) fn lead(&self, lead: u64) -> String {
        format!("{}/lead/{lead}", self.job)
    }

    /// Before every key of one start of this node's rank, in its own agent's store.
    pub(super) fn local(&self, attempt: u64) -> String {
        format!("{}/local/{attempt}", self.job)
    }

    pub(super) fn nodes(&self, lead: u64) -> String {
        format!("{}/nodes/", self.lead(lead))
    }
}

/// Within a coordinator's time: the counter of the nodes that came.
pub(super) const TICKETS: &str = "tickets";

pub(super) fn node(id: &str) -> String {
    format!("nodes/{id}")
}

pub(super) fn news(number: u64) -> String {
    format!("news/{number}")
}

/// Where the store of a round's ranks is; its first node tells.
pub(super) fn master(round: u64) -> String {
    format!("rounds/{round}/master")
}

pub(super) fn address(node: &Node) -> String {
    match node.host.contains(':') {
        true => format!("[{}]:{}", node.host, node.port),
        false => format!("{}:{}", node.host, node.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_round_wins_and_then_who_made_it() {
        let coordinator = |id: &str, round, made| Coordinator {
            node: Node { id: id.into(), host: "::1".into(), port: 1, name: None, ranks: 1, rank: None },
            lead: 1,
            round,
            made,
        };
        let wins = |one: &Coordinator, other: &Coordinator| {
            assert!(other.gives_way_to(one) && !one.gives_way_to(other) && !one.gives_way_to(one));
        };
        wins(&coordinator("b", 2, false), &coordinator("a", 1, true));
        wins(&coordinator("b", 2, true), &coordinator("a", 2, false));
        wins(&coordinator("a", 0, false), &coordinator("b", 0, false));
        assert_eq!(coordinator("a", 0, false).address(), "[::1]:1");
    }
}
