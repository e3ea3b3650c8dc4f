//! Why a child could not be started.

use std::path::PathBuf;

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// This program would run its `main` proper again instead of the worker.
    #[error(
        "can't start {what}: this program does not dispatch workers; call `if let Some(code) = \
         kf_core::worker::run_if_asked(&workers) {{ return code }}` first thing in main"
    )]
    NoDispatch {
        /// What was to be started.
        what: String,
    },
    /// Called outside a tokio runtime.
    #[error("can't start {what}: not called within a tokio runtime")]
    NoRuntime {
        /// What was to be started.
        what: String,
    },
    /// The request has no JSON form, or its file can't be written.
    #[error("can't write the request of {what}: {source}")]
    Request {
        /// What was to be started.
        what: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The log file can't be made.
    #[error("can't open the log {path} of {what}: {source}")]
    Log {
        /// What was to be started.
        what: String,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The system refused the process, a pipe or a thread.
    #[error("can't start {what}: {source}")]
    Start {
        /// What was to be started.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl SpawnError {
    /// Whether the same call may succeed later: the system was short of something.
    pub fn is_retryable(&self) -> bool {
        use std::io::ErrorKind::{Interrupted, OutOfMemory, ResourceBusy, StorageFull, WouldBlock};
        match self {
            Self::NoDispatch { .. } | Self::NoRuntime { .. } => false,
            Self::Request { source, .. } | Self::Log { source, .. } | Self::Start { source, .. } => {
                matches!(source.kind(), Interrupted | OutOfMemory | ResourceBusy | StorageFull | WouldBlock)
            }
        }
    }
}
