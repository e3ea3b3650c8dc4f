use serde::Deserialize;

use super::PodMetadata;
use crate::tasks::platform::InputParameter;
use crate::tasks::platform::parameter::TaskOutput;

/// A volume claim as a folder.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PvcMount {
    /// Deprecated: the output that gives the claim's name, where `pvc_name_parameter` does not.
    pub task_output_parameter: Option<TaskOutput>,
    /// Deprecated: the claim's name, likewise.
    pub constant: String,
    /// Deprecated: the input that gives the claim's name, likewise.
    pub component_input_parameter: String,
    /// What gives the claim's name.
    pub pvc_name_parameter: Option<InputParameter>,
    /// Where the container has the folder.
    pub mount_path: String,
    /// The folder within the volume; all of it where empty.
    pub sub_path: String,
}

/// A volume that is made with the pod and goes with it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GenericEphemeralVolume {
    /// The volume's name in the pod.
    pub volume_name: String,
    /// Where the container has it.
    pub mount_path: String,
    /// Who may mount it, such as `ReadWriteOnce`.
    pub access_modes: Vec<String>,
    /// How much it holds, such as `5Gi`.
    pub size: String,
    /// Whether it is of the cluster's default class.
    pub default_storage_class: bool,
    /// Its class otherwise; of none, which only a volume made beforehand fits, where empty.
    pub storage_class_name: String,
    /// Labels and annotations of the claim that is made.
    pub metadata: Option<PodMetadata>,
}

/// A folder that is empty at first and goes with the pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EmptyDirMount {
    /// The volume's name in the pod.
    pub volume_name: String,
    /// Where the container has it.
    pub mount_path: String,
    /// `Memory`, or the node's own medium where not given or empty.
    pub medium: Option<String>,
    /// The most that it may hold, such as `1Gi`; without bound where not given or empty.
    pub size_limit: Option<String>,
}

/// Shared memory at `/dev/shm`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EnabledSharedMemory {
    /// The volume's name in the pod; `shm` where empty.
    pub volume_name: String,
    /// The most that it may hold, such as `1Gi`; without bound but the container's memory where empty.
    pub size: String,
}
