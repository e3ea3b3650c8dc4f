//! How a job of the training operator stands, of whichever kind.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::resource::or_empty;

/// The condition of a job that its controller has taken up.
pub const CREATED: &str = "Created";
/// The condition of a job whose pods run; status `False` once they don't any more.
pub const RUNNING: &str = "Running";
/// The condition of a job with a pod that is started again.
pub const RESTARTING: &str = "Restarting";
/// The condition of a job that has been suspended, or with status `False` of one that goes on.
pub const SUSPENDED: &str = "Suspended";
/// The condition of a job that has ended well.
pub const SUCCEEDED: &str = "Succeeded";
/// The condition of a job that has ended otherwise.
pub const FAILED: &str = "Failed";

/// How a job stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// [`CREATED`], [`RUNNING`] and so on, each at most once.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub conditions: Vec<JobCondition>,
    /// The pods, by kind of replica.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_empty")]
    pub replica_statuses: BTreeMap<String, ReplicaStatus>,
    /// When the controller took the job up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}

/// One thing that is, was or is not so of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobCondition {
    /// What it is about, such as [`RUNNING`].
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When anything of it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When its status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

/// How many pods of one kind of replica are in which state; none of a state may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaStatus {
    /// Those that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<i32>,
    /// Those that ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<i32>,
    /// Those that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<i32>,
    /// The labels that find them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::PyTorchJob;
    use crate::objects::run_policy::{MASTER, WORKER};

    fn read(status: serde_json::Value) -> JobStatus {
        let job: PyTorchJob = serde_json::from_value(json!({
            "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": "ptj"},
            "spec": {"pytorchReplicaSpecs": {}}, "status": status,
        }))
        .unwrap();
        job.status.unwrap()
    }

    #[test]
    fn the_status_of_a_job_that_has_ended_is_read() {
        let status = read(json!({
            "completionTime": "2026-03-01T10:00:09Z",
            "conditions": [
                {
                    "lastTransitionTime": "2026-03-01T10:00:00Z", "lastUpdateTime": "2026-03-01T10:00:00Z",
                    "message": "PyTorchJob ptj is created.", "reason": "PyTorchJobCreated", "status": "True", "type": "Created",
                },
                {
                    "lastTransitionTime": "2026-03-01T10:00:09Z", "lastUpdateTime": "2026-03-01T10:00:09Z",
                    "message": "PyTorchJob default/ptj is running.", "reason": "PyTorchJobRunning", "status": "False",
                    "type": "Running",
                },
                {
                    "lastTransitionTime": "2026-03-01T10:00:09Z", "lastUpdateTime": "2026-03-01T10:00:09Z",
                    "message": "PyTorchJob ptj is successfully completed.", "reason": "PyTorchJobSucceeded", "status": "True",
                    "type": "Succeeded",
                },
            ],
            "replicaStatuses": {
                "Master": {"selector": "training.kubeflow.org/job-name=ptj", "succeeded": 1},
                "Worker": {},
            },
            "startTime": "2026-03-01T10:00:00Z",
        }));
        let told: Vec<_> =
            status.conditions.iter().map(|one| (one.type_.as_str(), one.status.as_str())).collect();
        assert_eq!(told, [(CREATED, "True"), (RUNNING, "False"), (SUCCEEDED, "True")]);
        assert_eq!(status.conditions[2].reason.as_deref(), Some("PyTorchJobSucceeded"));
        assert_eq!(status.replica_statuses[MASTER].succeeded, Some(1));
        assert_eq!(status.replica_statuses[WORKER], ReplicaStatus::default());
        let seconds = |time: Option<Time>| time.unwrap().0.as_second();
        assert_eq!(seconds(status.completion_time) - seconds(status.start_time), 9);
    }

    #[test]
    fn what_an_operator_has_not_begun_to_tell_is_empty() {
        assert_eq!(read(json!({"conditions": null, "replicaStatuses": null})), JobStatus::default());
    }
}
