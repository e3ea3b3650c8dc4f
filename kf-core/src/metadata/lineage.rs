//! What ran on what and made what: executions, artifacts, and the events that join them (the concepts of
//! ML Metadata; a run is the context of its executions and artifacts).

use serde::{Deserialize, Serialize};

use crate::artifact::{ArtifactRef, Metadata};
use crate::{Digest, RunId, Timestamp};

/// How an execution ended, in the words of ML Metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ExecutionState {
    /// It succeeded.
    Complete,
    /// It failed.
    Failed,
    /// Its outputs were taken from an earlier execution.
    Cached,
    /// It was cancelled.
    Canceled,
}

impl ExecutionState {
    /// The word as stored, such as `COMPLETE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "COMPLETE",
            Self::Failed => "FAILED",
            Self::Cached => "CACHED",
            Self::Canceled => "CANCELED",
        }
    }
}

/// An artifact at one of an execution's inputs or outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Io {
    /// The input's or output's name.
    pub port: String,
    /// The place in a list of artifacts; 0 where there is one.
    pub index: u32,
    /// The artifact.
    pub artifact: ArtifactRef,
}

/// One task of a run, ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionRecord {
    /// The run.
    pub run: RunId,
    /// The task's path within the run; with `run`, the execution's id.
    pub task: String,
    /// The component's name.
    pub component: String,
    /// How it ended.
    pub state: ExecutionState,
    /// What a later execution must have in common to reuse its outputs; none where it may not.
    pub cache_key: Option<Digest>,
    /// When its first attempt started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Input parameters.
    pub inputs: Metadata,
    /// Output parameters.
    pub outputs: Metadata,
    /// Input artifacts.
    pub input_artifacts: Vec<Io>,
    /// Output artifacts.
    pub output_artifacts: Vec<Io>,
}

/// Lineage that one commit adds.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    /// The executions that ended.
    pub executions: Vec<ExecutionRecord>,
}

/// Which executions to look up; every field that is set must match.
#[derive(Clone, Debug, Default)]
pub struct LineageQuery {
    /// Executions of this run.
    pub run: Option<RunId>,
    /// Executions that read this content.
    pub reads: Option<Digest>,
    /// Executions that made this content.
    pub makes: Option<Digest>,
    /// At most so many; 0 means 100.
    pub limit: usize,
    /// The `next` of the page before.
    pub after: Option<String>,
}
