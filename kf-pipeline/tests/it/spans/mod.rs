//! What the engine tells of runs, tasks and attempts as `tracing` spans. Subscribers belong to a whole process, so each
//! test's engine has one of its own.

#[cfg(feature = "otel")]
mod exported;
#[cfg(feature = "otel")]
mod receiver;
mod recorded;
mod traced;

use kf_core::worker::{Entry, WorkerError};
use libtest_mimic::Trial;

pub(crate) use traced::{emits, panics};

pub(crate) fn tests() -> Vec<Trial> {
    let tests = recorded::tests();
    #[cfg(feature = "otel")]
    let tests = tests.into_iter().chain(exported::tests()).collect();
    tests
}

/// What the engines' processes run.
pub(crate) fn worker() -> impl Entry {
    traced::worker()
}

/// What every process of these tests does first: it exports spans where it is told to.
#[cfg(feature = "otel")]
pub(crate) fn set_up() -> Result<Option<kf_core::telemetry::OtlpGuard>, WorkerError> {
    exported::set_up()
}

#[cfg(not(feature = "otel"))]
pub(crate) fn set_up() -> Result<(), WorkerError> {
    Ok(())
}
