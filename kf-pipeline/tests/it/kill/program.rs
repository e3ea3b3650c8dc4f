//! The program that is killed: an engine that carries one run, and the person whom the run asks.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kf_core::RunId;
use kf_core::worker::{Request, WorkerError};
use kf_pipeline::prelude::*;
use kf_pipeline::{Decision, RunEvent, RunHandle};
use serde::{Deserialize, Serialize};

use super::phase::{Phase, is_apart, name};
use super::pipeline::richest;
use super::stores::Stores;
use super::witness::Witness;

/// The worker entry.
pub(crate) const ENTRY: &str = "engine";

type Done = Result<(), Box<dyn StdError + Send + Sync>>;

/// What the process is to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) stores: Stores,
    pub(crate) home: PathBuf,
    pub(crate) witness: PathBuf,
    pub(crate) run: RunId,
    pub(crate) pipeline: Which,
    pub(crate) begin: Begin,
    /// The file that says when it is to be killed, from when on it carries the run.
    pub(crate) kill: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Which {
    /// The richest, under this name, with a file that it imports.
    Richest { name: String, file: PathBuf },
    #[cfg(all(feature = "postgres", feature = "s3"))]
    Small,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Begin {
    /// Starts the run, or finds it.
    Start,
    /// Stands by until the run has ended, and takes it over where its engine dies.
    #[cfg(all(feature = "postgres", feature = "s3"))]
    StandBy,
}

pub(crate) fn run(request: Request) -> Result<(), WorkerError> {
    let order = request.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(WorkerError::failed)?.block_on(carry(order)).map_err(WorkerError::failed)
}

async fn carry(order: Order) -> Done {
    let witness = Witness::of_engine(&order.witness, order.kill)?;
    let engine = order.stores.engine(&order.home, Some(witness.clone())).await?;
    let at = order.witness.display().to_string();
    let (pipeline, args) = match &order.pipeline {
        Which::Richest { name, file } => {
            (richest(name)?, args! {"witness" => at, "file" => format!("file://{}", file.display())})
        }
        #[cfg(all(feature = "postgres", feature = "s3"))]
        Which::Small => (crate::shared::small()?, args! {"witness" => at}),
    };
    let run = match order.begin {
        Begin::Start => engine.start_with(&pipeline, args, StartOptions::new().id(order.run)).await?,
        #[cfg(all(feature = "postgres", feature = "s3"))]
        Begin::StandBy => {
            let _looking = engine.stand_by([pipeline])?;
            loop {
                if let Some(run) = engine.handle(&order.run) {
                    break run;
                }
                if engine.run(&order.run).await?.is_some_and(|run| run.state.is_terminal()) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let person = tokio::spawn(or_exit(listen(engine.clone(), run.clone(), witness)));
    let ended = run.wait().await;
    person.abort();
    ended?;
    Ok(())
}

/// Ends the process where this fails.
async fn or_exit(work: impl Future<Output = Done>) {
    if let Err(error) = work.await {
        eprintln!("the person: {error}");
        std::process::exit(3);
    }
}

/// Tells the witness what happens, and decides what is asked.
async fn listen(engine: Engine, run: RunHandle, witness: Witness) -> Done {
    let mut events = run.events();
    let mut asked = BTreeSet::new();
    let mut ask = |task: Arc<str>| -> Done {
        if asked.insert(Arc::clone(&task)) {
            witness.note("asked", &task, "-", 0)?;
            tokio::spawn(or_exit(decide(engine.clone(), run.id().clone(), witness.clone(), task)));
        }
        Ok(())
    };
    // Asked before this process began.
    for waiting in engine.approvals(run.id()).await? {
        ask(waiting.task)?;
    }
    while let Some(event) = events.next().await {
        match event {
            RunEvent::TaskStarted { task, .. } if is_apart(&task) => witness.reached(Phase::InSubprocess),
            RunEvent::AttemptFailed { task, attempt, .. } => {
                witness.note("retry", &task, "-", attempt)?;
                witness.reached(Phase::BetweenAttempts);
            }
            RunEvent::ApprovalAsked { task, .. } => ask(task)?,
            _ => {}
        }
    }
    Ok(())
}

/// Decides after a while, as somebody of the process's own.
async fn decide(engine: Engine, run: RunId, witness: Witness, task: Arc<str>) -> Done {
    witness.reached(Phase::Asked);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let by = format!("{run}-{}", std::process::id());
    let mut decision = Decision::approve().by(&by);
    if name(&task) == "value" {
        decision = decision.value(if task.contains("[1]") { 20 } else { 10 });
    }
    witness.note("decide", &task, &by, 0)?;
    witness.reached(Phase::Deciding);
    engine.decide(&run, &task, decision).await?;
    witness.note("decided", &task, &by, 0)?;
    Ok(())
}
