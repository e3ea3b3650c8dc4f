//! What the executors of this machine share: attempts under way, and the words for how a process ended.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::executor::AttemptHandle;
use crate::mutex::locked;

/// Attempts under way, each with what ends it.
pub(crate) type Running<T> = Mutex<HashMap<AttemptHandle, T>>;

/// Waits until an attempt is under way no more, for at most `grace`.
pub(crate) async fn gone<T>(running: &Running<T>, handle: &AttemptHandle, grace: Duration) {
    let deadline = Instant::now() + grace;
    while locked(running).contains_key(handle) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5).min(grace)).await;
    }
}

/// The end of a message: a process's last lines, where it printed any, and where all of them are.
pub(crate) fn last_lines(tail: &[String], log: &Path) -> String {
    match tail {
        [] => String::new(),
        lines => format!("; its last lines (all of them in {}):\n{}", log.display(), lines.join("\n")),
    }
}
