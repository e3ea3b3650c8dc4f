//! PyTorchJobs of the training operator.

use super::{Draft, job};
use crate::objects::pytorchjob::PyTorchJobSpec;
use crate::objects::run_policy::{CleanPodPolicy, ReplicaSpec, RestartPolicy, RunPolicy, WORKER};

/// A PyTorchJob of workers alone: with a master, whose environment the operator makes up, the workers' ranks would begin at
/// 1, and wait for it in a container that PodSecurity's `restricted` refuses.
pub(super) fn spec(draft: Draft<'_>) -> PyTorchJobSpec {
    let nodes = i32::try_from(draft.spec.nodes).unwrap_or(i32::MAX);
    let run_policy = RunPolicy {
        // The first that succeeds makes the job a success; the others are not to end with it.
        clean_pod_policy: Some(CleanPodPolicy::None),
        ttl_seconds_after_finished: Some(job::keep(&draft)),
        active_deadline_seconds: draft.seconds,
        backoff_limit: Some(0),
        ..RunPolicy::default()
    };
    let mut template = draft.template;
    // The operator has a service for each pod.
    if let Some(pod) = &mut template.spec {
        pod.subdomain = None;
    }
    let worker = ReplicaSpec { replicas: Some(nodes), restart_policy: Some(RestartPolicy::Never), template };
    PyTorchJobSpec {
        pytorch_replica_specs: [(WORKER.to_owned(), worker)].into(),
        run_policy: Some(run_policy),
        ..PyTorchJobSpec::default()
    }
}
