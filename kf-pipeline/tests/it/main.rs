//! Pipelines that run: one test binary, whose `main` also runs components that were sent to a process of their own.

mod components;
mod flow;

use std::future::Future;
use std::process::ExitCode;

use kf_core::worker::{Workers, run_if_asked};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(components::all())) {
        return code;
    }
    let tests = [flow::tests()].into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// A test that runs on a runtime of its own.
fn test<F, R>(name: &str, body: F) -> Trial
where
    F: FnOnce() -> R + Send + 'static,
    R: Future<Output = Result<(), Box<dyn std::error::Error>>>,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(body()).map_err(|error| error.to_string().into())
    })
}
