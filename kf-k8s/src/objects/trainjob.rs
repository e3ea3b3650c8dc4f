//! TrainJob of Kubeflow Trainer 2: one training job on one training runtime.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, LocalObjectReference, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use super::resource::or_empty;
use super::runtime_patch::RuntimePatch;

/// The condition of a job that has been suspended, or with status `False` of one that goes on.
pub const SUSPENDED: &str = "Suspended";
/// The condition of a job that has ended well.
pub const COMPLETE: &str = "Complete";
/// The condition of a job that has ended otherwise.
pub const FAILED: &str = "Failed";

custom_resource! {
    /// One training job. Its name is a DNS label of RFC 1035 with at most 63 characters.
    TrainJob is "trainjobs" of "trainer.kubeflow.org" "v1alpha1" in NamespaceResourceScope {
        spec: TrainJobSpec,
        status: TrainJobStatus,
    }
}

/// What is asked for: a runtime, and what differs from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainJobSpec {
    /// The runtime to train on. Immutable.
    pub runtime_ref: RuntimeRef,
    /// What is fetched before the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initializer: Option<Initializer>,
    /// What the nodes run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trainer: Option<Trainer>,
    /// Labels for the JobSet and its Jobs. Only Trainer 2.0 and 2.1 have them; later ones have `runtime_patches`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the JobSet and its Jobs. Only Trainer 2.0 and 2.1 have them; later ones have `runtime_patches`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Changes to the runtime's template, one entry for each that makes some. From Trainer 2.2 on.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub runtime_patches: Vec<RuntimePatch>,
    /// Whether to hold the job: it has no pods while this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Seconds that the job may take from its start, or from when it was last resumed. Immutable; Trainer 2.0 has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// Who carries the job: `trainer.kubeflow.org/trainjob-controller`, the default, or `kueue.x-k8s.io/multikueue`.
    /// Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// Names a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeRef {
    /// The runtime's name; a `TrainingRuntime` is one of the job's namespace.
    pub name: String,
    /// Its API group, by default `trainer.kubeflow.org`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// `ClusterTrainingRuntime`, the default, or `TrainingRuntime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// What is fetched before the training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Initializer {
    /// The data to train on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<Source>,
    /// The model to begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Source>,
}

/// Where something is fetched from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Its URI, such as `hf://owner/name` or `s3://bucket/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,
    /// Environment variables for the container that fetches it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub env: Vec<EnvVar>,
    /// The secret with the credentials, in the job's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
}

/// What the nodes run; what is not set is as the runtime has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Trainer {
    /// The container's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The container's entry point.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub command: Vec<String>,
    /// The entry point's arguments.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub args: Vec<String>,
    /// Environment variables, added to the runtime's.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub env: Vec<EnvVar>,
    /// How many nodes train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_nodes: Option<i32>,
    /// What each node needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources_per_node: Option<ResourceRequirements>,
    /// How many processes train on each node, at least 1. Trainer 2.0 and 2.1 take `auto`, `cpu` and `gpu` as well, later
    /// ones a number only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_proc_per_node: Option<IntOrString>,
}

/// How a job stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainJobStatus {
    /// [`SUSPENDED`], [`COMPLETE`], [`FAILED`] and others, each at most once.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub conditions: Vec<Condition>,
    /// The Jobs under this one, by replicated job.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub jobs_status: Vec<ChildJobs>,
    /// What the training says of itself. Trainer 2.0 and 2.1 have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trainer_status: Option<TrainerStatus>,
}

/// How many Jobs of one replicated job are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChildJobs {
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

/// What the training says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainerStatus {
    /// How much is done, from 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_percentage: Option<i32>,
    /// Seconds that are left, as far as the training can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<i32>,
    /// Current metrics.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub metrics: Vec<Metric>,
    /// When the training said so. A server requires it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_time: Option<Time>,
}

/// One metric of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metric {
    /// Its name, such as `loss`.
    pub name: String,
    /// Its value as text.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(status: serde_json::Value) -> TrainJobStatus {
        let job: TrainJob = serde_json::from_value(json!({"spec": {}, "status": status})).unwrap();
        job.status.unwrap()
    }

    #[test]
    fn the_status_of_a_job_that_trains_is_read() {
        let status = read(json!({
            "conditions": [{
                "lastTransitionTime": "2026-03-01T10:00:05Z", "message": "TrainJob is resumed",
                "reason": "Resumed", "status": "False", "type": "Suspended",
            }],
            "jobsStatus": [
                {"name": "dataset-initializer", "ready": 0, "succeeded": 1, "failed": 0, "active": 0, "suspended": 0},
                {"name": "node", "ready": 1, "succeeded": 0, "failed": 0, "active": 1, "suspended": 0},
            ],
            "trainerStatus": {
                "progressPercentage": 42, "estimatedRemainingSeconds": 780,
                "metrics": [{"name": "loss", "value": "0.25"}],
                "lastUpdatedTime": "2026-03-01T10:07:00Z",
            },
        }));
        assert_eq!(
            (status.conditions[0].type_.as_str(), status.conditions[0].status.as_str()),
            (SUSPENDED, "False")
        );
        let node = ChildJobs { name: "node".into(), ready: 1, active: 1, ..Default::default() };
        assert_eq!(status.jobs_status[1], node);
        let trainer = status.trainer_status.unwrap();
        assert_eq!((trainer.progress_percentage, trainer.estimated_remaining_seconds), (Some(42), Some(780)));
        assert_eq!(trainer.metrics, [Metric { name: "loss".into(), value: "0.25".into() }]);
        assert_eq!(trainer.last_updated_time.unwrap().0.as_second(), 1_772_359_620);
    }

    #[test]
    fn the_status_of_an_older_trainer_is_read() {
        let status = read(json!({
            "conditions": [{
                "lastTransitionTime": "2026-03-01T10:09:00Z", "message": "jobset completed successfully",
                "reason": "AllJobsCompleted", "status": "True", "type": "Complete",
            }],
            "jobsStatus": null,
        }));
        assert_eq!(status.conditions[0].type_, COMPLETE);
        assert_eq!((status.jobs_status, status.trainer_status), (Vec::new(), None));
    }

    #[test]
    fn processes_per_node_are_a_number_or_a_word() {
        for (written, expected) in
            [(json!("auto"), IntOrString::String("auto".into())), (json!(4), IntOrString::Int(4))]
        {
            let trainer: Trainer = serde_json::from_value(json!({"numProcPerNode": written})).unwrap();
            assert_eq!(trainer.num_proc_per_node, Some(expected));
            assert_eq!(serde_json::to_value(trainer).unwrap(), json!({"numProcPerNode": written}));
        }
    }
}
