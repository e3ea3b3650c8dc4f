//! How partitions stand.

use std::fmt;

use kf_core::metadata::{RunRecord, RunState};
use kf_core::{RunId, Timestamp};
use serde::Serialize;

use crate::Partition;

/// How a partition stands: how its newest run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum PartitionState {
    /// It was never run.
    Missing,
    /// Its run is under way, or was left by an engine that died.
    Running,
    /// Its run succeeded.
    Succeeded,
    /// Its run failed.
    Failed,
    /// Its run was cancelled.
    Canceled,
}

impl PartitionState {
    /// The word as shown, such as `SUCCEEDED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "MISSING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
        }
    }
}

impl fmt::Display for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A partition and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The partition.
    #[serde(flatten)]
    pub partition: Partition,
    /// How it stands.
    pub state: PartitionState,
    /// Its newest run; none where it is missing.
    pub run: Option<RunId>,
    /// How many runs it had.
    pub attempts: u32,
    /// When its newest run ended.
    pub ended_at: Option<Timestamp>,
    /// Why it did not succeed.
    pub error: Option<String>,
}

impl PartitionStatus {
    pub(super) fn missing(partition: Partition) -> Self {
        let state = PartitionState::Missing;
        Self { partition, state, run: None, attempts: 0, ended_at: None, error: None }
    }

    pub(super) fn of(partition: Partition, attempts: u32, run: RunRecord) -> Self {
        let state = match run.state {
            RunState::Succeeded => PartitionState::Succeeded,
            RunState::Failed => PartitionState::Failed,
            RunState::Canceled => PartitionState::Canceled,
            _ => PartitionState::Running,
        };
        Self { partition, state, run: Some(run.id), attempts, ended_at: run.ended_at, error: run.error }
    }
}

/// How all partitions of a backfill stand, in their order. Shown as text, it is a table with a line for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PartitionTable {
    rows: Vec<PartitionStatus>,
}

impl PartitionTable {
    pub(super) fn new(rows: Vec<PartitionStatus>) -> Self {
        Self { rows }
    }

    /// A row for each partition.
    pub fn rows(&self) -> &[PartitionStatus] {
        &self.rows
    }

    /// The row of the partition of this key.
    pub fn get(&self, key: &str) -> Option<&PartitionStatus> {
        self.rows.iter().find(|row| row.partition.key() == key)
    }

    /// How many partitions stand so.
    pub fn count(&self, state: PartitionState) -> usize {
        self.rows.iter().filter(|row| row.state == state).count()
    }

    /// Whether every partition succeeded.
    pub fn succeeded(&self) -> bool {
        self.count(PartitionState::Succeeded) == self.rows.len()
    }
}

impl fmt::Display for PartitionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&PartitionStatus) -> &str, name: &str| {
            let widths = self.rows.iter().map(|row| text(row).chars().count());
            widths.max().unwrap_or(0).max(name.len())
        };
        let run = |row: &PartitionStatus| row.run.as_ref().map_or("-", RunId::as_str).len();
        let keys = width(|row| row.partition.key(), "partition");
        let runs = self.rows.iter().map(run).max().unwrap_or(0).max(3);
        writeln!(f, "{:keys$}  {:9}  {:>8}  {:runs$}  error", "partition", "state", "attempts", "run")?;
        for row in &self.rows {
            let (key, state, attempts) = (row.partition.key(), row.state, row.attempts);
            let run = row.run.as_ref().map_or("-", RunId::as_str);
            // An error of many lines keeps its first here.
            let error = row.error.as_deref().and_then(|error| error.lines().next()).unwrap_or("-");
            writeln!(f, "{key:keys$}  {state:9}  {attempts:>8}  {run:runs$}  {error}")?;
        }
        Ok(())
    }
}
