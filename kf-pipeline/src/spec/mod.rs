//! A pipeline as data: the intermediate representation (IR) of Kubeflow Pipelines v2.
//!
//! The types follow `pipeline_spec.proto` of kubeflow/pipelines in its proto3 JSON form. The builder makes them
//! and [`Plan`](crate::Plan) checks them; nothing runs from them unchecked.

mod component;
mod executor;
mod platform;
mod task;

pub use component::{
    ArtifactInput, ArtifactOutput, ArtifactSelector, ArtifactType, ComponentSpec, DagOutputArtifact,
    DagOutputParameter, DagOutputs, DagSpec, InputDefinitions, OutputDefinitions, ParameterInput,
    ParameterOutput, ParameterSelector, ParameterType,
};
pub use executor::{ContainerSpec, DeploymentSpec, ExecutorSpec, ImporterSpec, ImporterUri};
pub use platform::{KfExecutor, KfPlatform, Platforms};
pub use task::{
    ArtifactSource, CachingOptions, ComponentRef, Constant, Items, IteratorPolicy, ParameterIterator,
    ParameterSource, RetryPolicy, TaskInfo, TaskInputs, TaskSpec, TriggerPolicy, TriggerStrategy,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A whole pipeline: what Kubeflow Pipelines knows of it, and what only some platforms do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PipelineFile {
    /// What every backend runs.
    pub pipeline_spec: PipelineSpec,
    /// What KFP has no field for, by platform.
    #[serde(default, skip_serializing_if = "Platforms::is_empty")]
    pub platform_spec: Platforms,
}

/// The pipeline as KFP's `PipelineSpec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineSpec {
    /// Name and description.
    pub pipeline_info: PipelineInfo,
    /// How executors run.
    #[serde(default)]
    pub deployment_spec: DeploymentSpec,
    /// Components by name.
    #[serde(default)]
    pub components: BTreeMap<String, ComponentSpec>,
    /// The outermost component: a DAG.
    pub root: ComponentSpec,
    /// The version of the IR, `2.1.0`.
    #[serde(default)]
    pub schema_version: String,
    /// What made this file.
    #[serde(default)]
    pub sdk_version: String,
}

/// A pipeline's name and description.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineInfo {
    /// The name: lower-case letters, digits and `-`.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
