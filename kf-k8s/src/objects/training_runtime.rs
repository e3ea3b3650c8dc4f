//! TrainingRuntime and ClusterTrainingRuntime of Kubeflow Trainer 2: what a TrainJob is carried out with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use super::jobset::JobSetSpec;
use super::volcano::NetworkTopology;

/// The label that tells which part of a TrainJob a replicated job's template is.
pub const ANCESTOR_STEP_LABEL: &str = "trainer.kubeflow.org/trainjob-ancestor-step";
/// The value of [`ANCESTOR_STEP_LABEL`] for the template that trains.
pub const TRAINER_STEP: &str = "trainer";
/// The value of [`ANCESTOR_STEP_LABEL`] for the template that fetches the data.
pub const DATASET_INITIALIZER_STEP: &str = "dataset-initializer";
/// The value of [`ANCESTOR_STEP_LABEL`] for the template that fetches the model.
pub const MODEL_INITIALIZER_STEP: &str = "model-initializer";
/// The name that the replicated job that trains has, and the container in it.
pub const NODE: &str = "node";

custom_resource! {
    /// A runtime for the TrainJobs of its namespace.
    TrainingRuntime is "trainingruntimes" of "trainer.kubeflow.org" "v1alpha1" in NamespaceResourceScope {
        spec: TrainingRuntimeSpec,
    }
}

custom_resource! {
    /// A runtime for the TrainJobs of all namespaces.
    ClusterTrainingRuntime is "clustertrainingruntimes" of "trainer.kubeflow.org" "v1alpha1" in ClusterResourceScope {
        spec: TrainingRuntimeSpec,
    }
}

/// How TrainJobs are carried out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainingRuntimeSpec {
    /// The framework, and how many nodes it trains on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ml_policy: Option<MlPolicy>,
    /// How all pods of a job are scheduled at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_group_policy: Option<PodGroupPolicy>,
    /// The JobSet that a TrainJob becomes.
    pub template: JobSetTemplate,
}

/// The JobSet that a TrainJob becomes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSetTemplate {
    /// Labels and annotations of the JobSet; its name and namespace are the TrainJob's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// What it is.
    pub spec: JobSetSpec,
}

/// The framework, of which at most one may be set, and how many nodes it trains on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MlPolicy {
    /// How many nodes train, by default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_nodes: Option<i32>,
    /// PyTorch: the nodes have torchrun's `PET_…` variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torch: Option<TorchPolicy>,
    /// MPI: there are a host file and SSH keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mpi: Option<MpiPolicy>,
    /// JAX: the nodes have its coordinator's address. Trainer 2.0 has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jax: Option<JaxPolicy>,
    /// XGBoost: the nodes have its tracker's address. Trainer 2.0 has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xgboost: Option<XgboostPolicy>,
    /// Flux, a manager of jobs within a job. Trainer 2.0 has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flux: Option<FluxPolicy>,
}

/// PyTorch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TorchPolicy {
    /// How many processes train on each node: a number, `auto`, `cpu` or `gpu`. Trainer 2.0 has this field; later ones
    /// have it in the TrainJob only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_proc_per_node: Option<IntOrString>,
}

/// MPI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MpiPolicy {
    /// How many processes train on each node, the slots of the host file. By default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_proc_per_node: Option<i32>,
    /// Whose host file it is: `OpenMPI`, the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mpi_implementation: Option<String>,
    /// Where the SSH keys are, by default `/root/.ssh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_auth_mount_path: Option<String>,
    /// Whether the launcher trains too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_launcher_as_node: Option<bool>,
}

/// JAX, which has nothing to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JaxPolicy {}

/// XGBoost, which has nothing to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct XgboostPolicy {}

/// Flux.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FluxPolicy {
    /// How many processes run on each node, by default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_proc_per_node: Option<i32>,
}

/// How all pods of a job are scheduled at once: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodGroupPolicy {
    /// By the coscheduling plug-in of scheduler-plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coscheduling: Option<Coscheduling>,
    /// By Volcano.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volcano: Option<Volcano>,
}

/// Settings of the coscheduling plug-in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Coscheduling {
    /// Seconds to wait for all pods to have a place, by default 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_timeout_seconds: Option<i32>,
}

/// Settings of Volcano.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volcano {
    /// How near to each other the pods must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_topology: Option<NetworkTopology>,
}
