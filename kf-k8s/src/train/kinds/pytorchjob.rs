//! PyTorchJobs of the training operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DynamicObject;
use serde::Deserialize;

use super::{Draft, job};
use crate::objects::pytorchjob::PyTorchJobSpec;
use crate::objects::run_policy::{CleanPodPolicy, ReplicaSpec, RestartPolicy, RunPolicy, WORKER};

/// What the operator says of a job whose time was over.
pub(super) const LATE: &str = "active longer than specified deadline";

/// A PyTorchJob of workers alone: with a master, whose environment the operator makes up, the workers' ranks would begin at
/// 1, and wait for it in a container that PodSecurity's `restricted` refuses.
pub(super) fn spec(draft: Draft<'_>) -> PyTorchJobSpec {
    let nodes = job::nodes(&draft);
    let run_policy = RunPolicy {
        // A failed pod stays, for its log.
        clean_pod_policy: Some(CleanPodPolicy::Running),
        ttl_seconds_after_finished: Some(job::keep(&draft)),
        active_deadline_seconds: draft.seconds,
        // With one, the operator deletes the failed pod before it writes that the job has failed; where that write is refused,
        // it looks again, sees no failure, and makes the pod anew.
        backoff_limit: None,
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

/// When a job's time is over, in seconds since 1970. The operator sees that only when something else happens to the job.
pub(super) fn due(object: &DynamicObject) -> Option<i64> {
    let began = Time::deserialize(object.data.pointer("/status/startTime")?).ok()?.0.as_second();
    let seconds = object.data.pointer("/spec/runPolicy/activeDeadlineSeconds")?.as_i64()?;
    Some(began.saturating_add(seconds))
}
