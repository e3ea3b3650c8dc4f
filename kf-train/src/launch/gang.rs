//! The ranks that one process starts in one round of a job: started together, watched together, ended together.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kf_core::process::{Exit, Spawner};

use super::environment::Place;
use super::failure::{Suspect, culprit};
use super::rank_process::{Limits, RankProcess};
use super::{Failure, JobEvent, JobSpec, RankEnd};
use crate::Result;

/// How often progress and limits are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Ranks that fail this soon after the first may be the cause of its failure.
const SETTLE: Duration = Duration::from_millis(100);
/// How many of a failed rank's last lines are told.
const LAST_LINES: usize = 20;

/// Who hears of what the ranks do.
pub(crate) type Tell = Arc<dyn Fn(JobEvent) + Send + Sync>;

/// The processes of these ranks.
pub(crate) struct Gang {
    world_size: usize,
    limits: Limits,
    began: Instant,
    ranks: Vec<RankProcess>,
    ends: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Those that failed, until it is clear which of them is to blame.
    suspects: Vec<Suspect<Instant>>,
    settled: Option<Instant>,
    tell: Tell,
}

/// How a gang's watch ended.
#[derive(Debug)]
pub(crate) enum GangEnd {
    /// All its ranks succeeded.
    Succeeded,
    /// One failed; the others may still run.
    Failed(Box<FailedRank>),
}

/// A failed rank, and whether it says that another one is to blame.
#[derive(Debug)]
pub(crate) struct FailedRank {
    pub(crate) failure: Failure,
    pub(crate) of_another_rank: bool,
}

type Ended = (usize, Exit, Instant);

impl Gang {
    /// Starts the ranks of these nodes, as long as they are wanted: thousands take seconds. Where one can't be started, those
    /// before it are ended.
    ///
    /// # Errors
    /// [`Error::Spawn`](crate::Error::Spawn) and [`Error::Job`](crate::Error::Job).
    pub(crate) async fn start(
        spec: &JobSpec,
        places: &[Place],
        result: &Path,
        spawner: &Spawner,
        tell: Tell,
        wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Self> {
        let mut gang = Self {
            world_size: places.first().map_or(0, |place| place.world_size),
            limits: Limits::of(spec),
            began: Instant::now(),
            ranks: Vec::new(),
            ends: FuturesUnordered::new(),
            suspects: Vec::new(),
            settled: None,
            tell,
        };
        let all = places.iter().flat_map(|place| (0..place.ranks.len()).map(move |local| (place, local)));
        for (place, local_rank) in all.take_while(|_| wanted()) {
            match RankProcess::start(spec, place, local_rank, result, spawner, &gang.tell).await {
                Ok(started) => gang.add(started),
                Err(error) => {
                    gang.stop(spec.stop_grace).await;
                    return Err(error);
                }
            }
        }
        Ok(gang)
    }

    fn add(&mut self, rank: RankProcess) {
        let (first_number, child) = (rank.rank, rank.child.clone());
        let end = async move {
            let (exit, at) = child.ended_at().await;
            (first_number, exit, at)
        };
        self.ends.push(end.boxed());
        self.ranks.push(rank);
    }

    /// Watches until all ranks have succeeded or one is to blame for a failure. May be dropped and called again.
    pub(crate) async fn watch(&mut self) -> GangEnd {
        loop {
            if self.settled.is_some_and(|settled| Instant::now() >= settled) {
                return self.blame();
            }
            let next = self.settled.unwrap_or_else(|| Instant::now() + TICK);
            tokio::select! {
                ended = self.ends.next() => match ended {
                    Some(ended) => self.note(ended),
                    None if self.suspects.is_empty() => return GangEnd::Succeeded,
                    None => return self.blame(),
                },
                () = tokio::time::sleep_until(next.into()) => {
                    self.read_progress();
                    if let Some(broken) = self.broken() {
                        return broken;
                    }
                }
            }
        }
    }

    /// Gives the only rank its number in another round, which its events bear from now on.
    pub(crate) fn renumber(&mut self, rank: usize, world_size: usize) {
        self.world_size = world_size;
        if let [only] = self.ranks.as_mut_slice() {
            only.renumber(rank, &self.tell);
        }
    }

    /// Waits until no rank is left, however they end.
    pub(crate) async fn ended(&mut self) {
        while let Some(ended) = self.ends.next().await {
            self.note(ended);
        }
    }

    /// Ends the ranks that are left, all at once: asks, and kills those that are there when the grace is over.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        let tell = &self.tell;
        let ends = self.ranks.iter_mut().map(|rank| async move {
            let exit = match rank.child.exit() {
                Some(exit) => exit,
                None => rank.child.terminate(grace).await,
            };
            rank.tell_end(exit, tell);
        });
        join_all(ends.collect::<Vec<_>>()).await;
    }

    fn note(&mut self, (rank, exit, at): Ended) {
        let Some(process) = self.ranks.iter_mut().find(|process| process.rank == rank) else { return };
        process.tell_end(exit, &self.tell);
        if exit.success() {
            return;
        }
        let of_another_rank = process.error().is_some_and(|file| file.of_another_rank);
        self.suspects.push(Suspect { rank, exit, at, of_another_rank });
        self.settled.get_or_insert_with(|| Instant::now() + SETTLE);
    }

    fn of(&self, rank: usize) -> Option<&RankProcess> {
        self.ranks.iter().find(|process| process.rank == rank)
    }

    fn blame(&self) -> GangEnd {
        let found = culprit(&self.suspects).and_then(|suspect| {
            let failure = self.describe(self.of(suspect.rank)?, RankEnd::Exited(suspect.exit));
            Some(FailedRank { failure, of_another_rank: suspect.of_another_rank })
        });
        found.map_or(GangEnd::Succeeded, |failed| GangEnd::Failed(Box::new(failed)))
    }

    /// The rank that has broken its limits for the longest time.
    fn broken(&self) -> Option<GangEnd> {
        let broken = self.ranks.iter().filter_map(|rank| Some((rank, rank.breaks(self.limits, self.began)?)));
        let (rank, (_, end)) = broken.min_by_key(|(_, (since, _))| *since)?;
        let failure = self.describe(rank, end);
        Some(GangEnd::Failed(Box::new(FailedRank { failure, of_another_rank: false })))
    }

    fn describe(&self, rank: &RankProcess, end: RankEnd) -> Failure {
        Failure {
            rank: rank.number(),
            world_size: self.world_size,
            end,
            message: rank.error().map(|file| file.message),
            progress: rank.told.clone(),
            last_lines: rank.child.tail(LAST_LINES),
            log: rank.log.clone(),
            stderr_log: rank.stderr_log.clone(),
        }
    }

    fn read_progress(&mut self) {
        for rank in &mut self.ranks {
            rank.read_progress(&self.tell);
        }
    }
}
