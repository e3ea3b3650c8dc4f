//! TensorFlow: `TF_CONFIG`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Env, Node, Placement, env};
use crate::Result;

#[derive(Serialize)]
struct TfConfig<'a> {
    cluster: &'a BTreeMap<&'a str, Vec<String>>,
    task: Task<'a>,
}

#[derive(Serialize)]
struct Task<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    index: usize,
}

const WORKER: &str = "worker";
const EVALUATOR: &str = "evaluator";

/// What one rank gets: `TF_CONFIG`, with the cluster's tasks and the rank's own. A node's role is its ranks' task type:
/// `chief` (at most one), `worker`, `ps` or `evaluator` (at most one), and `worker` where it has none. Without a
/// chief, worker 0 does its work.
///
/// As the training operator has it (`genTFConfigJSONStr` in `pkg/controller.v1/tensorflow/tensorflow.go`): the
/// evaluator is no part of the cluster, though it is told of it; a job of a single rank gets no `TF_CONFIG`. How many
/// there may be of each is told by TensorFlow's `tf.distribute.cluster_resolver.TFConfigClusterResolver` and
/// `run_standard_tensorflow_server`. Every rank listens, at its node's ports, or at the master's port and those after
/// it, counted on each host.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where there is no such rank, a role is no task type, there are two chiefs or
/// evaluators, no chief or worker, a port is taken twice or beyond the last, or an agent's store has the master's
/// address.
pub fn rank_env(placement: &Placement, rank: usize) -> Result<Env> {
    let here = placement.place(rank)?;
    placement.master_is_free("TensorFlow")?;
    let addresses = placement.listens(placement.master().port.into())?;
    let mut tasks: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut index = 0;
    for place in placement.places() {
        let kind = task_type(placement, place.node)?;
        let of_kind = tasks.entry(kind).or_default();
        if place.rank == here.rank {
            index = of_kind.len();
        }
        of_kind.push(addresses[place.rank].to_string());
    }
    for (kind, addresses) in &tasks {
        if matches!(*kind, "chief" | EVALUATOR) && addresses.len() > 1 {
            return Err(placement
                .wrong(format!("it has {} ranks of role `{kind}`; TensorFlow takes 1", addresses.len())));
        }
    }
    tasks.remove(EVALUATOR);
    if tasks.keys().all(|kind| *kind == "ps") {
        return Err(
            placement.wrong("it has no rank of role `chief` or `worker`; TensorFlow needs one to train")
        );
    }
    if placement.world_size() == 1 {
        return Ok(Env::new());
    }
    let kind = task_type(placement, here.node)?;
    let config = TfConfig { cluster: &tasks, task: Task { kind, index } };
    let config = serde_json::to_string(&config)
        .map_err(|error| placement.wrong(format!("its TF_CONFIG can't be written: {error}")))?;
    Ok(env([("TF_CONFIG", config)]))
}

fn task_type(placement: &Placement, node: usize) -> Result<&str> {
    match placement.nodes()[node].role.as_str() {
        Node::DEFAULT_ROLE => Ok(WORKER),
        role @ ("chief" | WORKER | "ps" | EVALUATOR) => Ok(role),
        other => Err(placement.wrong(format!(
            "the role of node {node} is `{other}`; TensorFlow has chief, worker, ps and evaluator"
        ))),
    }
}
