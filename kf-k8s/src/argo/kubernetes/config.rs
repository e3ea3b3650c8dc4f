//! KFP's `KubernetesExecutorConfig` as far as it is carried over; other fields are refused.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use serde::Deserialize;
use serde_json::Value as Json;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Config {
    pub(super) secret_as_env: Vec<AsEnv>,
    pub(super) secret_as_volume: Vec<AsVolume>,
    pub(super) config_map_as_env: Vec<AsEnv>,
    pub(super) config_map_as_volume: Vec<AsVolume>,
    pub(super) pvc_mount: Vec<Json>,
    pub(super) empty_dir_mounts: Vec<EmptyDir>,
    pub(super) field_path_as_env: Vec<Field>,
    pub(super) node_selector: NodeSelector,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) pod_metadata: Metadata,
    pub(super) image_pull_policy: Option<String>,
    pub(super) active_deadline_seconds: Option<i32>,
    pub(super) security_context: Option<SecurityContext>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AsEnv {
    #[serde(alias = "configMapName")]
    pub(super) secret_name: Option<String>,
    #[serde(alias = "configMapNameParameter")]
    pub(super) secret_name_parameter: Option<Json>,
    pub(super) key_to_env: Vec<KeyToEnv>,
    pub(super) optional: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeyToEnv {
    #[serde(alias = "configMapKey")]
    pub(super) secret_key: String,
    pub(super) env_var: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AsVolume {
    #[serde(alias = "configMapName")]
    pub(super) secret_name: Option<String>,
    #[serde(alias = "configMapNameParameter")]
    pub(super) secret_name_parameter: Option<Json>,
    pub(super) mount_path: String,
    pub(super) optional: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EmptyDir {
    pub(super) volume_name: String,
    pub(super) mount_path: String,
    pub(super) medium: Option<String>,
    pub(super) size_limit: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) field_path: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodeSelector {
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SecurityContext {
    pub(super) run_as_user: Option<i64>,
    pub(super) run_as_group: Option<i64>,
    pub(super) run_as_non_root: Option<bool>,
}
