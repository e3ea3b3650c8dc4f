//! A round: who trains together, from one change of membership to the next; and what is told of one.

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
    /// What it is called, where its name outlives it: a node that comes later by the same name is in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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

    /// What is told of it.
    pub(super) fn note(&self, reason: &str) -> RoundNote {
        RoundNote {
            number: self.number,
            nodes: self.nodes.len(),
            world_size: self.world_size(),
            restarts: self.restarts,
            reason: reason.to_owned(),
        }
    }

    /// Whether a node is of this round.
    pub fn has(&self, id: &str) -> bool {
        self.nodes.iter().any(|node| node.id == id)
    }
}

/// What [`AgentOptions::rounds`](super::AgentOptions::rounds) is told of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RoundNote {
    /// Counts the rounds of a job from 1.
    pub number: u64,
    /// How many nodes it has.
    pub nodes: usize,
    /// How many ranks it has.
    pub world_size: usize,
    /// How many times a failed rank had the job's ranks started anew.
    pub restarts: u64,
    /// Why it was made.
    pub reason: String,
}

/// A line with a note, which tells it from what else is printed.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    round: T,
}

impl RoundNote {
    /// The line that tells it, without its end.
    pub(super) fn line(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Line { round: self })
    }

    /// The note of a line; none where it is another one.
    pub fn of_line(line: &str) -> Option<Self> {
        let line = line.trim();
        let line: Line<Self> = line.starts_with("{\"round\":").then(|| serde_json::from_str(line).ok())??;
        Some(line.round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_a_round() {
        let node = |host: &str, ranks| Node {
            id: host.into(),
            host: host.into(),
            port: 1,
            name: None,
            ranks,
            rank: None,
        };
        let round = Round { number: 2, restarts: 1, nodes: vec![node("a", 2), node("b", 1)] };
        let line = round.note("node \"b\" joined\n").line().unwrap();
        let expected =
            r#"{"round":{"number":2,"nodes":2,"world_size":3,"restarts":1,"reason":"node \"b\" joined\n"}}"#;
        assert_eq!(line, expected);
        assert_eq!(RoundNote::of_line(&format!("{line}\n")), Some(round.note("node \"b\" joined\n")));
        for other in ["", "round", r#"{"progress":{}}"#, r#"{"round":{}}"#, r#"{"round":2}"#] {
            assert_eq!(RoundNote::of_line(other), None, "{other}");
        }
    }
}
