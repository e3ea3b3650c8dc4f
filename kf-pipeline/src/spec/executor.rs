//! Executors: how components that are not DAGs are carried out.

use serde::{Deserialize, Serialize};

use super::{ArtifactType, Extra, Named, RuntimeValue};

/// Executors by label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// The executors.
    #[serde(default, skip_serializing_if = "Named::is_empty")]
    pub executors: Named<Executor>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executor {
    /// How it carries a component out.
    #[serde(flatten)]
    pub spec: ExecutorSpec,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl From<ExecutorSpec> for Executor {
    fn from(spec: ExecutorSpec) -> Self {
        Self { spec, extra: Extra::new() }
    }
}

/// How a component is carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ExecutorSpec {
    /// By a command in an image.
    Container(Box<ContainerSpec>),
    /// By naming an artifact that is there already.
    Importer(Box<ImporterSpec>),
    /// By looking for artifacts that earlier runs made.
    Resolver(ResolverSpec),
    /// By a job of Vertex AI. Deprecated upstream.
    CustomJob(serde_json::Value),
}

/// A command in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    /// The image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Further arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// What it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Box<ContainerResources>>,
    /// What is done around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Box<Lifecycle>>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a container needs. Each is said as a number, in files of the first SDKs, or as a text that may have
/// placeholders in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerResources {
    /// Processor cores at most, such as `0.5` or `500m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_cpu_limit: Option<String>,
    /// Memory at most, such as `2Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_memory_limit: Option<String>,
    /// Processor cores at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_cpu_request: Option<String>,
    /// Memory at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_memory_request: Option<String>,
    /// Processor cores at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<serde_json::Number>,
    /// Gigabytes (10⁹ bytes) at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<serde_json::Number>,
    /// Processor cores at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_request: Option<serde_json::Number>,
    /// Gigabytes (10⁹ bytes) at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_request: Option<serde_json::Number>,
    /// Accelerators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Accelerators that a container needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Accelerator {
    /// Such as `nvidia.com/gpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_count: Option<String>,
    /// The type in files of the first SDKs.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How many, in files of the first SDKs; protobuf's JSON writes 64 bits as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<serde_json::Value>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is done around a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// Run before the cache is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_cache_check: Option<Exec>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exec {
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Further arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An artifact that is there already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImporterSpec {
    /// Where it is.
    pub artifact_uri: RuntimeValue,
    /// What it is.
    #[serde(default)]
    pub type_schema: ArtifactType,
    /// What is said about it; placeholders in its texts are replaced.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Whether it is imported anew where an earlier run has imported the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reimport: bool,
    /// Whether its content goes into the run's workspace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub download_to_workspace: bool,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Artifacts that earlier runs made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResolverSpec {
    /// What to look for, by output.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub output_artifact_queries: Named<ArtifactQuery>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which artifacts to look for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactQuery {
    /// A filter expression.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter: String,
    /// How many at most; 0 means 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<serde_json::Number>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}
