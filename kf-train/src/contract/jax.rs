//! JAX: one process a rank.

use super::{Env, Placement, env};
use crate::Result;

/// What one rank gets, as Kubeflow Trainer's JAX plugin has it (`pkg/runtime/framework/plugins/jax/jax.go`).
///
/// Of these, `jax.distributed.initialize()` reads the coordinator's address and, where several ranks share a node,
/// `JAX_LOCAL_DEVICE_IDS`, by which each takes the GPU of its local rank (JAX's `jax/_src/distributed.py`). The
/// program gives it the other two, as Kubeflow's guide has it:
///
/// ```python
/// jax.distributed.initialize(num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
///                            process_id=int(os.environ["JAX_PROCESS_ID"]))
/// ```
///
/// The coordinator would listen on all addresses of its host; where the master is a loopback address, it listens there
/// alone. The plugin also sets `JAX_DISTRIBUTED_BACKEND`, which nothing in JAX reads.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where there is no such rank, or an agent's store has the master's address.
pub fn rank_env(placement: &Placement, rank: usize) -> Result<Env> {
    let place = placement.place(rank)?;
    placement.master_is_free("JAX's coordinator")?;
    let mut env = env([
        ("JAX_NUM_PROCESSES", placement.world_size().to_string()),
        ("JAX_PROCESS_ID", place.rank.to_string()),
        ("JAX_COORDINATOR_ADDRESS", placement.master().to_string()),
        ("JAX_COORDINATOR_PORT", placement.master().port.to_string()),
    ]);
    if placement.master().is_loopback() {
        env.insert("JAX_COORDINATOR_BIND_ADDRESS".into(), placement.master().to_string());
    }
    if placement.nodes()[place.node].ranks > 1 {
        env.insert("JAX_LOCAL_DEVICE_IDS".into(), place.local_rank.to_string());
    }
    Ok(env)
}
