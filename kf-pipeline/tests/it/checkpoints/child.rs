//! The engine's process: carries a run of two long tasks until it is killed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kf_core::RunId;
use kf_core::worker::{Request, WorkerError};
use kf_pipeline::Result;
use kf_pipeline::prelude::*;
use serde::{Deserialize, Serialize};

/// The worker entry.
pub(crate) const ENTRY: &str = "checkpoints";
pub(crate) const ITEMS: u32 = 20;

#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) home: PathBuf,
    pub(crate) witness: PathBuf,
    pub(crate) run: RunId,
}

pub(crate) fn run(request: Request) -> std::result::Result<(), WorkerError> {
    let order: Order = request.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(WorkerError::failed)?.block_on(carry(order)).map_err(WorkerError::failed)
}

async fn carry(order: Order) -> Result<()> {
    let engine = Engine::open(&order.home).await?;
    let options = StartOptions::new().id(order.run);
    let args = args! {"witness" => order.witness.display().to_string()};
    engine.start_with(&pipeline()?, args, options).await?.wait().await?;
    Ok(())
}

pub(crate) fn pipeline() -> Result<Pipeline> {
    Pipeline::build("items", |p| {
        let witness = p.required_param::<String>("witness");
        p.add(here(witness));
        p.add(apart(witness));
    })
}

fn note(witness: &str, task: &str, word: &str, item: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(Path::new(witness))?;
    file.write_all(format!("{task} {word} {item}\n").as_bytes())
}

/// Does its items on the engine's runtime, and fails at two of them.
#[component(retries = 9)]
async fn here(witness: String, ctx: Context) -> TaskResult<u32> {
    let mut sum = 0;
    for item in 0..ITEMS {
        let work = async {
            if (item == 5 && ctx.attempt() == 1) || (item == 13 && ctx.attempt() == 2) {
                return Err(TaskError::new("not yet"));
            }
            note(&witness, "here", "did", item)?;
            tokio::time::sleep(Duration::from_millis(4)).await;
            Ok(item)
        };
        sum += ctx.once_async(&format!("item {item}"), work).await?;
        note(&witness, "here", "saved", item)?;
    }
    Ok(sum)
}

/// Does its items in a process of its own, which is killed at one of them.
#[component(retries = 9, executor = "subprocess")]
pub(crate) fn apart(witness: String, ctx: Context) -> TaskResult<u32> {
    let mut sum = 0;
    for item in 0..ITEMS {
        sum += ctx.once(&format!("item {item}"), || {
            note(&witness, "apart", "did", item)?;
            if item == 7 && ctx.attempt() == 1 {
                note(&witness, "apart", "killed", item)?;
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
            }
            std::thread::sleep(Duration::from_millis(4));
            Ok(item)
        })?;
        note(&witness, "apart", "saved", item)?;
    }
    Ok(sum)
}
