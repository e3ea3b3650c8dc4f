//! What a [`Launcher`](crate::Launcher) of your own is made of: what it gives to ranks, and what it learns from them.
//!
//! A rank finds its framework's [contract](crate::contract) in its environment, the [job's own variables](variables), and two
//! paths: [`PROGRESS_FILE`], where it adds a [`Note`] a line, and [`ERROR_FILE`], where it leaves an [`ErrorFile`] when it
//! fails. A rank that runs a function of the program is such a worker as `kf_core::worker` tells of, with
//! [this request](request). What happens to the job goes to a [`JobFeed`], which does the rest.

use serde_json::Value;

use crate::JobSpec;
use crate::ranks::RankRequest;

pub use crate::error_file::{ERROR_FILE, ErrorFile};
pub use crate::launch::{JobFeed, Suspect, check_attempt_id, culprit};
pub use crate::progress::Note;
pub use crate::rank::PROGRESS_FILE;

/// The request of a worker that is a rank of a job with these arguments. Rank 0 tells its result as a [`Note::Result`].
pub fn request(args: &Value) -> Value {
    serde_json::json!(RankRequest { args: args.clone(), result: None })
}

/// The variables that each rank gets before its framework's, which win: the job's own, and `OMP_NUM_THREADS` where that is
/// to be set.
pub fn variables(spec: &JobSpec) -> Vec<(String, String)> {
    crate::launch::variables(spec, spec.ranks_per_node, false)
}
