//! What a pipeline asks of the platform `kubernetes` for one executor: KFP's `KubernetesExecutorConfig`, of
//! `kubernetes_platform/proto/kubernetes_executor_config.proto`, in protobuf's JSON.
//!
//! A field that is not here is an error, since it would be dropped in silence. Deprecated names of objects are read where
//! nothing else gives the name, for files of earlier SDKs.

mod containers;
mod objects;
mod scheduling;
mod volumes;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

pub use containers::{InitContainer, InitEnv, InitMount, InitResources, PodMetadata, SecurityContext};
pub use objects::{
    ConfigMapAsEnv, ConfigMapAsVolume, ConfigMapKeyToEnv, FieldPathAsEnv, ImagePullSecret, SecretAsEnv,
    SecretAsVolume, SecretKeyToEnv,
};
pub use scheduling::{
    NodeAffinityTerm, NodeSelector, PodAffinityTerm, PodResourceClaim, SelectorRequirement, Toleration,
};
pub use volumes::{EmptyDirMount, EnabledSharedMemory, GenericEphemeralVolume, PvcMount};

use super::PlatformError;
use super::number::whole;

/// What a pipeline asks for, for the pods of one executor.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// Secrets as folders, with a file for each key.
    pub secret_as_volume: Vec<SecretAsVolume>,
    /// Keys of Secrets as environment variables.
    pub secret_as_env: Vec<SecretAsEnv>,
    /// Volume claims as folders.
    pub pvc_mount: Vec<PvcMount>,
    /// Labels that a node must have.
    pub node_selector: Option<NodeSelector>,
    /// Labels and annotations of the pod.
    pub pod_metadata: Option<PodMetadata>,
    /// Secrets to pull images with.
    pub image_pull_secret: Vec<ImagePullSecret>,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`; the cluster's rule where empty.
    pub image_pull_policy: String,
    /// ConfigMaps as folders, with a file for each key.
    pub config_map_as_volume: Vec<ConfigMapAsVolume>,
    /// Keys of ConfigMaps as environment variables.
    pub config_map_as_env: Vec<ConfigMapAsEnv>,
    /// How long the pod may run, in seconds; without bound where it is not above 0.
    #[serde(deserialize_with = "whole")]
    pub active_deadline_seconds: Option<i64>,
    /// Fields of the pod as environment variables.
    pub field_path_as_env: Vec<FieldPathAsEnv>,
    /// Taints of nodes that the pod bears.
    pub tolerations: Vec<Toleration>,
    /// Volumes that are made with the pod and go with it.
    pub generic_ephemeral_volume: Vec<GenericEphemeralVolume>,
    /// Nodes that the pod goes to.
    pub node_affinity: Vec<NodeAffinityTerm>,
    /// Pods that the pod goes, or doesn't go, beside.
    pub pod_affinity: Vec<PodAffinityTerm>,
    /// Shared memory at `/dev/shm`.
    pub enabled_shared_memory: Option<EnabledSharedMemory>,
    /// Folders that are empty at first and go with the pod.
    pub empty_dir_mounts: Vec<EmptyDirMount>,
    /// The user that the container runs as.
    pub security_context: Option<SecurityContext>,
    /// Containers that run before, or beside, the task.
    pub init_containers: Vec<InitContainer>,
    /// Devices by dynamic allocation.
    pub pod_resource_claims: Vec<PodResourceClaim>,
}

impl KubernetesConfig {
    /// Reads an executor's entry, an object of `platforms.kubernetes.deploymentSpec.executors`.
    ///
    /// # Errors
    /// [`PlatformError::Unreadable`] with the place of the first field that is not known or is of another type.
    pub fn read(fields: &Map<String, Json>) -> Result<Self, PlatformError> {
        Self::deserialize(fields).map_err(|error| located(fields, &error.to_string()))
    }
}

/// The error with its place, which is found by reading one part at a time.
fn located(fields: &Map<String, Json>, whole: &str) -> PlatformError {
    let parts = fields.iter().flat_map(|(key, value)| match value {
        Json::Array(items) => {
            let part = |(index, item)| (format!("/{key}/{index}"), json!({ key: [item] }));
            items.iter().enumerate().map(part).collect::<Vec<_>>()
        }
        _ => vec![(format!("/{key}"), json!({ key: value }))],
    });
    let failed = parts.into_iter().find_map(|(pointer, part)| {
        let error = KubernetesConfig::deserialize(part).err()?;
        Some(PlatformError::Unreadable { pointer, problem: error.to_string() })
    });
    failed.unwrap_or_else(|| PlatformError::Unreadable { pointer: "/".into(), problem: whole.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_named_with_its_place() {
        for (config, pointer, named) in [
            (json!({"hostNetwork": true}), "/hostNetwork", "`hostNetwork`"),
            (json!({"hostAliases": [{"ip": "10.0.0.1"}]}), "/hostAliases/0", "`hostAliases`"),
            (json!({"securityContext": {"privileged": true}}), "/securityContext", "`privileged`"),
            (
                json!({"emptyDirMounts": [{"volumeName": "a", "mountPath": "/a"}, {"readOnly": true}]}),
                "/emptyDirMounts/1",
                "`readOnly`",
            ),
            (json!({"pvcMount": {}}), "/pvcMount", "sequence"),
            (json!({"pvcMount": [{"mountPath": 5}]}), "/pvcMount/0", "string"),
            (json!({"activeDeadlineSeconds": "soon"}), "/activeDeadlineSeconds", "soon"),
            (json!({"nodeAffinity": [{"weight": 1.5}]}), "/nodeAffinity/0", "1.5"),
            (
                json!({"secretAsEnv": [{"secretNameParameter": {"taskFinalStatus": {}}}]}),
                "/secretAsEnv/0",
                "`taskFinalStatus`",
            ),
        ] {
            let error = KubernetesConfig::read(config.as_object().unwrap()).unwrap_err();
            let PlatformError::Unreadable { pointer: at, problem } = &error else { panic!("{error}") };
            assert_eq!(at, pointer);
            assert!(problem.contains(named), "{error}");
        }
    }
}
