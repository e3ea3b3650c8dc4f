//! A model's whole life: read, check and split data; fit an MLP on two ranks for each learning rate; pick, evaluate,
//! register and serve the best; write the run report.
//!
//! Its pipeline and its steps are in the module `quickstart`, for `k8s_quickstart` has the same.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use examples::cli::Options;
use examples::quickstart;
use kf_core::Home;
use kf_core::worker::run_if_asked;
use kf_pipeline::prelude::*;
use kf_serve::BoxError;
use kf_train::LocalLauncher;

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&quickstart::workers()) {
        return code;
    }
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run(options: &Options) -> Result<ExitCode, BoxError> {
    let home = Home::open(&options.home).await?;
    let engine = Engine::builder();
    let launcher = Arc::new(LocalLauncher::new(home.scratch_dir().join("jobs")));
    let (summary, server) = quickstart::live(options, &home, engine, launcher).await?;
    quickstart::end(options, summary, server).await
}
