//! The quickstart on a cluster, with the same pipeline and the same steps: each task is a pod, and each fit a job of
//! Kubeflow Trainer's or of whatever the cluster has.
//!
//! Started by a person, it needs nothing but a kubeconfig: see `docs/kubernetes.md`. The same program is the engine in its pod,
//! each task, and each rank.

use std::process::ExitCode;

use clap::Parser;
use examples::quickstart::cluster::{Options, inside, outside};
use kf_core::worker::run_if_asked;
use kf_serve::BoxError;

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&inside::in_pods()) {
        return code;
    }
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run(options: &Options) -> Result<ExitCode, BoxError> {
    if options.inside { inside::run(options).await } else { outside::start(options).await }
}
