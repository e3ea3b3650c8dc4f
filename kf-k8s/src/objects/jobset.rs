//! JobSet: several Jobs that start, fail and end as one.

use k8s_openapi::api::batch::v1::JobTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

use super::resource::or_empty;

/// The label of a JobSet's Jobs and pods with its name.
pub const JOBSET_NAME_LABEL: &str = "jobset.sigs.k8s.io/jobset-name";
/// The label of a JobSet's Jobs and pods with the name of their replicated job.
pub const REPLICATED_JOB_LABEL: &str = "jobset.sigs.k8s.io/replicatedjob-name";
/// The label of a JobSet's Jobs and pods with the index of their Job in its replicated job.
pub const JOB_INDEX_LABEL: &str = "jobset.sigs.k8s.io/job-index";

/// The condition, and the terminal state, of a JobSet that has ended well.
pub const COMPLETED: &str = "Completed";
/// The condition, and the terminal state, of a JobSet that has ended otherwise.
pub const FAILED: &str = "Failed";
/// The condition of a JobSet that has been suspended, or with status `False` of one that goes on.
pub const SUSPENDED: &str = "Suspended";

custom_resource! {
    /// Several Jobs that start, fail and end as one.
    JobSet is "jobsets" of "jobset.x-k8s.io" "v1alpha2" in NamespaceResourceScope {
        spec: JobSetSpec,
        status: JobSetStatus,
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSetSpec {
    /// The Jobs, by template.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub replicated_jobs: Vec<ReplicatedJob>,
    /// How pods find each other. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// When the whole has ended well; by default when all Jobs have. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_policy: Option<SuccessPolicy>,
    /// What a failed Job does to the whole; by default that fails too. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,
    /// Whether to hold the Jobs: they have no pods while this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// The pod that every pod learns the name of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<Coordinator>,
    /// Seconds after its end when the JobSet is deleted; by default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Who carries the JobSet: `jobset.sigs.k8s.io/jobset-controller`, the default, or another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// Jobs of one template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicatedJob {
    /// Its name in the JobSet. Jobs are called `{JobSet}-{name}-{index}`.
    pub name: String,
    /// How many Jobs there are, by default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// What each Job is.
    pub template: JobTemplateSpec,
    /// What must have come before.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub depends_on: Vec<DependsOn>,
}

/// What a replicated job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependsOn {
    /// A replicated job that the JobSet has before this one.
    pub name: String,
    /// How far it must be.
    pub status: DependencyStatus,
}

/// How far a replicated job must be for another to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DependencyStatus {
    /// All its Jobs are ready.
    Ready,
    /// All its Jobs have ended well.
    Complete,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

/// How pods find each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Whether pods have names in DNS: `{JobSet}-{replicated job}-{Job's index}-{pod's index}.{subdomain}`. By default
    /// they have.
    #[serde(rename = "enableDNSHostnames", skip_serializing_if = "Option::is_none")]
    pub enable_dns_hostnames: Option<bool>,
    /// The subdomain of these names, by default the JobSet's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    /// Whether a pod has its name before it is ready, which it has by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_not_ready_addresses: Option<bool>,
}

/// When a JobSet has ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessPolicy {
    /// How many of the Jobs must have ended well.
    pub operator: Operator,
    /// Whose Jobs count; none named means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub target_replicated_jobs: Vec<String>,
}

/// How many of some Jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Every one.
    All,
    /// At least one.
    Any,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

/// What a failed Job does to its JobSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailurePolicy {
    /// How often the JobSet may be started again, by default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<i32>,
    /// How it is started again, by default [`RestartStrategy::Recreate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_strategy: Option<RestartStrategy>,
    /// What to do by the kind of failure. The first rule that fits is taken; where none does, the JobSet starts again.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub rules: Vec<FailureRule>,
}

/// How a JobSet starts again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartStrategy {
    /// Each Job is made anew as soon as its old one is gone.
    Recreate,
    /// Jobs are made anew when all old ones are gone.
    BlockingRecreate,
    /// Pods stay and their containers start again; only newer JobSets can.
    InPlaceRestart,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

/// What to do about one kind of failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRule {
    /// The rule's name, different from those of the others.
    pub name: String,
    /// What to do.
    pub action: FailureAction,
    /// The reasons of a Job's failure that it is for, such as `PodFailurePolicy`; none named means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub on_job_failure_reasons: Vec<String>,
    /// Regular expressions of which the failure's message must match one; none means any message. JobSet 0.8 has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub on_job_failure_message_patterns: Vec<String>,
    /// The replicated jobs that it is for; none named means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub target_replicated_jobs: Vec<String>,
}

/// What to do when a Job has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    /// Fail the JobSet, however many restarts are left.
    FailJobSet,
    /// Start the JobSet again, as long as restarts are left.
    RestartJobSet,
    /// Start the JobSet again and don't count it.
    RestartJobSetAndIgnoreMaxRestarts,
    /// Start this Job again, as long as restarts are left; only newer JobSets can.
    RestartJob,
    /// Start this Job again and don't count it; only newer JobSets can.
    RestartJobAndIgnoreMaxRestarts,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

/// The pod that every pod learns the name of, by the annotation `jobset.sigs.k8s.io/coordinator`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Coordinator {
    /// Its replicated job.
    pub replicated_job: String,
    /// Its Job's index, by default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_index: Option<i32>,
    /// Its index in the Job, by default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_index: Option<i32>,
}

/// How a JobSet stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSetStatus {
    /// [`COMPLETED`], [`FAILED`], [`SUSPENDED`] and others, each at most once.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub conditions: Vec<Condition>,
    /// How often the JobSet was started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i32>,
    /// How many of these count towards [`FailurePolicy::max_restarts`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts_count_towards_max: Option<i32>,
    /// [`COMPLETED`] or [`FAILED`] once the JobSet has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_state: Option<String>,
    /// The Jobs, by replicated job.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub replicated_jobs_status: Vec<ReplicatedJobStatus>,
}

/// How many Jobs of one replicated job are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicatedJobStatus {
    /// The replicated job's name.
    pub name: String,
    /// Those whose expected pods are all ready or have ended well.
    pub ready: i32,
    /// Those that ended well.
    pub succeeded: i32,
    /// Those that failed.
    pub failed: i32,
    /// Those with a pod that is pending or runs.
    pub active: i32,
    /// Those that are suspended.
    pub suspended: i32,
}

#[cfg(test)]
mod tests;
