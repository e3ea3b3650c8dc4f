//! XGBoost: one worker a rank, and a tracker beside them.

use super::{Env, Placement, env};
use crate::Result;

/// What one rank gets, as Kubeflow Trainer's XGBoost plugin has it
/// (`pkg/runtime/framework/plugins/xgboost/xgboost.go`).
///
/// The tracker (`xgboost.tracker.RabitTracker`) is for the program to start at the master's address, in rank 0 or
/// beside the ranks. XGBoost 3 reads no environment: the program passes the variables on, the port as a number, to
/// `xgboost.collective.CommunicatorContext`. The tracker gives ranks by host, or, with `sortby="task"`, in the order
/// of the task ids as texts, in which 10 comes before 2: with more than ten ranks XGBoost's own rank is another number
/// than this job's. The port of a local job is free when its ranks are started, but not held for the tracker, which could
/// not listen on one that is.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where there is no such rank, or an agent's store has the master's address.
pub fn rank_env(placement: &Placement, rank: usize) -> Result<Env> {
    let place = placement.place(rank)?;
    placement.master_is_free("XGBoost's tracker")?;
    Ok(env([
        ("DMLC_TRACKER_URI", placement.master().host.clone()),
        ("DMLC_TRACKER_PORT", placement.master().port.to_string()),
        ("DMLC_TASK_ID", place.rank.to_string()),
        ("DMLC_NUM_WORKER", placement.world_size().to_string()),
    ]))
}
