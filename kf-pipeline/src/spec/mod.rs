//! A pipeline as data: the intermediate representation (IR) of Kubeflow Pipelines v2.
//!
//! The types follow `pipeline_spec.proto` of kubeflow/pipelines in its proto3 JSON form. The builder makes them
//! and [`Plan`](crate::Plan) checks them; nothing runs from them unchecked.

mod component;
mod exact;
mod executor;
mod line;
mod named;
mod platform;
mod task;
mod yaml;

pub use component::{
    ArtifactInput, ArtifactOutput, ArtifactSelector, ArtifactType, ComponentSpec, DagOutputArtifact,
    DagOutputParameter, DagOutputSource, DagOutputs, DagSpec, InputDefinitions, OutputDefinitions,
    ParameterInput, ParameterOutput, ParameterSelector, ParameterSelectors, ParameterType, PrimitiveType,
};
pub use executor::{
    Accelerator, ArtifactQuery, ContainerResources, ContainerSpec, DeploymentSpec, EnvVar, Exec, Executor,
    ExecutorSpec, ImporterSpec, Lifecycle, ResolverSpec,
};
pub(crate) use line::line_of;
pub use named::{Extra, Named};
pub use platform::{KfApproval, KfComponent, KfExecutor, KfMinSuccess, KfPlatform, KfTask, Platforms};
pub use task::{
    ArtifactItems, ArtifactIterator, ArtifactSource, CachingOptions, ComponentRef, Items, IteratorPolicy,
    ParameterIterator, ParameterSource, PrimitiveValue, RetryPolicy, RuntimeValue, TaskArtifact, TaskInfo,
    TaskInputs, TaskParameter, TaskSpec, TriggerPolicy, TriggerStrategy,
};
pub(crate) use yaml::LARGEST;

use serde::{Deserialize, Serialize};

/// The field that says which version of the IR a file is written in.
pub(crate) const SCHEMA_VERSION: &str = "schemaVersion";

/// Whether a field says no more than its absence would.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A whole pipeline: what Kubeflow Pipelines knows of it, and what only some platforms do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PipelineFile {
    /// What every backend runs.
    pub pipeline_spec: PipelineSpec,
    /// What KFP has no field for, by platform.
    #[serde(default, skip_serializing_if = "is_default")]
    pub platform_spec: Platforms,
}

/// The pipeline as KFP's `PipelineSpec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineSpec {
    /// Name and description.
    pub pipeline_info: PipelineInfo,
    /// How executors run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deployment_spec: DeploymentSpec,
    /// Components by name.
    #[serde(default, skip_serializing_if = "Named::is_empty")]
    pub components: Named<ComponentSpec>,
    /// The outermost component: a DAG.
    pub root: ComponentSpec,
    /// The version of the IR, `2.1.0`. Another than 2 in front is refused; none at all is taken for 2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema_version: String,
    /// What made this file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sdk_version: String,
    /// Where upstream keeps artifacts, where a run does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_pipeline_root: Option<String>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A pipeline's name and description.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineInfo {
    /// The name: lower-case letters, digits and `-`.
    pub name: String,
    /// The name as shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}
