//! The other kinds of the training operator. They differ in what their replicas are called and in a few fields.

use k8s_openapi::api::autoscaling::v2::MetricSpec;
use serde::{Deserialize, Serialize};

use super::job_status::JobStatus;
use super::resource::or_empty;
use super::run_policy::{CleanPodPolicy, ReplicaSpecs, RunPolicy};

custom_resource! {
    /// A TensorFlow job. The container that trains is called `tensorflow` and reads `TF_CONFIG`.
    TFJob is "tfjobs" of "kubeflow.org" "v1" in NamespaceResourceScope {
        spec: TFJobSpec,
        status: JobStatus,
    }
}

custom_resource! {
    /// An XGBoost job. The container that trains is called `xgboost`.
    XGBoostJob is "xgboostjobs" of "kubeflow.org" "v1" in NamespaceResourceScope {
        spec: XGBoostJobSpec,
        status: JobStatus,
    }
}

custom_resource! {
    /// An MPI job. The container that trains is called `mpi`.
    MPIJob is "mpijobs" of "kubeflow.org" "v1" in NamespaceResourceScope {
        spec: MPIJobSpec,
        status: JobStatus,
    }
}

custom_resource! {
    /// A PaddlePaddle job. The container that trains is called `paddle`.
    PaddleJob is "paddlejobs" of "kubeflow.org" "v1" in NamespaceResourceScope {
        spec: PaddleJobSpec,
        status: JobStatus,
    }
}

custom_resource! {
    /// A JAX job. The container that trains is called `jax`.
    JAXJob is "jaxjobs" of "kubeflow.org" "v1" in NamespaceResourceScope {
        spec: JAXJobSpec,
        status: JobStatus,
    }
}

/// What is asked for of TensorFlow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TFJobSpec {
    /// `Chief`, `Worker`, `PS` and `Evaluator`.
    pub tf_replica_specs: ReplicaSpecs,
    /// When the job ends, starts again and is cleaned up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_policy: Option<RunPolicy>,
    /// When the job has ended well: with its chief or first worker, the default, or `AllWorkers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_policy: Option<String>,
    /// Whether the number of workers may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_dynamic_worker: Option<bool>,
}

/// What is asked for of XGBoost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct XGBoostJobSpec {
    /// `Master`, which has one replica, and `Worker`.
    pub xgb_replica_specs: ReplicaSpecs,
    /// When the job ends, starts again and is cleaned up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_policy: Option<RunPolicy>,
}

/// What is asked for of MPI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MPIJobSpec {
    /// `Launcher`, which has one replica, and `Worker`.
    pub mpi_replica_specs: ReplicaSpecs,
    /// When the job ends, starts again and is cleaned up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_policy: Option<RunPolicy>,
    /// Processes in each worker, the slots of the host file. By default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_per_worker: Option<i32>,
    /// The container that trains, where it is not the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_container: Option<String>,
    /// Which pods are deleted when the job has ended, by default none. [`RunPolicy`] says it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean_pod_policy: Option<CleanPodPolicy>,
}

/// What is asked for of PaddlePaddle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PaddleJobSpec {
    /// `Master` and `Worker`.
    pub paddle_replica_specs: ReplicaSpecs,
    /// When the job ends, starts again and is cleaned up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_policy: Option<RunPolicy>,
    /// How the number of workers may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elastic_policy: Option<PaddleElasticPolicy>,
}

/// How the number of a PaddleJob's workers may change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PaddleElasticPolicy {
    /// The fewest workers that train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// The most workers that train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
    /// How often a pod may be started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<i32>,
    /// What decides how many workers there are.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub metrics: Vec<MetricSpec>,
}

/// What is asked for of JAX.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JAXJobSpec {
    /// `Worker`, whose first replica coordinates.
    pub jax_replica_specs: ReplicaSpecs,
    /// When the job ends, starts again and is cleaned up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_policy: Option<RunPolicy>,
}
