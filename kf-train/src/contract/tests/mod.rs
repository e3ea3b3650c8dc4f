//! Environments and files, written out by hand; and what holds for any placement.

mod invariants;
mod launchers;
mod placements;
mod ranks;

use super::{Address, Env, Framework, Node, Placement};

/// `NAME=value` pairs between white space.
fn pairs(text: &str) -> Env {
    text.split_whitespace()
        .map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect()
}

/// A job `fit` on nodes `a`, `b` … with so many ranks, and rank 0 at port 4000.
fn placement(ranks: &[usize]) -> Placement {
    let nodes = ["a", "b", "c"].into_iter().zip(ranks).map(|(host, &ranks)| Node::new(host, ranks)).collect();
    placed(nodes)
}

fn placed(nodes: Vec<Node>) -> Placement {
    Placement::new("fit", "run-1", nodes, Address::new("a", 4000)).unwrap()
}

/// Asserts what every rank gets: what all have in common, and each its own.
#[track_caller]
fn ranks_get(framework: Framework, placement: &Placement, common: &str, each: &[&str]) {
    assert_eq!(placement.world_size(), each.len());
    for (rank, own) in each.iter().enumerate() {
        let mut expected = pairs(common);
        expected.extend(pairs(own));
        assert_eq!(framework.rank_env(placement, rank).unwrap(), expected, "{framework}, rank {rank}");
    }
}

/// The message of a refusal, after the job's name.
#[track_caller]
fn refusal<T: std::fmt::Debug>(result: crate::Result<T>) -> String {
    let message = result.unwrap_err().to_string();
    message.split_once("can't be started: ").map(|(_, reason)| reason.to_owned()).unwrap()
}
