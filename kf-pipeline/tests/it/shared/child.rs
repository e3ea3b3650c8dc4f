//! An engine's process with its stores in PostgreSQL and S3.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kf_core::RunId;
use kf_core::artifact::{ArtifactStore, S3Options};
use kf_core::metadata::{PostgresMetadata, PostgresOptions};
use kf_core::worker::{Request, WorkerError};
use kf_pipeline::prelude::*;
use serde::{Deserialize, Serialize};

use crate::resume::child::{Watched, listen, pipeline};
use crate::resume::witness::{Kill, Witness};

/// The worker entry.
pub(crate) const ENTRY: &str = "engine-of-several";

/// Where the engines' stores are.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Stores {
    pub(crate) database: String,
    pub(crate) schema: String,
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    pub(crate) lease: Duration,
}

/// What the process is to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) stores: Stores,
    pub(crate) home: PathBuf,
    pub(crate) witness: PathBuf,
    pub(crate) run: RunId,
    pub(crate) work: Work,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Work {
    /// Starts the run of this round and carries it to its end. How it left it is in the witness's file with `.end`.
    Carry { round: i64, kill: Option<Kill> },
    /// Stands by until the run has ended.
    StandBy,
}

impl Stores {
    pub(crate) async fn metadata(&self) -> kf_core::Result<PostgresMetadata> {
        let options = PostgresOptions::new(&self.database)?.schema(&self.schema)?;
        PostgresMetadata::open(options.patience(self.lease / 4)).await
    }

    pub(crate) fn artifacts(&self, scratch: PathBuf) -> kf_core::Result<ArtifactStore> {
        let options = S3Options::new().endpoint(&self.endpoint).allow_http().keys("test", "test");
        ArtifactStore::s3(&self.bucket, scratch, options)
    }
}

pub(crate) fn run(request: Request) -> Result<(), WorkerError> {
    let order = request.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(WorkerError::failed)?.block_on(carry(order)).map_err(WorkerError::failed)
}

async fn carry(order: Order) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let kill = if let Work::Carry { kill, .. } = &order.work { *kill } else { None };
    let witness = Witness::open(&order.witness, kill)?;
    let metadata = Watched { inner: Arc::new(order.stores.metadata().await?), witness: witness.clone() };
    let engine = Engine::builder()
        .metadata(Arc::new(metadata))
        .artifacts(order.stores.artifacts(order.home.join("artifacts"))?)
        .lease(order.stores.lease)
        .state(witness.clone())
        .open(order.home.join("home"))
        .await?;
    match order.work {
        Work::Carry { round, .. } => {
            let options = StartOptions::new().id(order.run);
            let run = engine.start_with(&pipeline()?, args! {"round" => round}, options).await?;
            listen(&run, witness);
            let end = match run.wait().await {
                Ok(outcome) => outcome.state.to_string(),
                Err(error) => error.to_string(),
            };
            std::fs::write(order.witness.with_extension("end"), end)?;
        }
        Work::StandBy => {
            let _looking = engine.stand_by([pipeline()?])?;
            while !engine.run(&order.run).await?.is_some_and(|run| run.state.is_terminal()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}
