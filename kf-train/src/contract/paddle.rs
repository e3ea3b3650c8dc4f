//! PaddlePaddle, collective mode.

use super::{Env, Placement, env};
use crate::Result;

/// What one rank gets, as `paddle.distributed.launch` has it (`CollectiveController._build_pod_with_master` in
/// Paddle's `python/paddle/distributed/launch/controllers/collective.py`).
///
/// Rank 0 serves the store at the master's address; beside that every rank listens, at its node's ports, or at those
/// after the master's, counted on each host. Which devices a rank uses (`FLAGS_selected_gpus`, and
/// `PADDLE_DISTRI_BACKEND` where there are none) is for who starts it.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where there is no such rank, a port is taken twice or beyond the last, a host is an
/// IPv6 address, or an agent's store has the master's address.
pub fn rank_env(placement: &Placement, rank: usize) -> Result<Env> {
    let place = placement.place(rank)?;
    placement.master_is_free("Paddle's store")?;
    placement.has_no_ipv6("Paddle")?;
    let addresses = placement.listens(usize::from(placement.master().port) + 1)?;
    let endpoints: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let (rank, local_rank) = (place.rank.to_string(), place.local_rank.to_string());
    let world_size = placement.world_size().to_string();
    Ok(env([
        ("PADDLE_MASTER", placement.master().to_string()),
        ("PADDLE_JOB_ID", placement.job().to_owned()),
        ("PADDLE_NNODES", placement.nodes().len().to_string()),
        ("PADDLE_GLOBAL_SIZE", world_size.clone()),
        ("PADDLE_LOCAL_SIZE", placement.nodes()[place.node].ranks.to_string()),
        ("PADDLE_GLOBAL_RANK", rank.clone()),
        ("PADDLE_LOCAL_RANK", local_rank.clone()),
        ("PADDLE_RANK_IN_NODE", local_rank),
        ("PADDLE_TRAINER_ID", rank),
        ("PADDLE_TRAINERS_NUM", world_size),
        ("PADDLE_TRAINER_ENDPOINTS", endpoints.join(",")),
        ("PADDLE_CURRENT_ENDPOINT", endpoints[place.rank].clone()),
    ]))
}

/// What a node gets whose program is `paddle.distributed.launch`, which starts the node's ranks: what the training
/// operator sets (`pkg/controller.v1/paddlepaddle/envvar.go`), and the node's number and size, which the launcher
/// reads from the environment (`env_args_mapping` in Paddle's `python/paddle/distributed/launch/context/args_envs.py`).
///
/// The launcher serves the master where it knows its own IP address in `PADDLE_MASTER`: on Kubernetes, the first pod
/// is to have its own IP address there.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where there is no such node, a host is an IPv6 address, or an agent's store has the
/// master's address.
pub fn node_env(placement: &Placement, node: usize) -> Result<Env> {
    let ranks = placement.node(node)?.ranks;
    placement.master_is_free("Paddle's store")?;
    placement.has_no_ipv6("Paddle")?;
    Ok(env([
        ("PADDLE_MASTER", placement.master().to_string()),
        ("PADDLE_JOB_ID", placement.job().to_owned()),
        ("PADDLE_NNODES", placement.nodes().len().to_string()),
        ("PADDLE_NPROC_PER_NODE", ranks.to_string()),
        ("PADDLE_RANK", node.to_string()),
        ("PADDLE_MAX_RESTART", placement.max_restarts().to_string()),
    ]))
}
