//! PyTorchJob of the training operator.

use k8s_openapi::api::autoscaling::v2::MetricSpec;
use serde::{Deserialize, Serialize};

use super::job_status::JobStatus;
use super::resource::or_empty;
use super::run_policy::{ReplicaSpecs, RunPolicy};

/// The name that the container that trains has.
pub const CONTAINER: &str = "pytorch";

custom_resource! {
    /// A PyTorch job: a master and workers that find each other by torch.distributed's environment variables.
    PyTorchJob is "pytorchjobs" of "kubeflow.org" "v1" in NamespaceResourceScope {
        spec: PyTorchJobSpec,
        status: JobStatus,
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PyTorchJobSpec {
    /// `Master`, which has one replica, and `Worker`.
    pub pytorch_replica_specs: ReplicaSpecs,
    /// When the job ends, starts again and is cleaned up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_policy: Option<RunPolicy>,
    /// Processes in each pod: a number, `auto`, `cpu` or `gpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nproc_per_node: Option<String>,
    /// How the number of workers may change; the workers then run torchrun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elastic_policy: Option<ElasticPolicy>,
}

/// How the number of workers may change, and how torchrun brings them together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ElasticPolicy {
    /// The fewest workers that train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// The most workers that train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
    /// How often the workers of a pod may be started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<i32>,
    /// Where the workers meet: `c10d`, `etcd` or `etcd-v2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdzv_backend: Option<String>,
    /// The host where they meet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdzv_host: Option<String>,
    /// The port where they meet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdzv_port: Option<i32>,
    /// The name of their meeting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdzv_id: Option<String>,
    /// More settings of their meeting.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub rdzv_conf: Vec<RdzvConf>,
    /// Whether a single pod meets by itself, without host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standalone: Option<bool>,
    /// What decides how many workers there are.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub metrics: Vec<MetricSpec>,
}

/// A setting of torchrun's rendezvous.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RdzvConf {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}
