//! What is stored of a run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Digest, RunId, Timestamp};

/// Where a run stands, in the words of Kubeflow Pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum RunState {
    /// Created, not begun.
    Pending,
    /// Under way, or waiting for an engine to take it up again.
    Running,
    /// Ended: every task that had to run succeeded.
    Succeeded,
    /// Ended: a task failed.
    Failed,
    /// Ended because somebody asked for it.
    Canceled,
}

impl RunState {
    /// Whether the run has ended for good.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The word as stored and shown, such as `SUCCEEDED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
        }
    }
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A run to be created.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The digest of `spec`.
    pub spec_digest: Digest,
    /// The pipeline as JSON text.
    pub spec: Arc<str>,
    /// The arguments as JSON text of one object.
    pub args: String,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// A run as stored.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The digest of `spec`.
    pub spec_digest: Digest,
    /// The pipeline as JSON text.
    pub spec: String,
    /// The arguments as JSON text of one object.
    pub args: String,
    /// Where it stands.
    pub state: RunState,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The number of the last lease that was given out; 0 before the first.
    pub epoch: u64,
    /// The number of the last commit; 0 before the first.
    pub seq: u64,
}

/// Which runs to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// Only of this pipeline.
    pub pipeline: Option<String>,
    /// Only in this state.
    pub state: Option<RunState>,
    /// Only of these ids, in any order.
    pub ids: Option<Vec<RunId>>,
    /// At most so many; 0 means 100.
    pub limit: usize,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// Leaves [`spec`](RunRecord::spec) empty, which may be large.
    pub brief: bool,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for the next page with; none at the end.
    pub next: Option<String>,
}
