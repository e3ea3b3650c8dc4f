//! The engine's process: carries a backfill until it is killed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use kf_core::worker::{Request, WorkerError};
use kf_pipeline::prelude::*;
use kf_pipeline::{Backfill, Partitions, Result};
use serde::{Deserialize, Serialize};

/// The worker entry.
pub(crate) const ENTRY: &str = "backfill";

#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) home: PathBuf,
    pub(crate) witness: PathBuf,
}

pub(crate) fn run(request: Request) -> std::result::Result<(), WorkerError> {
    let order: Order = request.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(WorkerError::failed)?.block_on(carry(order)).map_err(WorkerError::failed)
}

async fn carry(order: Order) -> Result<()> {
    let engine = Engine::builder().state(Lines(order.witness)).open(&order.home).await?;
    engine.backfill(&pipeline()?, &backfill()?).await?.wait().await?;
    Ok(())
}

/// An append-only file with a line for each thing that happened.
#[derive(Clone)]
pub(crate) struct Lines(pub(crate) PathBuf);

impl Lines {
    pub(crate) fn note(&self, line: &str) -> std::io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.0)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}

pub(crate) fn backfill() -> Result<Backfill> {
    Ok(Backfill::new(Partitions::daily("2026-11-01", "2026-11-29")?, "day").at_once(3).retries(1))
}

pub(crate) fn pipeline() -> Result<Pipeline> {
    Pipeline::build("days", |p| {
        let day = p.required_param::<String>("day");
        p.add(load(day));
    })
}

/// Fails in the first run of the fifth.
#[component(cache = false)]
async fn load(day: String, context: Context, lines: State<Lines>) -> TaskResult {
    lines.note(&format!("{day} {}", context.run()))?;
    tokio::time::sleep(Duration::from_millis(15)).await;
    if day.ends_with("05") && context.run().as_str().ends_with("-1") {
        return Err(TaskError::new("not yet"));
    }
    Ok(())
}
