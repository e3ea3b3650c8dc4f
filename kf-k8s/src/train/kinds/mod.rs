//! The objects that carry a job's ranks.

mod job;
mod jobset;
mod pytorchjob;
mod trainjob;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kf_train::JobSpec;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::options::PodOptions;
use crate::objects::pytorchjob::CONTAINER;
use crate::objects::run_policy::REPLICA_INDEX_LABEL;
use crate::objects::training_runtime::TrainingRuntimeSpec;

/// What carries the ranks of a job.
///
/// Whoever sets `suspend` in such an object's `spec` (a PyTorchJob's `spec.runPolicy`) ends the job's ranks without a failure,
/// and starts them anew by setting it back: [`JobEvent::Waiting`](kf_train::JobEvent::Waiting) tells of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// An indexed Job of Kubernetes itself, with a headless service; needs nothing installed.
    Job,
    /// A JobSet (`jobset.x-k8s.io`), which Kubeflow Trainer is made of.
    JobSet,
    /// A TrainJob of Kubeflow Trainer (`trainer.kubeflow.org`), of a TrainingRuntime that is made for it. It has no time after
    /// which it goes: delete it when it has ended.
    TrainJob,
    /// A PyTorchJob of the training operator (`kubeflow.org/v1`), of workers alone. A
    /// [`timeout`](kf_train::JobSpec::timeout) is kept only while a launcher has the job in hand, since the operator does not
    /// look at the time by itself. One that was suspended may be resumed once its pods have gone: the operator takes those that
    /// still end for failed ones.
    PyTorchJob,
}

/// How an object that carries a job's ranks fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Its ranks run, or will.
    Active,
    /// Somebody has suspended it: it has no pods until this field is false.
    Suspended { field: &'static str },
    /// All ranks have succeeded.
    Succeeded,
    /// It has failed, and its pods have ended or will.
    Failed {
        /// Whether its time was over.
        late: bool,
        message: String,
    },
}

/// What a Job says whose time was over.
pub(super) const LATE: &str = "DeadlineExceeded";

/// The object's `spec`, and the runtime of its name that it needs.
pub(super) struct Made {
    pub(super) spec: Value,
    pub(super) runtime: Option<TrainingRuntimeSpec>,
}

/// What an object is made after.
pub(super) struct Draft<'a> {
    pub(super) spec: &'a JobSpec,
    pub(super) options: &'a PodOptions,
    /// The object's name.
    pub(super) name: &'a str,
    pub(super) template: PodTemplateSpec,
    /// Seconds that are left to the job.
    pub(super) seconds: Option<i64>,
}

impl Kind {
    /// Those that a cluster may lack, the best first.
    pub(crate) const INSTALLED: [Self; 3] = [Self::TrainJob, Self::JobSet, Self::PyTorchJob];

    pub(crate) fn resource(self) -> ApiResource {
        let (group, version, kind) = match self {
            Self::Job => ("batch", "v1", "Job"),
            Self::JobSet => ("jobset.x-k8s.io", "v1alpha2", "JobSet"),
            Self::TrainJob => ("trainer.kubeflow.org", "v1alpha1", "TrainJob"),
            Self::PyTorchJob => ("kubeflow.org", "v1", "PyTorchJob"),
        };
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    }

    /// The names of the pods' hosts, by which they find one another.
    pub(crate) fn hosts(self, name: &str, nodes: usize) -> Vec<String> {
        (0..nodes).map(|node| self.host(name, &node.to_string())).collect()
    }

    /// The name of the host of the pod of this number.
    pub(crate) fn host(self, name: &str, node: &str) -> String {
        match self {
            // Each has a service of its name, which is the pod's.
            Self::PyTorchJob => format!("{name}-worker-{node}"),
            Self::Job => format!("{name}-{node}.{name}"),
            Self::JobSet | Self::TrainJob => format!("{name}-{}-0-{node}.{name}", jobset::JOB),
        }
    }

    /// Whether the object comes with no service of its own that gives the hosts their names.
    pub(crate) fn needs_service(self) -> bool {
        match self {
            Self::Job => true,
            Self::JobSet | Self::TrainJob | Self::PyTorchJob => false,
        }
    }

    /// The names of what makes an object's pods, itself or by others.
    pub(super) fn makers(self, name: &str) -> Vec<String> {
        match self {
            Self::Job | Self::PyTorchJob => vec![name.to_owned()],
            // A TrainJob's JobSet has its name.
            Self::JobSet | Self::TrainJob => vec![name.to_owned(), format!("{name}-{}-0", jobset::JOB)],
        }
    }

    /// The label with a pod's number in the job.
    pub(crate) fn index_label(self) -> &'static str {
        match self {
            Self::Job | Self::JobSet | Self::TrainJob => "batch.kubernetes.io/job-completion-index",
            Self::PyTorchJob => REPLICA_INDEX_LABEL,
        }
    }

    /// The name of the container of a rank of this number in its pod.
    pub(crate) fn container(self, local_rank: usize) -> String {
        match (self, local_rank) {
            // As the operators want it.
            (Self::TrainJob, 0) => jobset::JOB.to_owned(),
            (Self::PyTorchJob, 0) => CONTAINER.to_owned(),
            (_, local_rank) => format!("rank-{local_rank}"),
        }
    }

    /// What the object is made of.
    ///
    /// # Errors
    /// What can't be written as JSON.
    pub(super) fn make(self, draft: Draft<'_>) -> Result<Made, serde_json::Error> {
        Ok(match self {
            Self::Job => Made { spec: serde_json::to_value(job::spec(draft))?, runtime: None },
            Self::JobSet => Made { spec: serde_json::to_value(jobset::spec(draft))?, runtime: None },
            Self::PyTorchJob => Made { spec: serde_json::to_value(pytorchjob::spec(draft))?, runtime: None },
            Self::TrainJob => Made {
                spec: serde_json::to_value(trainjob::spec(draft.name))?,
                runtime: Some(trainjob::runtime(draft)),
            },
        })
    }

    /// How an object fares.
    pub(crate) fn state(self, object: &DynamicObject) -> State {
        let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let holds = |kind: &str| {
            let conditions = conditions.into_iter().flatten();
            conditions.clone().find(|condition| condition["type"] == kind && condition["status"] == "True")
        };
        let text = |condition: &Value, name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        let (succeeded, failed) = match self {
            Self::Job | Self::TrainJob => ("Complete", "Failed"),
            Self::JobSet => ("Completed", "Failed"),
            Self::PyTorchJob => ("Succeeded", "Failed"),
        };
        if let Some(condition) = holds(failed) {
            let (reason, message) = (text(condition, "reason"), text(condition, "message"));
            let late = reason == LATE || (self == Self::PyTorchJob && message.contains(pytorchjob::LATE));
            return State::Failed { late, message: format!("{reason}: {message}") };
        }
        if holds(succeeded).is_some() {
            return State::Succeeded;
        }
        let (pointer, field) = match self {
            Self::PyTorchJob => ("/spec/runPolicy/suspend", "spec.runPolicy.suspend"),
            Self::Job | Self::JobSet | Self::TrainJob => ("/spec/suspend", "spec.suspend"),
        };
        match object.data.pointer(pointer) {
            Some(Value::Bool(true)) => State::Suspended { field },
            _ => State::Active,
        }
    }

    /// When an object's time is over, in seconds since 1970, where its operator has to be told.
    pub(super) fn due(self, object: &DynamicObject) -> Option<i64> {
        match self {
            Self::PyTorchJob => pytorchjob::due(object),
            Self::Job | Self::JobSet | Self::TrainJob => None,
        }
    }

    /// What selects the Jobs that an object has made, where it tells less than they do.
    pub(crate) fn jobs_of(self, name: &str) -> Option<String> {
        match self {
            Self::Job | Self::PyTorchJob => None,
            // A TrainJob's JobSet has its name.
            Self::JobSet | Self::TrainJob => {
                Some(format!("{}={name}", crate::objects::jobset::JOBSET_NAME_LABEL))
            }
        }
    }

    /// What makes an object's pods go.
    pub(super) fn suspended(self) -> Value {
        match self {
            Self::PyTorchJob => json!({"runPolicy": {"suspend": true}}),
            Self::Job | Self::JobSet | Self::TrainJob => json!({"suspend": true}),
        }
    }
}

#[cfg(test)]
mod tests;
