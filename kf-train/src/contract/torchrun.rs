//! PyTorch: what torchrun's workers find, and what torchrun itself finds in a pod.

use super::{Env, Placement, env};
use crate::Result;

/// What one rank gets, as torchrun's agent has it (`_start_workers` in PyTorch's
/// `torch/distributed/elastic/agent/server/local_elastic_agent.py`); ranks are numbered as `_assign_worker_ranks` in
/// `api.py` beside it numbers them, with `GROUP_RANK` that of the node and `ROLE_RANK` that among ranks of one role.
///
/// `TORCHELASTIC_ERROR_FILE` and `OMP_NUM_THREADS` depend on the machine: who starts the process there adds them.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where there is no such rank.
pub fn rank_env(placement: &Placement, rank: usize) -> Result<Env> {
    let place = placement.place(rank)?;
    let nodes = placement.nodes();
    let node = &nodes[place.node];
    let of_role = |nodes: &[super::Node]| -> usize {
        nodes.iter().filter(|other| other.role == node.role).map(|other| other.ranks).sum()
    };
    Ok(env([
        ("RANK", place.rank.to_string()),
        ("LOCAL_RANK", place.local_rank.to_string()),
        ("WORLD_SIZE", placement.world_size().to_string()),
        ("LOCAL_WORLD_SIZE", node.ranks.to_string()),
        ("GROUP_RANK", place.node.to_string()),
        ("GROUP_WORLD_SIZE", nodes.len().to_string()),
        ("ROLE_NAME", node.role.clone()),
        ("ROLE_RANK", (of_role(&nodes[..place.node]) + place.local_rank).to_string()),
        ("ROLE_WORLD_SIZE", of_role(nodes).to_string()),
        ("MASTER_ADDR", placement.master().host.clone()),
        ("MASTER_PORT", placement.master().port.to_string()),
        ("TORCHELASTIC_RESTART_COUNT", placement.restart_count().to_string()),
        ("TORCHELASTIC_MAX_RESTARTS", placement.max_restarts().to_string()),
        ("TORCHELASTIC_RUN_ID", placement.run_id().to_owned()),
        // Python's words, since PyTorch compares with `str(True)`.
        ("TORCHELASTIC_USE_AGENT_STORE", if placement.has_agent_store() { "True" } else { "False" }.into()),
        ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1".into()),
    ]))
}

/// What a node gets whose program is torchrun, which starts the node's ranks: the variables that Kubeflow Trainer's
/// torch plugin sets (`pkg/runtime/framework/plugins/torch/torch.go`), and, as the training operator does for elastic
/// jobs (`pkg/controller.v1/pytorch/elastic.go`), the run id and how many restarts there may be. torchrun takes each
/// of its options from the variable `PET_` and the option's name.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where there is no such node.
pub fn node_env(placement: &Placement, node: usize) -> Result<Env> {
    let ranks = placement.node(node)?.ranks;
    Ok(env([
        ("PET_NNODES", placement.nodes().len().to_string()),
        ("PET_NPROC_PER_NODE", ranks.to_string()),
        ("PET_NODE_RANK", node.to_string()),
        ("PET_MASTER_ADDR", placement.master().host.clone()),
        ("PET_MASTER_PORT", placement.master().port.to_string()),
        ("PET_RDZV_ID", placement.run_id().to_owned()),
        ("PET_MAX_RESTARTS", placement.max_restarts().to_string()),
    ]))
}
