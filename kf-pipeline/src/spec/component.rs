//! Components: their inputs, their outputs, and for DAGs the tasks inside.

use std::fmt;

use kf_core::artifact::ArtifactKind;
use serde::{Deserialize, Serialize};

use super::{Extra, Named, TaskSpec, is_default};
use crate::placeholder::as_text;

/// A component: either a DAG of tasks, or something an executor carries out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentSpec {
    /// What it takes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub input_definitions: InputDefinitions,
    /// What it gives.
    #[serde(default, skip_serializing_if = "is_default")]
    pub output_definitions: OutputDefinitions,
    /// Its tasks, where it is a DAG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag: Option<Box<DagSpec>>,
    /// The executor's label, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_label: Option<String>,
    /// What only some platforms know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub single_platform_specs: Vec<serde_json::Value>,
    /// Which of a task's configuration it applies itself, such as `ENV` or `KUBERNETES_VOLUMES`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_config_passthroughs: Vec<serde_json::Value>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A component's inputs by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InputDefinitions {
    /// Parameters.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub parameters: Named<ParameterInput>,
    /// Artifacts.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub artifacts: Named<ArtifactInput>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A component's outputs by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputDefinitions {
    /// Parameters.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub parameters: Named<ParameterOutput>,
    /// Artifacts.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub artifacts: Named<ArtifactOutput>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl OutputDefinitions {
    /// Their names and types.
    pub(crate) fn kinds(&self) -> serde_json::Value {
        let parameters: Vec<_> = self.parameters.iter().map(|(name, output)| (name, output.kind())).collect();
        let artifacts: Vec<_> =
            self.artifacts.iter().map(|(name, output)| (name, &output.artifact_type.schema_title)).collect();
        serde_json::json!([parameters, artifacts])
    }
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ParameterType {
    /// Not said.
    ParameterTypeEnumUnspecified,
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
    /// The configuration of the task itself.
    TaskConfig,
}

/// The type of a parameter in files of the first SDKs, instead of [`ParameterType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum PrimitiveType {
    /// Not said.
    PrimitiveTypeUnspecified,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// Text.
    String,
}

impl PrimitiveType {
    fn current(self) -> ParameterType {
        match self {
            Self::PrimitiveTypeUnspecified => ParameterType::ParameterTypeEnumUnspecified,
            Self::Int => ParameterType::NumberInteger,
            Self::Double => ParameterType::NumberDouble,
            Self::String => ParameterType::String,
        }
    }
}

/// As messages say it: `an integer`, `a list`.
impl fmt::Display for ParameterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ParameterTypeEnumUnspecified => "a value",
            Self::NumberDouble => "a number",
            Self::NumberInteger => "an integer",
            Self::String => "a string",
            Self::Boolean => "a boolean",
            Self::List => "a list",
            Self::Struct => "an object",
            Self::TaskFinalStatus => "a task's final status",
            Self::TaskConfig => "a task's configuration",
        })
    }
}

impl ParameterType {
    /// Whether `value` is of this type. A null is of none.
    pub fn accepts(self, value: &serde_json::Value) -> bool {
        match self {
            Self::NumberDouble => value.is_number(),
            Self::NumberInteger => {
                // What JSON writes with more digits than 64 bits hold is read as another number.
                let whole = |number: f64| number.fract() == 0.0 && number.abs() < u64::MAX as f64;
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(whole)
            }
            Self::String => value.is_string(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Struct | Self::ParameterTypeEnumUnspecified => !value.is_null(),
            Self::TaskFinalStatus | Self::TaskConfig => value.is_object(),
        }
    }

    /// The form that `value` has where this type is asked for, if it is another one: text for everything where text is,
    /// a whole number without a fraction, which YAML writes at times.
    pub(crate) fn fit(self, value: &serde_json::Value) -> Option<serde_json::Value> {
        /// Where whole numbers end that a double holds exactly.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::String => (!value.is_string() && !value.is_null()).then(|| as_text(value).into()),
            Self::NumberInteger => {
                let number = value.as_f64().filter(|_| value.is_f64())?;
                (number.fract() == 0.0 && number.abs() <= EXACT).then(|| (number as i64).into())
            }
            _ => None,
        }
    }
}

/// A parameter that a component takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterInput {
    /// Its type.
    #[serde(default = "unspecified", skip_serializing_if = "is_unspecified")]
    pub parameter_type: ParameterType,
    /// Its type in files of the first SDKs.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub primitive_type: Option<PrimitiveType>,
    /// Its value where none is given; a null is one too.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub default_value: Option<serde_json::Value>,
    /// Whether it may be absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_optional: bool,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The only values that it may have, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub literals: Vec<serde_json::Value>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ParameterInput {
    /// Its type, in whichever way the file says it.
    pub fn kind(&self) -> ParameterType {
        kind(self.parameter_type, self.primitive_type)
    }
}

fn kind(current: ParameterType, primitive: Option<PrimitiveType>) -> ParameterType {
    primitive.filter(|_| is_unspecified(&current)).map_or(current, PrimitiveType::current)
}

fn unspecified() -> ParameterType {
    ParameterType::ParameterTypeEnumUnspecified
}

fn is_unspecified(kind: &ParameterType) -> bool {
    *kind == ParameterType::ParameterTypeEnumUnspecified
}

/// A value that is there, a null too.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(from).map(Some)
}

/// A parameter that a component gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterOutput {
    /// Its type.
    #[serde(default = "unspecified", skip_serializing_if = "is_unspecified")]
    pub parameter_type: ParameterType,
    /// Its type in files of the first SDKs.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub primitive_type: Option<PrimitiveType>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ParameterOutput {
    /// Its type, in whichever way the file says it.
    pub fn kind(&self) -> ParameterType {
        kind(self.parameter_type, self.primitive_type)
    }
}

/// The kind of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactType {
    /// Such as `system.Model`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema_title: String,
    /// Where its schema lies, in files of the first SDKs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_uri: Option<String>,
    /// Its schema as YAML text, in files of the first SDKs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_schema: Option<String>,
    /// Such as `0.0.1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema_version: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ArtifactType {
    /// The type of artifacts of kind `K`.
    pub fn of<K: ArtifactKind>() -> Self {
        Self {
            schema_title: K::SCHEMA_TITLE.to_owned(),
            schema_version: K::SCHEMA_VERSION.to_owned(),
            ..Self::default()
        }
    }

    /// Whether an artifact of this type may go where `wanted` is asked for: the same, or `system.Artifact`.
    pub fn fits(&self, wanted: &Self) -> bool {
        self.schema_title == wanted.schema_title
            || wanted.schema_title == kf_core::artifact::Artifact::SCHEMA_TITLE
            || self.schema_title == kf_core::artifact::Artifact::SCHEMA_TITLE
    }
}

/// An artifact that a component takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An artifact that a component gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactOutput {
    /// Its kind.
    pub artifact_type: ArtifactType,
    /// Whether it gives a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_artifact_list: bool,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What is known of it beforehand.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The tasks of a DAG, and which of their outputs are the DAG's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagSpec {
    /// Tasks by name.
    #[serde(default)]
    pub tasks: Named<TaskSpec>,
    /// The DAG's outputs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outputs: DagOutputs,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where a DAG's outputs come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DagOutputs {
    /// Parameters.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub parameters: Named<DagOutputParameter>,
    /// Artifacts.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub artifacts: Named<DagOutputArtifact>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where a DAG's output parameter comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagOutputParameter {
    /// Where.
    #[serde(flatten)]
    pub source: DagOutputSource,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl From<ParameterSelector> for DagOutputParameter {
    fn from(selector: ParameterSelector) -> Self {
        Self { source: DagOutputSource::ValueFromParameter(selector), extra: Extra::new() }
    }
}

/// Which task's output a DAG's output parameter is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum DagOutputSource {
    /// This one.
    ValueFromParameter(ParameterSelector),
    /// The first of these that there is: those of tasks in branches of which one is taken.
    ValueFromOneof(ParameterSelectors),
}

/// Output parameters of tasks of which one runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSelectors {
    /// The outputs.
    #[serde(default)]
    pub parameter_selectors: Vec<ParameterSelector>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An output parameter of a task inside a DAG.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSelector {
    /// The task.
    pub producer_subtask: String,
    /// Its output.
    pub output_parameter_key: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where a DAG's output artifact comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagOutputArtifact {
    /// Outputs of tasks inside.
    pub artifact_selectors: Vec<ArtifactSelector>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An output artifact of a task inside a DAG.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSelector {
    /// The task.
    pub producer_subtask: String,
    /// Its output.
    pub output_artifact_key: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}
