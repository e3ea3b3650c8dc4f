//! Pipelines that run: one test binary, whose `main` also runs components that were sent to a process of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod backfill;
mod bad;
mod beyond;
mod bodies;
mod cache;
mod checkpoints;
mod components;
mod containers;
mod control;
mod executors;
mod faults;
mod flow;
mod garbage;
mod ir;
mod kill;
mod logs;
mod recursion;
mod remote;
mod report;
mod rerun;
#[cfg(all(feature = "postgres", feature = "s3"))]
mod shared;
mod spans;
#[cfg(feature = "arrow")]
mod tables;

use std::future::Future;
use std::process::ExitCode;

use kf_core::worker::{Workers, run_if_asked};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let workers = Workers::new()
        .setup(spans::set_up)
        .with(kill::with_components(faults::with_components(checkpoints::with_components(
            bad::with_components(control::with_components(components::all())),
        ))))
        .with(kill::worker())
        .with(containers::worker())
        .with(backfill::worker())
        .with(checkpoints::worker())
        .with(spans::worker())
        .with(remote::worker());
    if let Some(code) = run_if_asked(&workers) {
        return code;
    }
    let tests = [
        backfill::tests(),
        bad::tests(),
        beyond::tests(),
        bodies::tests(),
        cache::tests(),
        checkpoints::tests(),
        containers::tests(),
        control::tests(),
        executors::tests(),
        faults::tests(),
        flow::tests(),
        garbage::tests(),
        ir::tests(),
        kill::tests(),
        logs::tests(),
        recursion::tests(),
        remote::tests(),
        report::tests(),
        rerun::tests(),
        #[cfg(all(feature = "postgres", feature = "s3"))]
        shared::tests(),
        spans::tests(),
        #[cfg(feature = "arrow")]
        tables::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), tests);
    let _ = std::fs::remove_dir_all(containers::cache());
    conclusion.exit_code()
}

type Done = Result<(), Box<dyn std::error::Error>>;

/// A test that runs on a runtime of its own.
fn test<F, R>(name: &str, body: F) -> Trial
where
    F: FnOnce() -> R + Send + 'static,
    R: Future<Output = Done>,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(body()).map_err(|error| error.to_string().into())
    })
}
