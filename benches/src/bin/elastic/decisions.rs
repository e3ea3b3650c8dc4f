//! One decision about many nodes.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::{Measured, Table};
use kf_train::elastic::{Node, NodeState, Phase, QuorumOptions, QuorumState, Round, quorum};

const RUNS: usize = 5;

pub(crate) fn measure(table: &mut Table) {
    for (count, target) in [(100, ""), (1_000, "≤ 50"), (10_000, "")] {
        let nodes: BTreeMap<String, NodeState> = (0..count).map(node).collect();
        let options = QuorumOptions { min_nodes: count / 2, max_nodes: count, ..QuorumOptions::default() };
        let all: Vec<Node> = nodes.values().map(|node| node.node.clone()).collect();
        let before = Some(Round { number: 1, restarts: 0, nodes: all });
        let first = QuorumState { nodes: nodes.clone(), ..QuorumState::default() };
        let mut lost = QuorumState { round: before.clone(), agreed: before, nodes, ..QuorumState::default() };
        lost.nodes.pop_last();
        for (what, state) in [("the first round", &first), ("a round with a node lost", &lost)] {
            let runs = (0..RUNS).map(|_| {
                let began = Instant::now();
                let (round, _) = black_box(quorum(Duration::from_secs(1), black_box(state), &options));
                let took = began.elapsed().as_secs_f64() * 1e3;
                assert!(round.is_some_and(|round| round.nodes.len() >= count - 1));
                took
            });
            let name = format!("{what} of {count} nodes decided");
            table.add(Measured::new(name, "ms", runs.collect()), None, target);
        }
    }
}

fn node(number: usize) -> (String, NodeState) {
    let id = format!("{number:08}");
    let node = Node {
        name: None,
        id: id.clone(),
        host: format!("10.0.{}.{}", number / 256, number % 256),
        port: 29400,
        ranks: 8,
        rank: None,
    };
    let now = Duration::from_secs(1);
    let state = NodeState {
        node,
        phase: Phase::Ready,
        ticket: number as u64,
        joined: now,
        since: now,
        heard: now,
        disconnected: None,
    };
    (id, state)
}
