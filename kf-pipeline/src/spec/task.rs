//! Tasks: a component, what goes into it, and when it runs.

use serde::{Deserialize, Serialize};

use super::{Extra, Named, is_default};

/// One task of a DAG.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskSpec {
    /// Its name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub task_info: TaskInfo,
    /// What it runs.
    pub component_ref: ComponentRef,
    /// What goes in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inputs: TaskInputs,
    /// Tasks that must end before it, beside those whose outputs it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependent_tasks: Vec<String>,
    /// Whether an earlier execution may stand for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caching_options: Option<CachingOptions>,
    /// When it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_policy: Option<Box<TriggerPolicy>>,
    /// Runs it once for each item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_iterator: Option<Box<ParameterIterator>>,
    /// Runs it once for each artifact of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_iterator: Option<Box<ArtifactIterator>>,
    /// How an iterator runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterator_policy: Option<IteratorPolicy>,
    /// What follows a failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<Box<RetryPolicy>>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A task's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskInfo {
    /// The name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The component a task runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentRef {
    /// Its name among the pipeline's components.
    pub name: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What goes into a task, by input name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskInputs {
    /// Parameters.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub parameters: Named<TaskParameter>,
    /// Artifacts.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub artifacts: Named<TaskArtifact>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A parameter that goes into a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskParameter {
    /// Where it comes from.
    #[serde(flatten)]
    pub source: ParameterSource,
    /// An expression in CEL over `string_value`, the value's JSON text, that gives the part which is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_expression_selector: Option<String>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl From<ParameterSource> for TaskParameter {
    fn from(source: ParameterSource) -> Self {
        Self { source, parameter_expression_selector: None, extra: Extra::new() }
    }
}

/// Where a parameter comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ParameterSource {
    /// An output of a task of the same DAG.
    #[serde(rename_all = "camelCase")]
    TaskOutputParameter {
        /// The task.
        producer_task: String,
        /// Its output.
        output_parameter_key: String,
    },
    /// A value known beforehand.
    RuntimeValue(RuntimeValue),
    /// An input of the DAG.
    ComponentInputParameter(String),
    /// How another task ended.
    #[serde(rename_all = "camelCase")]
    TaskFinalStatus {
        /// The task.
        producer_task: String,
    },
}

/// A value known beforehand, or given to the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RuntimeValue {
    /// Known beforehand; placeholders in its texts are replaced.
    Constant(serde_json::Value),
    /// Known beforehand, in files of the first SDKs.
    ConstantValue(PrimitiveValue),
    /// The run's argument of this name.
    RuntimeParameter(String),
}

/// A number or text in files of the first SDKs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum PrimitiveValue {
    /// A whole number; protobuf's JSON writes 64 bits as text.
    IntValue(serde_json::Value),
    /// A number.
    DoubleValue(f64),
    /// Text.
    StringValue(String),
}

impl PrimitiveValue {
    /// The value as JSON.
    ///
    /// # Errors
    /// What was found where it is none.
    pub fn to_json(&self) -> Result<serde_json::Value, String> {
        match self {
            Self::IntValue(value) => {
                let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
                number.map(Into::into).ok_or_else(|| format!("expected a whole number, found {value}"))
            }
            Self::DoubleValue(value) => Ok((*value).into()),
            Self::StringValue(text) => Ok(text.as_str().into()),
        }
    }
}

/// An artifact that goes into a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskArtifact {
    /// Where it comes from.
    #[serde(flatten)]
    pub source: ArtifactSource,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl From<ArtifactSource> for TaskArtifact {
    fn from(source: ArtifactSource) -> Self {
        Self { source, extra: Extra::new() }
    }
}

/// Where an artifact comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ArtifactSource {
    /// An output of a task of the same DAG.
    #[serde(rename_all = "camelCase")]
    TaskOutputArtifact {
        /// The task.
        producer_task: String,
        /// Its output.
        output_artifact_key: String,
    },
    /// An input of the DAG.
    ComponentInputArtifact(String),
}

/// Whether an earlier execution may stand for a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachingOptions {
    /// True where it may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enable_cache: bool,
    /// What stands for everything else in the key, so that tasks with the same one may stand for one another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cache_key: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// When a task runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerPolicy {
    /// An expression in CEL over `inputs.parameter_values`; the task is skipped where it is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// What is asked of the tasks before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<TriggerStrategy>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a task asks of the tasks before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TriggerStrategy {
    /// The default.
    TriggerStrategyUnspecified,
    /// That all succeeded.
    #[default]
    AllUpstreamTasksSucceeded,
    /// That all ended, however.
    AllUpstreamTasksCompleted,
}

/// Runs a task once for each item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterIterator {
    /// The list.
    pub items: Items,
    /// The input that takes the item.
    pub item_input: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The list an iterator goes over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Items {
    /// JSON text of an array.
    Raw(String),
    /// An input of the task.
    InputParameter(String),
}

/// Runs a task once for each artifact of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactIterator {
    /// The list.
    pub items: ArtifactItems,
    /// The input that takes the artifact.
    pub item_input: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The list of artifacts an iterator goes over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactItems {
    /// An input of the task.
    pub input_artifact: String,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How an iterator runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IteratorPolicy {
    /// How many iterations run at once; 0 where there is no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub parallelism_limit: u32,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What follows a failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// How many attempts may follow the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_retry_count: u32,
    /// The wait before the second attempt, such as `1.5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_duration: Option<String>,
    /// By what each wait is longer than the one before; 2 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_factor: Option<f64>,
    /// The longest wait; `3600s` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_max_duration: Option<String>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}
