use std::collections::BTreeMap;

use serde::Deserialize;

use crate::tasks::platform::number::whole;

/// Labels and annotations of an object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodMetadata {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
}

/// The user that a container runs as.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityContext {
    /// The user's number.
    #[serde(deserialize_with = "whole")]
    pub run_as_user: Option<i64>,
    /// The group's number.
    #[serde(deserialize_with = "whole")]
    pub run_as_group: Option<i64>,
    /// Whether user 0 is refused.
    pub run_as_non_root: Option<bool>,
}

/// A container that ends before the task starts, or runs beside it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InitContainer {
    /// Its name, which no other container of the pod has.
    pub name: String,
    /// Its image.
    pub image: String,
    /// The command instead of the image's entrypoint.
    pub command: Vec<String>,
    /// The command's arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<InitEnv>,
    /// Volumes of the pod that it has.
    pub volume_mounts: Vec<InitMount>,
    /// `Always` lets it run beside the task; nothing lets it end before.
    pub restart_policy: Option<String>,
    /// What it needs.
    pub resources: Option<InitResources>,
}

/// An environment variable of an init container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InitEnv {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A volume of the pod in an init container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InitMount {
    /// The volume: its `volumeName`, or the name of the claim, Secret or ConfigMap.
    pub volume_name: String,
    /// Where the container has it.
    pub mount_path: String,
}

/// What an init container needs, as amounts by resource, such as `cpu: 500m`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InitResources {
    /// What it gets at least.
    pub requests: BTreeMap<String, String>,
    /// What it gets at most.
    pub limits: BTreeMap<String, String>,
}
