//! A round: who trains together, from one change of membership to the next.

use serde::{Deserialize, Serialize};

/// A node, as the others know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Unlike any other node's, and any earlier start's of the same node.
    pub id: String,
    /// The name or address that other nodes reach it by.
    pub host: String,
    /// The port of its agent's store, where the agents meet when this node coordinates.
    pub port: u16,
    /// How many ranks it runs.
    pub ranks: usize,
    /// The number that it was given among the nodes; none where that comes of the order in which they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
}

/// Which nodes train together. Ranks follow the order of the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Counts the rounds of a job from 1. Every key that ranks or agents share belongs to one round.
    pub number: u64,
    /// How many times a failed rank had the job's ranks started anew.
    pub restarts: u64,
    /// The nodes, in the order of their ranks; those of the round before keep theirs.
    pub nodes: Vec<Node>,
}

impl Round {
    /// How many ranks there are.
    pub fn world_size(&self) -> usize {
        self.nodes.iter().map(|node| node.ranks).sum()
    }

    /// A node's number, and the first of its ranks; none where it is not of this round.
    pub fn place(&self, id: &str) -> Option<(usize, usize)> {
        let number = self.nodes.iter().position(|node| node.id == id)?;
        Some((number, self.nodes.iter().take(number).map(|node| node.ranks).sum()))
    }

    /// The node that runs a rank.
    pub fn of_rank(&self, rank: usize) -> Option<&Node> {
        let mut before = 0;
        self.nodes.iter().find(|node| {
            before += node.ranks;
            rank < before
        })
    }

    /// Whether a node is of this round.
    pub fn has(&self, id: &str) -> bool {
        self.nodes.iter().any(|node| node.id == id)
    }
}
