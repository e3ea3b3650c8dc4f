//! The ranks that one process starts in one round of a job: started together, watched together, ended together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kf_core::process::{Child, Command, Exit, Log, SpawnError, Spawner};

use super::environment::{Place, environment};
use super::failure::{Suspect, culprit};
use super::{Failure, JobEvent, JobSpec, Program, RankEnd};
use crate::error_file;
use crate::progress::{Note, ProgressFile};
use crate::ranks::RankRequest;

/// How often progress is looked for.
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
    /// The number of the only rank, where that changes.
    number: Option<usize>,
    start_timeout: Option<Duration>,
    began: Instant,
    ranks: Vec<RankProcess>,
    ends: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Those that failed, until it is clear which of them is to blame.
    suspects: Vec<Suspect>,
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

/// A rank's process.
struct RankProcess {
    rank: usize,
    child: Arc<Child>,
    log: PathBuf,
    error_file: PathBuf,
    progress: ProgressFile,
    started: bool,
}

type Ended = (usize, Exit, Instant);

/// Why a gang was not started: the rank, and what was in the way.
#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) rank: usize,
    pub(crate) source: SpawnError,
}

impl Gang {
    /// Starts the ranks of these nodes. Where one can't be started, those before it are ended.
    pub(crate) async fn start(
        spec: &JobSpec,
        places: &[Place],
        result: &Path,
        spawner: &Spawner,
        tell: Tell,
    ) -> Result<Self, NotStarted> {
        let mut gang = Self {
            world_size: places.first().map_or(0, |place| place.world_size),
            number: None,
            start_timeout: matches!(spec.program, Program::Ranks { .. }).then_some(spec.start_timeout),
            began: Instant::now(),
            ranks: Vec::new(),
            ends: FuturesUnordered::new(),
            suspects: Vec::new(),
            settled: None,
            tell,
        };
        let all =
            places.iter().flat_map(|place| (0..place.local_world_size).map(move |local| (place, local)));
        for (place, local_rank) in all {
            let rank = place.first_rank + local_rank;
            match start_rank(spec, place, local_rank, result, spawner, &gang.tell).await {
                Ok(started) => gang.add(started),
                Err(source) => {
                    gang.stop(spec.stop_grace).await;
                    return Err(NotStarted { rank, source });
                }
            }
        }
        Ok(gang)
    }

    fn add(&mut self, rank: RankProcess) {
        let (number, child) = (rank.rank, rank.child.clone());
        let end = async move {
            let (exit, at) = child.ended_at().await;
            (number, exit, at)
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
                    if let Some(late) = self.late() {
                        return late;
                    }
                }
            }
        }
    }

    /// Gives the only rank its number in another round.
    pub(crate) fn renumber(&mut self, rank: usize, world_size: usize) {
        self.world_size = world_size;
        self.number = Some(rank);
    }

    /// Waits until no rank is left, however they end.
    pub(crate) async fn ended(&mut self) {
        while let Some(ended) = self.ends.next().await {
            self.note(ended);
        }
    }

    /// Ends the ranks that are left, all at once: asks, and kills those that are there when the grace is over.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        let left = self.ranks.iter().filter(|rank| rank.child.exit().is_none());
        let ends = left.map(|rank| {
            let (rank, child, tell) = (rank.rank, rank.child.clone(), self.tell.clone());
            async move {
                let exit = child.terminate(grace).await;
                tell(JobEvent::RankEnded { rank, exit });
            }
        });
        join_all(ends.collect::<Vec<_>>()).await;
        self.read_progress();
    }

    fn note(&mut self, (rank, exit, at): Ended) {
        (self.tell)(JobEvent::RankEnded { rank, exit });
        if exit.success() {
            return;
        }
        let file = self.of(rank).and_then(|rank| error_file::read(&rank.error_file));
        let of_another_rank = file.is_some_and(|file| file.of_another_rank);
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

    fn late(&self) -> Option<GangEnd> {
        let limit = self.start_timeout.filter(|limit| self.began.elapsed() >= *limit)?;
        let late = self.ranks.iter().find(|rank| !rank.started && rank.child.exit().is_none())?;
        let failure = self.describe(late, RankEnd::NotStarted(limit.as_secs_f64()));
        Some(GangEnd::Failed(Box::new(FailedRank { failure, of_another_rank: false })))
    }

    fn describe(&self, rank: &RankProcess, end: RankEnd) -> Failure {
        Failure {
            rank: self.number.unwrap_or(rank.rank),
            world_size: self.world_size,
            end,
            message: error_file::read(&rank.error_file).map(|file| file.message),
            last_lines: rank.child.tail(LAST_LINES),
            log: rank.log.clone(),
        }
    }

    fn read_progress(&mut self) {
        for rank in &mut self.ranks {
            for note in rank.progress.read() {
                match note {
                    Note::Started => rank.started = true,
                    Note::Progress(progress) => {
                        (self.tell)(JobEvent::Progress { rank: rank.rank, progress });
                    }
                }
            }
        }
    }
}

/// Starts one rank.
async fn start_rank(
    spec: &JobSpec,
    place: &Place,
    local_rank: usize,
    result: &Path,
    spawner: &Spawner,
    tell: &Tell,
) -> Result<RankProcess, SpawnError> {
    let rank = place.first_rank + local_rank;
    let folder = rank_folder(&place.folder, place.attempt, local_rank);
    let (error_file, progress) = (folder.join("error.json"), folder.join("progress.jsonl"));
    let mut command = match &spec.program {
        Program::Ranks { entry, args } => {
            let request = RankRequest { args: args.clone(), result: result.to_owned() };
            Command::entry(entry, &request)?
        }
        Program::Command { program, args } => Command::program(program, args.iter().cloned()),
    };
    for (name, value) in environment(spec, place, local_rank, &error_file, &progress) {
        command = command.env(name, value);
    }
    if let Some(folder) = &spec.cwd {
        command = command.cwd(folder);
    }
    let on_line = |stderr: bool| {
        let tell = tell.clone();
        move |line: &str| tell(JobEvent::Line { rank, line: line.to_owned(), stderr })
    };
    let log = folder.join(stdout_name(spec));
    command = command.log(Log::to(&log)).on_line(on_line(false));
    if spec.stderr_apart {
        command = command.stderr(Log::to(folder.join("stderr.log")), on_line(true));
    }
    let child = spawner.spawn(command).await?;
    tell(JobEvent::RankStarted { rank, pid: child.pid() });
    let progress = ProgressFile::new(progress);
    Ok(RankProcess { rank, child: Arc::new(child), log, error_file, progress, started: false })
}

/// The file with what a rank printed, in its folder.
pub(crate) fn stdout_name(spec: &JobSpec) -> &'static str {
    if spec.stderr_apart { "stdout.log" } else { "output.log" }
}

/// The folder of a rank's files, as torchrun lays them out.
pub(crate) fn rank_folder(folder: &Path, attempt: u64, local_rank: usize) -> PathBuf {
    folder.join(format!("attempt_{attempt}")).join(local_rank.to_string())
}
