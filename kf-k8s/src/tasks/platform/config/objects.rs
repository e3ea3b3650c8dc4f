use serde::Deserialize;

use crate::tasks::platform::InputParameter;

/// A Secret as a folder.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecretAsVolume {
    /// Deprecated: the Secret's name, where no parameter gives it.
    pub secret_name: String,
    /// What gives the Secret's name.
    pub secret_name_parameter: Option<InputParameter>,
    /// Where the container has the folder.
    pub mount_path: String,
    /// Whether the pod may start without the Secret; it may not where this is not given.
    pub optional: Option<bool>,
}

/// Keys of a Secret as environment variables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecretAsEnv {
    /// Deprecated: the Secret's name, where no parameter gives it.
    pub secret_name: String,
    /// What gives the Secret's name.
    pub secret_name_parameter: Option<InputParameter>,
    /// Which keys.
    pub key_to_env: Vec<SecretKeyToEnv>,
    /// Whether the pod may start without the Secret or the key; the cluster's rule, which is no, where not given.
    pub optional: Option<bool>,
}

/// A key of a Secret, and the environment variable that it becomes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecretKeyToEnv {
    /// The key.
    pub secret_key: String,
    /// The variable's name.
    pub env_var: String,
}

/// A ConfigMap as a folder.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigMapAsVolume {
    /// Deprecated: the ConfigMap's name, where no parameter gives it.
    pub config_map_name: String,
    /// What gives the ConfigMap's name.
    pub config_map_name_parameter: Option<InputParameter>,
    /// Where the container has the folder.
    pub mount_path: String,
    /// Whether the pod may start without the ConfigMap; it may not where this is not given.
    pub optional: Option<bool>,
}

/// Keys of a ConfigMap as environment variables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigMapAsEnv {
    /// Deprecated: the ConfigMap's name, where no parameter gives it.
    pub config_map_name: String,
    /// What gives the ConfigMap's name.
    pub config_map_name_parameter: Option<InputParameter>,
    /// Which keys.
    pub key_to_env: Vec<ConfigMapKeyToEnv>,
    /// Whether the pod may start without the ConfigMap or the key; the cluster's rule, which is no, where not given.
    pub optional: Option<bool>,
}

/// A key of a ConfigMap, and the environment variable that it becomes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigMapKeyToEnv {
    /// The key.
    pub config_map_key: String,
    /// The variable's name.
    pub env_var: String,
}

/// A Secret to pull images with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImagePullSecret {
    /// Deprecated: the Secret's name, where no parameter gives it.
    pub secret_name: String,
    /// What gives the Secret's name.
    pub secret_name_parameter: Option<InputParameter>,
}

/// A field of the pod as an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FieldPathAsEnv {
    /// The variable's name.
    pub name: String,
    /// The field, such as `metadata.annotations['a']`.
    pub field_path: String,
}
