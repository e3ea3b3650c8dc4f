//! How a task ended, as a parameter.

use serde::{Deserialize, Serialize};

use super::Param;
use crate::spec::ParameterType;

/// How a task, a group or the run ended, for what comes after it whatever happened: an input of the tasks that
/// [`Scope::exit_group`](crate::Scope::exit_group) and [`Scope::on_exit`](crate::Scope::on_exit) add. It is Kubeflow
/// Pipelines' `PipelineTaskFinalStatus`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FinalStatus {
    /// `SUCCEEDED` (`COMPLETE` under [`final_status_complete`](crate::EngineBuilder::final_status_complete) and on
    /// Kubeflow), `FAILED`, `SKIPPED` or `CANCELED`.
    pub state: String,
    /// What the run is called: `projects/…/pipelineJobs/…` or the like.
    #[serde(default)]
    pub pipeline_job_resource_name: String,
    /// The name of the task or group.
    #[serde(default)]
    pub pipeline_task_name: String,
    /// What went wrong, where something did.
    #[serde(default)]
    pub error: Option<StatusError>,
}

/// An iteration of a loop that failed, of a loop some of whose iterations may: see
/// [`Each::failures`](crate::Each::failures).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ItemFailure {
    /// Its number, from 0.
    pub iteration: u64,
    /// The item; of an artifact, its `name` and `uri`.
    pub item: serde_json::Value,
    /// Why.
    pub error: String,
}

impl Param for ItemFailure {
    const TYPE: ParameterType = ParameterType::Struct;
}

/// What went wrong with a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusError {
    /// A code of gRPC, where Kubeflow gave one.
    #[serde(default)]
    pub code: Option<i32>,
    /// What is said of it.
    #[serde(default)]
    pub message: String,
}

impl FinalStatus {
    /// Whether it ended well, in whichever word.
    pub fn succeeded(&self) -> bool {
        matches!(self.state.as_str(), "SUCCEEDED" | "COMPLETE" | "CACHED")
    }
}

impl Param for FinalStatus {
    const TYPE: ParameterType = ParameterType::TaskFinalStatus;
    // As upstream's compiler declares it: nobody gives it by hand.
    const OPTIONAL: bool = true;
}
