//! The log of an attempt that runs in the engine's process.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kf_core::process::{Log, LogFeed, LogWriter};

use super::logs::LOG;
use crate::component::LogLines;
use crate::mutex::locked;

/// What a body in process writes with [`Context::log`](crate::Context::log). Costs nothing where it writes nothing.
#[derive(Debug)]
pub(super) struct TaskLog {
    /// The attempt's own.
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    /// Nobody has written or followed.
    #[default]
    Unused,
    Open(LogWriter),
    /// The attempt has ended, whatever its body still does.
    Ended,
}

impl TaskLog {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, state: Mutex::default() }
    }

    /// The log, to be followed; none where the attempt has ended.
    pub(super) fn feed(&self) -> Option<LogFeed> {
        locked(&self.state).open(&self.folder).map(|writer| writer.feed())
    }

    /// Completes the log.
    pub(super) fn end(&self) {
        let state = std::mem::replace(&mut *locked(&self.state), State::Ended);
        if let State::Open(writer) = state
            && let Err(error) = writer.finish()
        {
            tracing::warn!(%error, "a log is incomplete");
        }
    }
}

impl LogLines for TaskLog {
    /// What comes after the attempt's end is dropped.
    fn line(&self, line: &str) {
        if let Some(writer) = locked(&self.state).open(&self.folder) {
            writer.write([line, "\n"].concat().as_bytes());
        }
    }
}

impl State {
    fn open(&mut self, folder: &Path) -> Option<&mut LogWriter> {
        if let Self::Unused = self {
            *self = Self::Open(LogWriter::new(&Log::to(folder.join(LOG))));
        }
        match self {
            Self::Open(writer) => Some(writer),
            Self::Unused | Self::Ended => None,
        }
    }
}
