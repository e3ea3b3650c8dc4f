//! A pipeline and nothing else: the digits' mean pictures, one task a digit, run from the cache the second time.
//!
//! `cargo run -p examples --bin pipeline`

use std::process::ExitCode;

use examples::{means, progress};
use kf_core::worker::{Workers, run_if_asked};
use kf_pipeline::prelude::*;

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(means::components())) {
        return code;
    }
    run().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let pipeline = means::pipeline()?;
    let engine = Engine::open("kf-home").await?;
    let run = engine.start(&pipeline, args! {}).await?;
    progress::watch(&run).await;
    let outcome = run.wait().await?;
    let report = engine.report(run.id()).await?;
    if let Some(digest) = report.task("album").and_then(|task| task.output_artifacts.first()?.artifact.digest)
    {
        println!("{}", String::from_utf8_lossy(&engine.home().artifacts().read(&digest).await?));
    }
    println!(
        "{}: {} tasks ran, {} came from the cache",
        outcome.state, outcome.tasks.succeeded, outcome.tasks.cached
    );
    Ok(if outcome.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
