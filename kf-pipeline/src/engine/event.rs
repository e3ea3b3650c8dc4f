//! What a run tells while it is under way.

use std::sync::Arc;

use kf_core::metadata::RunState;

use crate::TaskState;
use crate::component::Progress;

/// Something that happened in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RunEvent {
    /// An attempt starts.
    TaskStarted {
        /// The task's path.
        task: Arc<str>,
        /// The attempt's number, from 1.
        attempt: u32,
    },
    /// An attempt that was started waits for something, such as a machine with room for it.
    TaskWaiting {
        /// The task's path.
        task: Arc<str>,
        /// For what.
        reason: String,
    },
    /// Something is wrong with an attempt that runs, which may pass.
    TaskWarned {
        /// The task's path.
        task: Arc<str>,
        /// What.
        message: String,
    },
    /// A task tells how far it is.
    TaskProgress {
        /// The task's path.
        task: Arc<str>,
        /// How far.
        progress: Progress,
    },
    /// An attempt failed and another follows.
    AttemptFailed {
        /// The task's path.
        task: Arc<str>,
        /// The attempt's number.
        attempt: u32,
        /// Why.
        error: Arc<str>,
    },
    /// A task waits for a person, who [decides](crate::Engine::decide); this is committed. Heard again where the run is
    /// taken up again meanwhile.
    ApprovalAsked {
        /// The task's path.
        task: Arc<str>,
        /// What is asked.
        message: String,
    },
    /// A task ended; this is committed.
    TaskEnded {
        /// The task's path.
        task: Arc<str>,
        /// How.
        state: TaskState,
        /// Why, where it did not succeed.
        error: Option<Arc<str>>,
    },
    /// The run ended; this is committed.
    RunEnded {
        /// How.
        state: RunState,
        /// Why, where it did not succeed.
        error: Option<String>,
    },
    /// This listener was slower than the run and missed so many events.
    Missed(u64),
}
