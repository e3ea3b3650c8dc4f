//! What all jobs of the training operator ask for: replicas, and when a job ends, starts again and is cleaned up.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use super::resource::or_empty;

/// The replica that leads, of PyTorchJobs, XGBoostJobs and PaddleJobs.
pub const MASTER: &str = "Master";
/// The replicas that work, of all kinds.
pub const WORKER: &str = "Worker";
/// The replica that leads, of TFJobs.
pub const CHIEF: &str = "Chief";
/// The parameter servers, of TFJobs.
pub const PS: &str = "PS";
/// The replica that evaluates, of TFJobs.
pub const EVALUATOR: &str = "Evaluator";
/// The replica that calls `mpirun`, of MPIJobs.
pub const LAUNCHER: &str = "Launcher";

/// The label of a job's pods with its name.
pub const JOB_NAME_LABEL: &str = "training.kubeflow.org/job-name";
/// The label of a job's pods with the kind of replica in lower case, such as `worker`.
pub const REPLICA_TYPE_LABEL: &str = "training.kubeflow.org/replica-type";
/// The label of a job's pods with their index among the replicas of the kind.
pub const REPLICA_INDEX_LABEL: &str = "training.kubeflow.org/replica-index";

/// The replicas of a job, by kind: [`MASTER`], [`WORKER`] and so on.
pub type ReplicaSpecs = BTreeMap<String, ReplicaSpec>;

/// Replicas of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSpec {
    /// How many there are, by default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// When one that has ended starts again, by default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// The pod of each. The container that trains has the kind's own name, such as `pytorch`.
    pub template: PodTemplateSpec,
}

/// When a replica that has ended starts again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// When it failed.
    OnFailure,
    /// Never.
    Never,
    /// When its exit code, 128 or more, says that another try may help.
    ExitCode,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

/// When a job ends, starts again and is cleaned up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunPolicy {
    /// Which pods are deleted when the job has ended, by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean_pod_policy: Option<CleanPodPolicy>,
    /// Seconds after its end when the job is deleted, by default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Seconds that the job may take from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// How often pods may be started again before the job fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<i32>,
    /// Whether to hold the job: it has no pods while this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How all pods are scheduled at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduling_policy: Option<SchedulingPolicy>,
    /// Who carries the job: `kubeflow.org/training-operator`, the default, or `kueue.x-k8s.io/multikueue`. Immutable;
    /// training operator 1.8 has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// Which pods are deleted when a job has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CleanPodPolicy {
    /// All.
    All,
    /// Those that still run.
    Running,
    /// None.
    None,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

/// How all pods of a job are scheduled at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingPolicy {
    /// How many pods must have a place for any to start, by default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_available: Option<i32>,
    /// The queue. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// What must be free for any pod to start, by default what the pods request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_empty")]
    pub min_resources: BTreeMap<String, Quantity>,
    /// The priority class of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Seconds to wait for all pods to have a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_timeout_seconds: Option<i32>,
}
