//! Backfills: a pipeline run for each of many partitions, and how they stand.

mod decide;
mod driver;
mod handle;
mod identity;
mod options;
mod table;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use kf_core::metadata::MetadataStore;

pub use handle::{BackfillEvent, BackfillHandle};
pub use options::Backfill;
pub use table::{PartitionState, PartitionStatus, PartitionTable};

use crate::{Engine, Partition, Pipeline, Result};
use decide::MOST_ATTEMPTS;
use driver::Driver;
use identity::Identity;

/// How many partitions are looked up at once.
const LOOK_UPS: usize = 16;

impl Engine {
    /// Runs a pipeline for each partition that has not succeeded: missing ones are started, those left unfinished are
    /// gone on with, failed and cancelled ones get a new run. Asked for again, after a crash too, it goes on where it
    /// was; several processes may ask at once and each partition still runs once.
    ///
    /// A partition's runs have the ids `PIPELINE-KEY-DIGEST-1`, `-2` and so on; a further one begins when the one before
    /// has ended and did not succeed, up to 1,000. Where the pipeline has changed since an unfinished run was left, that one is ended
    /// as cancelled and a further one begun; partitions that succeeded are not run again for that.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use kf_core::Timestamp;
    /// use kf_pipeline::prelude::*;
    /// use kf_pipeline::{Backfill, BackfillEvent, PartitionState, Partitions};
    ///
    /// /// Adds up a day's sales.
    /// #[component]
    /// async fn add_up(day: String, shop: String) -> TaskResult<usize> {
    ///     if day == "2026-11-02" {
    ///         return Err(TaskError::new("nothing was delivered"));
    ///     }
    ///     Ok(day.len() + shop.len())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let home = tempfile::tempdir()?;
    /// let pipeline = Pipeline::build("sales", |p| {
    ///     let (day, shop) = (p.required_param::<String>("day"), p.required_param::<String>("shop"));
    ///     p.add(add_up(day, shop));
    /// })?;
    /// let engine = Engine::open(home.path()).await?;
    /// let days = Partitions::daily("2026-11-01", "2026-11-04")?;
    /// let sales = Backfill::new(days, "day").args(args! {"shop" => "main street"}).at_once(2);
    ///
    /// let backfill = engine.backfill(&pipeline, &sales).await?;
    /// let mut events = backfill.events();
    /// while let Some(event) = events.next().await {
    ///     if let BackfillEvent::Ended { status, ended, of } = event {
    ///         println!("{ended}/{of}: {} {}", status.partition.key(), status.state);
    ///     }
    /// }
    /// let table = backfill.wait().await?;
    /// assert_eq!(table.count(PartitionState::Succeeded), 2);
    /// println!("{table}");
    ///
    /// // For a dashboard, at any time and in any process: how do they stand?
    /// let row = engine.partitions(&pipeline, &sales).await?;
    /// assert_eq!(row.get("2026-11-02").ok_or("it is there")?.state, PartitionState::Failed);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Before anything runs: a parameter that the pipeline doesn't have or that doesn't take the key, and what
    /// [`start`](Self::start) refuses.
    pub async fn backfill(&self, pipeline: &Pipeline, backfill: &Backfill) -> Result<BackfillHandle> {
        backfill.check(pipeline)?;
        self.inner.check(pipeline)?;
        if self.inner.lock().draining {
            return Err(crate::Error::Draining);
        }
        let (handle, end) = BackfillHandle::new(pipeline.name());
        let driver = Driver {
            engine: Arc::clone(&self.inner),
            alive: Arc::downgrade(&self._alive),
            pipeline: pipeline.clone(),
            identity: Identity::new(pipeline.name(), backfill.identity(pipeline)?),
            backfill: backfill.clone(),
            end,
        };
        tokio::spawn(driver.run());
        Ok(handle)
    }

    /// How the partitions of a backfill stand, whoever runs or ran them.
    ///
    /// # Errors
    /// Where the backfill does not fit the pipeline, or the store can't be read.
    pub async fn partitions(&self, pipeline: &Pipeline, backfill: &Backfill) -> Result<PartitionTable> {
        backfill.check(pipeline)?;
        let identity = Identity::new(pipeline.name(), backfill.identity(pipeline)?);
        let rows = look_up_all(self.inner.metadata.as_ref(), &identity, backfill).await?;
        Ok(PartitionTable::new(rows))
    }
}

async fn look_up_all(
    metadata: &dyn MetadataStore,
    identity: &Identity,
    backfill: &Backfill,
) -> Result<Vec<PartitionStatus>> {
    let partitions: Vec<Partition> = backfill.partitions().iter().cloned().collect();
    let look_ups = stream::iter(partitions).map(|partition| look_up(metadata, identity, partition));
    look_ups.buffered(LOOK_UPS).try_collect().await
}

/// How a partition stands: how the last of its runs, which have no gap in their numbers, does.
async fn look_up(
    metadata: &dyn MetadataStore,
    identity: &Identity,
    partition: Partition,
) -> Result<PartitionStatus> {
    let mut status = PartitionStatus::missing(partition);
    for attempt in 1..=MOST_ATTEMPTS {
        match metadata.run(&identity.run(status.partition.key(), attempt)).await? {
            Some(run) => status = PartitionStatus::of(status.partition, attempt, run),
            None => break,
        }
    }
    Ok(status)
}
