//! Artifacts that no run needs any more.

mod mentions;
mod retention;

use std::collections::HashSet;
use std::time::SystemTime;

use kf_core::artifact::Swept;
use kf_core::metadata::RunQuery;
use kf_core::{Digest, RunId, Timestamp};

pub(super) use self::mentions::{mentions, renew_mentioned};
use self::retention::Brief;
pub use self::retention::Retention;
use super::{Engine, Inner};
use crate::Result;
use crate::scheduler::{JournalEvent, read_journal};

/// How many runs, or entries of a journal, are read at once.
const PAGE: usize = 200;

/// What a collection of garbage found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Garbage {
    /// Runs that there are.
    pub runs: u64,
    /// Those whose artifacts are kept.
    pub runs_kept: u64,
    /// What was kept and removed.
    pub artifacts: Swept,
}

impl Engine {
    /// Removes artifacts from the store that no run names which is kept. Engines may run meanwhile, here and elsewhere:
    /// what is still to be committed is spared for its age, and what cached tasks and reruns take up again becomes young
    /// by that.
    ///
    /// A run names what its journal, its arguments or its pipeline has the digest of, also in the text of a parameter.
    ///
    /// **The metadata store must be that of all engines which put into this artifact store.** What others put that only
    /// another database knows of is garbage to this one; [`Retention::artifact`] keeps what is named.
    ///
    /// Artifacts alone are removed: what is stored of runs stays, and so do their folders with logs and reports. Of a store
    /// on S3, this machine's copies go too; each machine collects its own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kf_pipeline::{Engine, Retention};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// let engine = Engine::open(folder.path().join("home")).await?;
    /// let retention = Retention::runs_of(Duration::from_secs(30 * 24 * 3600)).last_succeeded(3);
    /// let would = engine.collect_garbage(&retention.clone().dry_run()).await?;
    /// println!("{} bytes would go, {} stay", would.artifacts.removed.bytes, would.artifacts.kept.bytes);
    /// engine.collect_garbage(&retention).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Where a store fails or a journal is not understood: before anything is removed where it is the metadata store. Also
    /// [`kf_core::Error::Held`] while another collects on the same object store.
    pub async fn collect_garbage(&self, retention: &Retention) -> Result<Garbage> {
        let inner = &self.inner;
        // Before anything is read: what is committed from here on was put, or made young, shortly before.
        let (now, as_of) = (Timestamp::now(), SystemTime::now());
        let runs = inner.briefs().await?;
        let mut kept = retention.keeps(&runs, now);
        let mut reachable = retention.artifacts.clone();
        let mut left: Vec<RunId> = kept.iter().cloned().collect();
        while let Some(run) = left.pop() {
            if let Some(seeded_by) = inner.mark(&run, &mut reachable).await?
                && kept.insert(seeded_by.clone())
            {
                left.push(seeded_by);
            }
        }
        let artifacts =
            inner.home.artifacts().sweep(reachable, &retention.sweep.clone().as_of(as_of)).await?;
        Ok(Garbage { runs: runs.len() as u64, runs_kept: kept.len() as u64, artifacts })
    }
}

impl Inner {
    /// All runs, newest first.
    async fn briefs(&self) -> Result<Vec<Brief>> {
        let mut query = RunQuery { limit: PAGE, brief: true, ..RunQuery::default() };
        let mut all = Vec::new();
        loop {
            let page = self.metadata.runs(&query).await?;
            all.extend(page.items.into_iter().map(Brief::from));
            query.after = page.next;
            if query.after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Adds all that a run names. Gives the run of which it is still to keep a part.
    async fn mark(&self, run: &RunId, reachable: &mut HashSet<Digest>) -> Result<Option<RunId>> {
        let Some(record) = self.metadata.run(run).await? else { return Ok(None) };
        reachable.extend(mentions(&record.args));
        reachable.extend(mentions(&record.spec));
        let (mut after, mut seeded_by) = (0, None);
        loop {
            let entries = self.metadata.journal(run, after, PAGE).await?;
            let Some(last) = entries.last() else { break };
            after = last.seq;
            for entry in entries {
                reachable.extend(mentions(&entry.events));
                if record.state.is_terminal() {
                    continue;
                }
                for event in read_journal(run, &entry)? {
                    match event {
                        JournalEvent::Rerun { of, .. } => seeded_by = Some(of),
                        JournalEvent::Kept => seeded_by = None,
                        _ => {}
                    }
                }
            }
        }
        Ok(seeded_by)
    }
}
