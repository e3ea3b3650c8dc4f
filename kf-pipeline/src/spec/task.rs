//! Tasks: a component, what goes into it, and when it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One task of a DAG.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskSpec {
    /// Its name.
    #[serde(default)]
    pub task_info: TaskInfo,
    /// What it runs.
    pub component_ref: ComponentRef,
    /// What goes in.
    #[serde(default, skip_serializing_if = "TaskInputs::is_empty")]
    pub inputs: TaskInputs,
    /// Tasks that must end before it, beside those whose outputs it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependent_tasks: Vec<String>,
    /// Whether an earlier execution may stand for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caching_options: Option<CachingOptions>,
    /// When it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_policy: Option<TriggerPolicy>,
    /// Runs it once for each item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_iterator: Option<ParameterIterator>,
    /// How an iterator runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterator_policy: Option<IteratorPolicy>,
    /// What follows a failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
}

/// A task's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskInfo {
    /// The name.
    #[serde(default)]
    pub name: String,
}

/// The component a task runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentRef {
    /// Its name among the pipeline's components.
    pub name: String,
}

/// What goes into a task, by input name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskInputs {
    /// Parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterSource>,
    /// Artifacts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, ArtifactSource>,
}

impl TaskInputs {
    fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.artifacts.is_empty()
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
    RuntimeValue(Constant),
    /// An input of the DAG.
    ComponentInputParameter(String),
    /// How another task ended.
    #[serde(rename_all = "camelCase")]
    TaskFinalStatus {
        /// The task.
        producer_task: String,
    },
}

/// A value known beforehand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Constant {
    /// The value.
    pub constant: serde_json::Value,
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
    #[serde(default)]
    pub enable_cache: bool,
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

/// How an iterator runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IteratorPolicy {
    /// How many iterations run at once; 0 where there is no limit.
    #[serde(default)]
    pub parallelism_limit: u32,
}

/// What follows a failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// How many attempts may follow the first.
    #[serde(default)]
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
}
