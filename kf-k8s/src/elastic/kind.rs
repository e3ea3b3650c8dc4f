//! The objects that carry elastic jobs.

use serde_json::{Value, json};

use crate::train::Kind;

/// What carries the pods of an elastic job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElasticKind {
    /// An indexed Job of Kubernetes itself, from version 1.31 on, with a headless service; needs nothing installed. Before a pod
    /// that ended is replaced, Kubernetes waits 10 seconds, twice as long each time, up to 10 minutes, however it ended.
    Job,
    /// A PyTorchJob of the training operator (`kubeflow.org/v1`) with an `elasticPolicy`, whose pods are replaced at once. The
    /// operator looks at the time that it may take only when something happens to the job. Delete no pod of it by force: the
    /// next one, of the same name, would run beside it for a while, and may wait for it without end.
    PyTorchJob,
}

impl From<ElasticKind> for Kind {
    fn from(kind: ElasticKind) -> Self {
        match kind {
            ElasticKind::Job => Self::Job,
            ElasticKind::PyTorchJob => Self::PyTorchJob,
        }
    }
}

impl ElasticKind {
    /// What of an object's `spec` says that it is to have so many pods.
    pub(super) fn scaled(self, nodes: usize) -> Value {
        match self {
            // Of an indexed Job both change together.
            Self::Job => json!({"parallelism": nodes, "completions": nodes}),
            Self::PyTorchJob => json!({"pytorchReplicaSpecs": {"Worker": {"replicas": nodes}}}),
        }
    }

    /// How many pods an object is to have.
    pub(super) fn wanted(self, object: &Value) -> usize {
        let pointer = match self {
            Self::Job => "/spec/parallelism",
            Self::PyTorchJob => "/spec/pytorchReplicaSpecs/Worker/replicas",
        };
        let found = object.pointer(pointer).and_then(Value::as_u64);
        found.and_then(|nodes| usize::try_from(nodes).ok()).unwrap_or(0)
    }
}
