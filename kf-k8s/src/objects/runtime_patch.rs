//! What a TrainJob changes in its runtime's template, from Trainer 2.2 on: labels, places, volumes, and more containers'
//! settings than the trainer's own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, PodSchedulingGate, PodSecurityContext, SecurityContext,
    Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use super::resource::or_empty;

/// One manager's changes to the runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimePatch {
    /// Who makes them, such as `example.com/team`; each manager has one entry.
    pub manager: String,
    /// When they were last written; the server sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_runtime_spec: Option<RuntimeSpecPatch>,
}

/// Changes to a runtime's spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeSpecPatch {
    /// Changes to the JobSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<JobSetPatch>,
}

/// Changes to the JobSet that a runtime's job becomes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSetPatch {
    /// Labels and annotations of the JobSet; nothing else may be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// Changes to its replicated jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<JobSetSpecPatch>,
}

/// Changes to a JobSet's replicated jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSetSpecPatch {
    /// One entry for each replicated job that changes.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub replicated_jobs: Vec<ReplicatedJobPatch>,
}

/// Changes to one replicated job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicatedJobPatch {
    /// The replicated job's name, such as `node`.
    pub name: String,
    /// Changes to its Jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<JobPatch>,
}

/// Changes to the Jobs of a replicated job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobPatch {
    /// Labels and annotations of the Jobs; nothing else may be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// Changes to their pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<JobSpecPatch>,
}

/// Changes to the pods of a Job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSpecPatch {
    /// Changes to the pods' template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplatePatch>,
}

/// Changes to a pod template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodTemplatePatch {
    /// Labels and annotations of the pods; nothing else may be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// Changes to what the pods are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<PodSpecPatch>,
}

/// Changes to a pod: the fields of a pod that may be changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpecPatch {
    /// The service account that the pods run as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Where pods should and should not be placed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints of nodes that the pods bear.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub tolerations: Vec<Toleration>,
    /// What must be lifted before the pods are scheduled.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub scheduling_gates: Vec<PodSchedulingGate>,
    /// The secrets to pull images with.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Users, groups and other rights of all containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
    /// Volumes for the containers to mount.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub volumes: Vec<Volume>,
    /// Changes to the init containers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub init_containers: Vec<ContainerPatch>,
    /// Changes to the containers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub containers: Vec<ContainerPatch>,
}

/// Changes to a container that the runtime has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPatch {
    /// The container's name.
    pub name: String,
    /// Environment variables, added to its own. Those of the trainer and the initializers are set there, not here.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub env: Vec<EnvVar>,
    /// What it mounts.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Its user, group and other rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
}
