//! The engine's process: carries one run of a pipeline with everything in it, until it is killed.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use kf_core::backoff::Backoff;
use kf_core::metadata::{
    Commit, Created, ExecutionRecord, Hold, JournalEntry, Lease, LineageQuery, MetadataStore, NewRun, Page,
    RunQuery, RunRecord,
};
use kf_core::worker::{Request, WorkerError};
use kf_core::{Digest, Home, RunId};
use kf_pipeline::prelude::*;
use kf_pipeline::{Result, RunEvent, RunHandle};
use serde::{Deserialize, Serialize};

use super::witness::{Kill, Phase, Witness};

/// The worker entry.
pub(crate) const ENTRY: &str = "engine";
/// The tasks whose ends the test looks for.
pub(crate) const EXIT: &str = "bye";
pub(crate) const RETRIED: &str = "exit-handler-1/condition-1/stubborn";

/// What the process is to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) home: PathBuf,
    pub(crate) witness: PathBuf,
    pub(crate) run: RunId,
    /// Keeps rounds from finding one another in the cache.
    pub(crate) round: i64,
    pub(crate) kill: Option<Kill>,
}

pub(crate) fn run(request: Request) -> std::result::Result<(), WorkerError> {
    let order = request.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(WorkerError::failed)?.block_on(carry(order)).map_err(WorkerError::failed)
}

async fn carry(order: Order) -> std::result::Result<(), Box<dyn StdError + Send + Sync>> {
    let witness = Witness::open(&order.witness, order.kill)?;
    let store = Watched { inner: Home::open(&order.home).await?.metadata(), witness: witness.clone() };
    let engine = Engine::builder().metadata(Arc::new(store)).state(witness.clone()).open(&order.home).await?;
    let options = StartOptions::new().id(order.run);
    let run = engine.start_with(&pipeline()?, args! {"round" => order.round}, options).await?;
    listen(&run, witness);
    run.wait().await?;
    Ok(())
}

/// Tells the witness of attempts that failed.
pub(crate) fn listen(run: &RunHandle, witness: Witness) {
    let mut events = run.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let RunEvent::AttemptFailed { task, attempt, .. } = event {
                let _ = witness.note("retry", &task, "-", attempt);
                witness.reached(Phase::BetweenAttempts);
            }
        }
    });
}

/// A loop, a condition that holds and one that doesn't, retries, and an exit handler.
pub(crate) fn pipeline() -> Result<Pipeline> {
    Pipeline::build("resume", |p| {
        let round = p.required_param::<i64>("round");
        let items = p.param::<Vec<i64>>("items", (0..8).collect::<Vec<_>>());
        let seed = p.add(seed(round));
        let each = p.parallel_for_limited(items, 2, |p, item| {
            let made = p.add(step(round, item, seed.out));
            p.add(check(round, made.out, made.output))
        });
        let sum = p.add(sum(round, each.collect().output));
        p.when(sum.output.gt(0), |p| {
            let waits = Backoff { initial: Duration::from_millis(60), ..Backoff::default() };
            p.add(stubborn(round, sum.output).retries(2).backoff(waits));
        });
        p.when(sum.output.lt(0), |p| p.add(never()));
        p.on_exit(bye(round));
    })
}

/// An attempt under the witness's eyes: its body lies between two lines.
async fn attend(round: i64, witness: &Witness, context: &Context, phase: Phase) -> std::io::Result<()> {
    assert!(context.run().as_str().ends_with(&format!("-{round}")));
    witness.note("start", context.task(), &context.idempotency_key(), context.attempt())?;
    witness.reached(phase);
    tokio::time::sleep(Duration::from_millis(8)).await;
    Ok(())
}

fn ends(witness: &Witness, context: &Context) -> std::io::Result<()> {
    witness.note("end", context.task(), &context.idempotency_key(), context.attempt())
}

#[component]
async fn seed(round: i64, context: Context, witness: State<Witness>, out: Output<Dataset>) -> TaskResult {
    attend(round, &witness, &context, Phase::InTask).await?;
    out.write("a seed")?;
    ends(&witness, &context)?;
    Ok(())
}

#[component]
async fn step(
    round: i64,
    item: i64,
    seed: Input<Dataset>,
    context: Context,
    witness: State<Witness>,
    out: Output<Model>,
) -> TaskResult<i64> {
    attend(round, &witness, &context, Phase::InTask).await?;
    let text = std::fs::read_to_string(seed.path()?)?;
    out.write(format!("{item} with {text}"))?;
    ends(&witness, &context)?;
    Ok(item)
}

#[component]
async fn check(
    round: i64,
    model: Input<Model>,
    item: i64,
    context: Context,
    witness: State<Witness>,
) -> TaskResult<i64> {
    attend(round, &witness, &context, Phase::InTask).await?;
    let text = std::fs::read_to_string(model.path()?)?;
    if text != format!("{item} with a seed") {
        return Err(TaskError::permanent(format!("found `{text}`")));
    }
    ends(&witness, &context)?;
    Ok(10 * item)
}

#[component]
async fn sum(round: i64, numbers: Vec<i64>, context: Context, witness: State<Witness>) -> TaskResult<i64> {
    attend(round, &witness, &context, Phase::InTask).await?;
    ends(&witness, &context)?;
    Ok(numbers.iter().sum())
}

#[component]
async fn stubborn(round: i64, sum: i64, context: Context, witness: State<Witness>) -> TaskResult<i64> {
    attend(round, &witness, &context, Phase::InTask).await?;
    ends(&witness, &context)?;
    if context.attempt() < 3 { Err(TaskError::new("not yet")) } else { Ok(sum + 1) }
}

#[component]
async fn never() -> TaskResult {
    Err(TaskError::permanent("its condition is false"))
}

#[component]
async fn bye(round: i64, context: Context, witness: State<Witness>) -> TaskResult {
    attend(round, &witness, &context, Phase::InExitHandler).await?;
    ends(&witness, &context)?;
    Ok(())
}

/// A store that tells the witness of commits.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: Arc<dyn MetadataStore>,
    pub(crate) witness: Witness,
}

#[async_trait]
impl MetadataStore for Watched {
    async fn commit(&self, commit: Commit) -> kf_core::Result<u64> {
        let noted = kf_core::Error::io("write", "witness");
        self.witness.reached(Phase::BeforeCommit);
        self.witness.note("commit", "-", "-", 0).map_err(noted)?;
        self.witness.reached(Phase::DuringCommit);
        let seq = self.inner.commit(commit).await?;
        self.witness.note("committed", "-", "-", 0).map_err(kf_core::Error::io("write", "witness"))?;
        self.witness.reached(Phase::AfterCommit);
        Ok(seq)
    }

    async fn create_run(&self, run: NewRun) -> kf_core::Result<Created> {
        self.inner.create_run(run).await
    }

    async fn acquire(&self, run: &RunId, owner: &str, ttl: Duration) -> kf_core::Result<Lease> {
        self.inner.acquire(run, owner, ttl).await
    }

    async fn renew(&self, lease: &mut Lease, ttl: Duration) -> kf_core::Result<()> {
        self.inner.renew(lease, ttl).await
    }

    async fn release(&self, lease: Lease) -> kf_core::Result<()> {
        self.inner.release(lease).await
    }

    async fn hold(&self, hold: &mut Hold, places: u32) -> kf_core::Result<bool> {
        self.inner.hold(hold, places).await
    }

    async fn let_go(&self, hold: &mut Hold) -> kf_core::Result<()> {
        self.inner.let_go(hold).await
    }

    async fn run(&self, run: &RunId) -> kf_core::Result<Option<RunRecord>> {
        self.inner.run(run).await
    }

    async fn runs(&self, query: &RunQuery) -> kf_core::Result<Page<RunRecord>> {
        self.inner.runs(query).await
    }

    async fn journal(&self, run: &RunId, after: u64, limit: usize) -> kf_core::Result<Vec<JournalEntry>> {
        self.inner.journal(run, after, limit).await
    }

    async fn cached(&self, key: &Digest, not_of: &RunId) -> kf_core::Result<Option<ExecutionRecord>> {
        self.inner.cached(key, not_of).await
    }

    async fn executions(&self, query: &LineageQuery) -> kf_core::Result<Page<ExecutionRecord>> {
        self.inner.executions(query).await
    }
}
