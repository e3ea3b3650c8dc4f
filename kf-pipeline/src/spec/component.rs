//! Components: their inputs, their outputs, and for DAGs the tasks inside.

use std::collections::BTreeMap;

use kf_core::artifact::ArtifactKind;
use serde::{Deserialize, Serialize};

use super::TaskSpec;

/// A component: either a DAG of tasks, or something an executor carries out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentSpec {
    /// What it takes.
    #[serde(default, skip_serializing_if = "InputDefinitions::is_empty")]
    pub input_definitions: InputDefinitions,
    /// What it gives.
    #[serde(default, skip_serializing_if = "OutputDefinitions::is_empty")]
    pub output_definitions: OutputDefinitions,
    /// Its tasks, where it is a DAG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag: Option<DagSpec>,
    /// The executor's label, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_label: Option<String>,
}

/// A component's inputs by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InputDefinitions {
    /// Parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterInput>,
    /// Artifacts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, ArtifactInput>,
}

impl InputDefinitions {
    fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.artifacts.is_empty()
    }
}

/// A component's outputs by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputDefinitions {
    /// Parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterOutput>,
    /// Artifacts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, ArtifactOutput>,
}

impl OutputDefinitions {
    fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.artifacts.is_empty()
    }
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ParameterType {
    /// A number.
    NumberDouble,
    /// A whole number.
    NumberInteger,
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// A JSON array.
    List,
    /// A JSON object.
    #[default]
    Struct,
    /// How another task ended.
    TaskFinalStatus,
}

impl ParameterType {
    /// Whether `value` is of this type. A null is of none.
    pub fn accepts(self, value: &serde_json::Value) -> bool {
        match self {
            Self::NumberDouble => value.is_number(),
            Self::NumberInteger => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
            }
            Self::String => value.is_string(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Struct => !value.is_null(),
            Self::TaskFinalStatus => value.is_object(),
        }
    }
}

/// A parameter that a component takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterInput {
    /// Its type.
    pub parameter_type: ParameterType,
    /// Its value where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_value: Option<serde_json::Value>,
    /// Whether it may be absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_optional: bool,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A parameter that a component gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterOutput {
    /// Its type.
    pub parameter_type: ParameterType,
}

/// The kind of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactType {
    /// Such as `system.Model`.
    pub schema_title: String,
    /// Such as `0.0.1`.
    #[serde(default)]
    pub schema_version: String,
}

impl ArtifactType {
    /// The type of artifacts of kind `K`.
    pub fn of<K: ArtifactKind>() -> Self {
        Self { schema_title: K::SCHEMA_TITLE.to_owned(), schema_version: K::SCHEMA_VERSION.to_owned() }
    }

    /// Whether an artifact of this type may go where `wanted` is asked for: the same, or `system.Artifact`.
    pub fn fits(&self, wanted: &Self) -> bool {
        self.schema_title == wanted.schema_title
            || wanted.schema_title == kf_core::artifact::Artifact::SCHEMA_TITLE
            || self.schema_title == kf_core::artifact::Artifact::SCHEMA_TITLE
    }
}

/// An artifact that a component takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactInput {
    /// Its kind.
    pub artifact_type: ArtifactType,
    /// Whether it takes a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_artifact_list: bool,
    /// Whether it may be absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_optional: bool,
}

/// An artifact that a component gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactOutput {
    /// Its kind.
    pub artifact_type: ArtifactType,
    /// Whether it gives a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_artifact_list: bool,
}

/// The tasks of a DAG, and which of their outputs are the DAG's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagSpec {
    /// Tasks by name.
    #[serde(default)]
    pub tasks: BTreeMap<String, TaskSpec>,
    /// The DAG's outputs.
    #[serde(default, skip_serializing_if = "DagOutputs::is_empty")]
    pub outputs: DagOutputs,
}

/// Where a DAG's outputs come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DagOutputs {
    /// Parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, DagOutputParameter>,
    /// Artifacts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, DagOutputArtifact>,
}

impl DagOutputs {
    fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.artifacts.is_empty()
    }
}

/// Where a DAG's output parameter comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagOutputParameter {
    /// An output of a task inside.
    pub value_from_parameter: ParameterSelector,
}

/// An output parameter of a task inside a DAG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSelector {
    /// The task.
    pub producer_subtask: String,
    /// Its output.
    pub output_parameter_key: String,
}

/// Where a DAG's output artifact comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagOutputArtifact {
    /// Outputs of tasks inside.
    pub artifact_selectors: Vec<ArtifactSelector>,
}

/// An output artifact of a task inside a DAG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSelector {
    /// The task.
    pub producer_subtask: String,
    /// Its output.
    pub output_artifact_key: String,
}
