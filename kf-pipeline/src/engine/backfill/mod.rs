//! Backfills: a pipeline run for each of many partitions, and how they stand.

mod decide;
mod driver;
mod handle;
mod identity;
mod options;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use kf_core::RunId;
use kf_core::metadata::{MetadataStore, RunQuery, RunRecord};

pub use handle::{BackfillEvent, BackfillHandle};
pub use options::Backfill;
pub use table::{PartitionState, PartitionStatus, PartitionTable};

use crate::{Engine, Partition, Pipeline, Result};
use decide::MOST_ATTEMPTS;
use driver::Driver;
use identity::Identity;

/// How many runs are asked for at once.
const LOOK_UPS: usize = 500;
/// How many of a partition's runs are asked for at once, where there is room.
const AHEAD: u32 = 16;

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
    look_up(metadata, identity, backfill.partitions().iter().cloned().collect()).await
}

/// How partitions stand: how the last of their runs, which have no gaps in their numbers, do.
async fn look_up(
    metadata: &dyn MetadataStore,
    identity: &Identity,
    partitions: Vec<Partition>,
) -> Result<Vec<PartitionStatus>> {
    let mut rows: Vec<PartitionStatus> = partitions.into_iter().map(PartitionStatus::missing).collect();
    let mut open: Vec<usize> = (0..rows.len()).collect();
    let mut first = 1;
    while first <= MOST_ATTEMPTS && !open.is_empty() {
        // Of few partitions, several attempts are asked for at once.
        let each =
            u32::try_from(LOOK_UPS / open.len()).unwrap_or(1).clamp(1, AHEAD).min(MOST_ATTEMPTS + 1 - first);
        let mut on = Vec::new();
        for some in open.chunks(LOOK_UPS) {
            let attempts = |at: &usize| {
                let key = rows[*at].partition.key();
                (first..first + each).map(|attempt| identity.run(key, attempt)).collect::<Vec<_>>()
            };
            let ids: Vec<Vec<RunId>> = some.iter().map(attempts).collect();
            let mut found = runs(metadata, ids.concat()).await?;
            for (at, ids) in some.iter().zip(ids) {
                let known: Vec<RunRecord> = ids.iter().map_while(|id| found.remove(id)).collect();
                if known.len() == ids.len() {
                    on.push(*at);
                }
                if let Some((run, attempt)) = known.into_iter().zip(first..).last() {
                    rows[*at] = PartitionStatus::of(rows[*at].partition.clone(), attempt, run);
                }
            }
        }
        open = on;
        first += each;
    }
    Ok(rows)
}

/// The runs that there are of these ids, without what they are of.
async fn runs(metadata: &dyn MetadataStore, ids: Vec<RunId>) -> Result<HashMap<RunId, RunRecord>> {
    let query = RunQuery { limit: ids.len(), ids: Some(ids), brief: true, ..RunQuery::default() };
    let page = metadata.runs(&query).await?;
    Ok(page.items.into_iter().map(|run| (run.id.clone(), run)).collect())
}
