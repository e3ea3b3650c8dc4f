//! The conformance suite of [`Launcher`]: one function per behaviour. Each panics with what it found where the
//! implementation does otherwise.
//!
//! ```standalone_crate
//! use std::sync::Arc;
//! use kf_core::worker::{Workers, run_if_asked};
//! use kf_train::LocalLauncher;
//! use kf_train::testing::{Setup, launcher_conformance};
//!
//! fn main() -> std::process::ExitCode {
//!     // A `LocalLauncher` starts copies of this program, whatever they are to run.
//!     if let Some(code) = run_if_asked(&Workers::new()) {
//!         return code;
//!     }
//!     let folder = tempfile::tempdir().unwrap();
//!     let launcher = Arc::new(LocalLauncher::new(folder.path()));
//!     let runtime = tokio::runtime::Runtime::new().unwrap();
//!     runtime.block_on(launcher_conformance(&Setup::new(launcher)));
//!     std::process::ExitCode::SUCCESS
//! }
//! ```

#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite says by a panic what is wrong")]

mod begins;
mod ends;
mod setup;
mod tells;

pub use begins::*;
pub use ends::*;
pub use setup::Setup;
pub use tells::*;

#[cfg(doc)]
use crate::Launcher;

/// Runs every behaviour, one after the other, and names each on standard error.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn launcher_conformance(setup: &Setup) {
    macro_rules! each {
        ($($behaviour:ident)*) => { $(
            // What a panic below is of.
            eprintln!("launcher conformance: {}", stringify!($behaviour));
            Box::pin($behaviour(setup)).await;
        )* };
    }
    each! {
        submitting_again_is_the_same_job
        what_is_unknown_is_told
        jobs_that_are_wrong_are_refused
        the_environment_is_the_frameworks
        jobs_run_side_by_side
        an_entry_returns_its_result
        events_tell_the_whole_job
        a_late_reader_gets_the_end
        logs_are_each_ranks_own
        progress_and_metrics_are_told
        the_status_follows_the_job
        cancelling_leaves_nothing_running
        a_dropped_run_cancels
        a_failure_names_the_rank
        restarts_are_counted
        restarts_run_out
        time_runs_out
        silence_ends_a_rank
    }
}
