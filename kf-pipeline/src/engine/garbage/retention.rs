//! Which runs' artifacts are kept.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use kf_core::artifact::Sweep;
use kf_core::metadata::{RunRecord, RunState};
use kf_core::{Digest, RunId, Timestamp};

/// Whose artifacts are kept, and whose may go. What is kept by any rule is kept; runs that have not ended always are.
///
/// ```
/// use std::time::Duration;
/// use kf_pipeline::Retention;
///
/// // Those of the last 90 days, and each pipeline's last 5 that succeeded, however old.
/// let retention = Retention::runs_of(Duration::from_secs(90 * 24 * 3600)).last_succeeded(5);
/// # drop(retention);
/// ```
#[derive(Clone, Debug)]
pub struct Retention {
    runs_of: Option<Duration>,
    last_succeeded: usize,
    runs: BTreeSet<RunId>,
    pub(super) artifacts: HashSet<Digest>,
    pub(super) sweep: Sweep,
}

impl Retention {
    /// What any run names: only what no run names may go, such as what attempts had stored whose engine was killed.
    pub fn all_runs() -> Self {
        Self {
            runs_of: None,
            last_succeeded: 0,
            runs: BTreeSet::new(),
            artifacts: HashSet::new(),
            sweep: Sweep::new(),
        }
    }

    /// What runs name that ended less than this ago. Records of older runs stay: their journals, reports and lineage name
    /// artifacts that may be gone. The cache finds nothing where an output is gone.
    pub fn runs_of(age: Duration) -> Self {
        Self { runs_of: Some(age), ..Self::all_runs() }
    }

    /// Also what the last so many runs of each pipeline name that succeeded.
    #[must_use]
    pub fn last_succeeded(mut self, runs: usize) -> Self {
        self.last_succeeded = runs;
        self
    }

    /// Also what this run names.
    #[must_use]
    pub fn run(mut self, run: RunId) -> Self {
        self.runs.insert(run);
        self
    }

    /// Also this content: for what programs name that are no runs of this engine's metadata store.
    #[must_use]
    pub fn artifact(mut self, digest: Digest) -> Self {
        self.artifacts.insert(digest);
        self
    }

    /// Spares what was put, or taken up again by a cached task or a rerun, less than this before the collection began; a
    /// day where not said. It must be longer than a task's end takes from storing its artifacts to its commit. In an object
    /// store it is a day at least, unless [`renew_after`](kf_core::artifact::ArtifactStore::renew_after) says that less will
    /// do. See [`Sweep::min_age`].
    #[must_use]
    pub fn min_age(mut self, age: Duration) -> Self {
        self.sweep = self.sweep.min_age(age);
        self
    }

    /// Removes nothing, and tells what would be.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.sweep = self.sweep.dry_run();
        self
    }
}

/// What the rules ask of a run.
#[derive(Clone, Debug)]
pub(super) struct Brief {
    pub(super) id: RunId,
    pub(super) pipeline: String,
    pub(super) state: RunState,
    pub(super) ended_at: Option<Timestamp>,
}

impl From<RunRecord> for Brief {
    fn from(run: RunRecord) -> Self {
        Self { id: run.id, pipeline: run.pipeline, state: run.state, ended_at: run.ended_at }
    }
}

impl Retention {
    /// The runs whose artifacts are kept; `runs` are all there are, newest first.
    pub(super) fn keeps(&self, runs: &[Brief], now: Timestamp) -> BTreeSet<RunId> {
        let mut succeeded: BTreeMap<&str, usize> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        for run in runs {
            let among_last = run.state == RunState::Succeeded && {
                let before = succeeded.entry(&run.pipeline).or_default();
                *before += 1;
                *before <= self.last_succeeded
            };
            let young = match (self.runs_of, run.ended_at) {
                (Some(age), Some(ended)) => now.since(ended) < age,
                _ => true,
            };
            if young || among_last || !run.state.is_terminal() || self.runs.contains(&run.id) {
                kept.insert(run.id.clone());
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, pipeline: &str, state: RunState, ended: Option<i64>) -> Brief {
        let ended_at = ended.map(Timestamp::from_millis);
        Brief { id: id.parse().unwrap(), pipeline: pipeline.to_owned(), state, ended_at }
    }

    fn kept(rules: &Retention, runs: &[Brief], now: i64) -> Vec<String> {
        rules.keeps(runs, Timestamp::from_millis(now)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn any_rule_keeps_a_run() {
        use RunState::{Canceled, Failed, Pending, Running, Succeeded};
        let runs = [
            run("g", "b", Pending, None),
            run("f", "a", Failed, Some(9_000)),
            run("e", "a", Succeeded, Some(8_000)),
            run("d", "b", Succeeded, Some(5_000)),
            run("c", "a", Running, None),
            run("b", "a", Succeeded, Some(3_000)),
            run("a", "a", Canceled, Some(2_000)),
        ];
        let second = Duration::from_secs;
        assert_eq!(kept(&Retention::all_runs(), &runs, 10_000).len(), 7);
        assert_eq!(kept(&Retention::runs_of(second(3)), &runs, 10_000), ["c", "e", "f", "g"]);
        assert_eq!(kept(&Retention::runs_of(Duration::ZERO), &runs, 10_000), ["c", "g"]);
        let last = Retention::runs_of(Duration::ZERO).last_succeeded(1);
        assert_eq!(kept(&last, &runs, 10_000), ["c", "d", "e", "g"]);
        let named = Retention::runs_of(Duration::ZERO).run("a".parse().unwrap());
        assert_eq!(kept(&named, &runs, 10_000), ["a", "c", "g"]);
        // By a clock that was put back, all ended a moment ago.
        assert_eq!(kept(&Retention::runs_of(second(3)), &runs, 0).len(), 7);
    }
}
