//! Runs over stores that fail, under clocks that jump, cancelled at any moment.

mod cancel;
mod clock;
mod metadata;
mod objects;

use std::time::Duration;

use kf_pipeline::{RunHandle, RunOutcome};
use libtest_mimic::Trial;

pub(crate) use cancel::with_components;

pub(crate) fn tests() -> Vec<Trial> {
    [cancel::tests(), clock::tests(), metadata::tests(), objects::tests()].into_iter().flatten().collect()
}

/// Longer than anything here takes that does not hang.
const HANGS: Duration = Duration::from_secs(90);

/// A run's end, which comes.
async fn end(run: &RunHandle) -> Result<RunOutcome, Box<dyn std::error::Error>> {
    let ended = tokio::time::timeout(HANGS, run.wait()).await;
    Ok(ended.map_err(|_| format!("run {} hangs", run.id()))??)
}
