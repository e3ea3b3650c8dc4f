//! One rank's process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kf_core::process::{Child, Command, Exit, Log, Spawner};

use super::environment::{Place, environment};
use super::gang::Tell;
use super::memory::memory_of;
use super::{JobEvent, JobSpec, Program, RankEnd};
use crate::error_file::{self, ErrorFile};
use crate::progress::{Note, ProgressFile};
use crate::ranks::RankRequest;
use crate::{Error, Progress, Result};

/// A rank's process.
pub(super) struct RankProcess {
    /// The number that it was started with; that in its job may change.
    pub(super) rank: usize,
    number: Arc<AtomicUsize>,
    pub(super) child: Arc<Child>,
    pub(super) log: PathBuf,
    /// What it prints to standard error, where that is apart.
    pub(super) stderr_log: Option<PathBuf>,
    /// Its last progress.
    pub(super) told: Option<Progress>,
    error_file: PathBuf,
    progress: ProgressFile,
    /// When it last told progress, or else began; none before.
    heard: Option<Instant>,
    /// Whether its start was told.
    start_told: bool,
    /// Whether its end was told.
    end_told: bool,
}

/// What a rank may do at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long it may take to begin.
    start: Option<Duration>,
    /// How long it may tell no progress.
    progress: Option<Duration>,
    /// How many bytes of memory it may have.
    memory: Option<u64>,
}

impl Limits {
    pub(super) fn of(spec: &JobSpec) -> Self {
        Self {
            start: matches!(spec.program, Program::Ranks { .. }).then_some(spec.start_timeout),
            progress: spec.progress_timeout,
            memory: Some(spec.resources.memory).filter(|bytes| *bytes > 0),
        }
    }
}

impl RankProcess {
    /// Starts one rank of a node.
    pub(super) async fn start(
        spec: &JobSpec,
        place: &Place,
        local_rank: usize,
        result: &Path,
        spawner: &Spawner,
        tell: &Tell,
    ) -> Result<Self> {
        let rank = place.ranks.start + local_rank;
        let spawn_error = |source| Error::Spawn { job: spec.name.clone(), rank, source };
        let folder = rank_folder(&place.folder, place.attempt, local_rank);
        let (error_file, progress) = (folder.join("error.json"), folder.join("progress.jsonl"));
        let mut command = match &spec.program {
            Program::Ranks { entry, args } => {
                let request = RankRequest { args: args.clone(), result: Some(result.to_owned()) };
                Command::entry(entry, &request).map_err(spawn_error)?
            }
            Program::Command { program, args } => Command::program(program, args.iter().cloned()),
        };
        for (name, value) in environment(spec, place, local_rank, &error_file, &progress)? {
            command = command.env(name, value);
        }
        if let Some(folder) = &spec.cwd {
            command = command.cwd(folder);
        }
        let number = Arc::new(AtomicUsize::new(rank));
        let on_line = |stderr: bool| {
            let (tell, number) = (tell.clone(), number.clone());
            move |line: &str| {
                let rank = number.load(Ordering::Relaxed);
                tell(JobEvent::Line { rank, line: line.to_owned(), stderr });
            }
        };
        let log = folder.join(stdout_name(spec));
        command = command.log(Log::to(&log)).on_line(on_line(false));
        let stderr_log = spec.stderr_apart.then(|| folder.join("stderr.log"));
        if let Some(log) = &stderr_log {
            command = command.stderr(Log::to(log), on_line(true));
        }
        let child = spawner.spawn(command).await.map_err(spawn_error)?;
        let mut process = Self {
            rank,
            number,
            child: Arc::new(child),
            log,
            stderr_log,
            told: None,
            error_file,
            progress: ProgressFile::new(progress),
            // A program that is not ours does not say when it begins.
            heard: matches!(spec.program, Program::Command { .. }).then(Instant::now),
            start_told: false,
            end_told: false,
        };
        // One that outlives rounds has no number in the job yet.
        if place.heal.is_none() {
            process.tell_start(tell);
        }
        Ok(process)
    }

    /// Its number in the job.
    pub(super) fn number(&self) -> usize {
        self.number.load(Ordering::Relaxed)
    }

    /// Gives it another number in the job.
    pub(super) fn renumber(&mut self, rank: usize, tell: &Tell) {
        self.number.store(rank, Ordering::Relaxed);
        self.tell_start(tell);
    }

    fn tell_start(&mut self, tell: &Tell) {
        if !std::mem::replace(&mut self.start_told, true) {
            tell(JobEvent::RankStarted { rank: self.number(), pid: Some(self.child.pid()) });
        }
    }

    /// Tells what it has reported since the last call.
    pub(super) fn read_progress(&mut self, tell: &Tell) {
        for note in self.progress.read() {
            self.heard = Some(Instant::now());
            if let Note::Progress(progress) = note {
                self.told = Some(progress.clone());
                tell(JobEvent::Progress { rank: self.number(), progress });
            }
        }
    }

    /// Tells its end, once and where its start was told, and before it what it still reported.
    pub(super) fn tell_end(&mut self, exit: Exit, tell: &Tell) {
        self.read_progress(tell);
        if self.start_told && !std::mem::replace(&mut self.end_told, true) {
            tell(JobEvent::RankEnded { rank: self.number(), exit });
        }
    }

    /// What it left of its own failure.
    pub(super) fn error(&self) -> Option<ErrorFile> {
        error_file::read(&self.error_file)
    }

    /// How it breaks its limits, where it runs and does, and since when.
    pub(super) fn breaks(&self, limits: Limits, began: Instant) -> Option<(Instant, RankEnd)> {
        if self.child.exit().is_some() {
            return None;
        }
        let past = |since: Instant, limit: Option<Duration>| limit.filter(|limit| since.elapsed() >= *limit);
        match self.heard {
            None => {
                if let Some(limit) = past(began, limits.start) {
                    return Some((began, RankEnd::NotStarted(limit.as_secs_f64())));
                }
            }
            Some(heard) => {
                if let Some(limit) = past(heard, limits.progress) {
                    return Some((heard, RankEnd::Hung(limit.as_secs_f64())));
                }
            }
        }
        let limit = limits.memory?;
        let used = memory_of(self.child.pid()).filter(|used| *used > limit)?;
        Some((Instant::now(), RankEnd::OutOfMemory { used, limit }))
    }
}

/// The file with what a rank printed, in its folder.
pub(crate) fn stdout_name(spec: &JobSpec) -> &'static str {
    if spec.stderr_apart { "stdout.log" } else { "output.log" }
}

/// The folder of a rank's files, as torchrun lays them out.
pub(crate) fn rank_folder(folder: &Path, attempt: u64, local_rank: usize) -> PathBuf {
    folder.join(format!("attempt_{attempt}")).join(local_rank.to_string())
}
