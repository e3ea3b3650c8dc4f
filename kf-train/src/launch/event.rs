//! What happens to a job.

use std::ops::Range;
use std::time::Duration;

use kf_core::process::Exit;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;
use crate::Progress;

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobEvent {
    /// A rank's process runs. One that outlives rounds has its number from its first round on, and is told then.
    RankStarted {
        /// The rank.
        rank: usize,
        /// Its process id, where it is a process of this machine.
        pid: Option<u32>,
    },
    /// A line that a rank printed, without its end.
    Line {
        /// The rank; of one that outlives rounds, before its first, its number on its machine.
        rank: usize,
        /// The line; long ones come in pieces.
        line: String,
        /// Whether it came by standard error; only where that is kept [apart](crate::JobSpec::stderr_apart).
        stderr: bool,
    },
    /// A rank tells how far it is.
    Progress {
        /// The rank.
        rank: usize,
        /// What it tells.
        progress: Progress,
    },
    /// A rank's process ended.
    RankEnded {
        /// The rank.
        rank: usize,
        /// How.
        exit: Exit,
    },
    /// The nodes of an elastic job have agreed on who trains from now on; see [`elastic`](crate::elastic).
    Round {
        /// The round's number.
        number: u64,
        /// How many nodes it has.
        nodes: usize,
        /// How many ranks it has.
        world_size: usize,
        /// How many times a failed rank had the ranks started anew.
        restarts: u64,
        /// The ranks that whoever tells this starts for the round, and of which it tells the start. None where they outlive
        /// rounds.
        #[serde(default)]
        starts: Range<usize>,
        /// Why it was made.
        reason: String,
    },
    /// A job waits: an elastic one for nodes, one on a cluster for a place, or to be let go on by who has suspended it. Told once
    /// a second at most, where the reason is another.
    Waiting {
        /// For what.
        reason: String,
    },
    /// A rank failed, and all of them are started anew.
    Restarting {
        /// How many times they were, with this one.
        restarts: u64,
        /// What failed.
        failure: Box<Failure>,
    },
    /// This reader was slower than the job and missed so many events, which come nowhere else in it. [`JobStatus`] has them
    /// taken into account, and [`Launcher::logs`] has the lines, within its limits.
    ///
    /// [`JobStatus`]: crate::JobStatus
    /// [`Launcher::logs`]: crate::Launcher::logs
    Missed(u64),
    /// The job ended; the last event.
    Ended(JobEnd),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobEnd {
    /// Every rank succeeded.
    Succeeded {
        /// What rank 0 returned; null for a foreign program.
        result: Value,
    },
    /// A rank failed.
    Failed(Box<Failure>),
    /// It was not done in its time.
    TimedOut {
        /// The time.
        after: Duration,
    },
    /// It was cancelled.
    Canceled,
    /// It could not be started whole, or watched.
    Broken {
        /// Why.
        reason: String,
        /// Whether another attempt may fare better.
        retryable: bool,
    },
}
