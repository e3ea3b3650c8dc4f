//! From the first process of a job to the end of the last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kf_core::process::{Child, Command, Exit, Log, SpawnError, Spawner};
use serde_json::Value;

use super::environment::{Place, environment};
use super::failure::{Suspect, culprit};
use super::local::LocalJob;
use super::port::ReservedPort;
use super::{Failure, JobEnd, JobEvent, Program, RankEnd};
use crate::error_file;
use crate::progress::{Note, ProgressFile};
use crate::ranks::RankRequest;

/// How often progress is looked for.
const TICK: Duration = Duration::from_millis(100);
/// Ranks that fail this soon after the first may be the cause of its failure.
const SETTLE: Duration = Duration::from_millis(100);
/// How many of a failed rank's last lines are told.
const LAST_LINES: usize = 20;

/// Runs a job to its end. When this returns, no process of the job is left.
pub(super) async fn carry(job: &Arc<LocalJob>, spawner: &Spawner) -> JobEnd {
    // Held until the job is over.
    let port = match ReservedPort::new() {
        Ok(port) => port,
        Err(error) => return broken(format!("no free port for rank 0: {error}"), true),
    };
    let mut ranks = Vec::with_capacity(job.spec.ranks);
    for rank in 0..job.spec.ranks {
        match start(job, spawner, rank, port.port()).await {
            Ok(started) => ranks.push(started),
            Err(error) => {
                stop(job, &ranks).await;
                return broken(format!("rank {rank} can't be started: {error}"), error.is_retryable());
            }
        }
    }
    let end = watch(job, &mut ranks).await;
    stop(job, &ranks).await;
    read_progress(job, &mut ranks);
    end
}

/// A rank's process.
struct RankProcess {
    rank: usize,
    child: Arc<Child>,
    error_file: PathBuf,
    progress: ProgressFile,
    started: bool,
}

type Ended = (usize, Exit, Instant);

async fn start(
    job: &Arc<LocalJob>,
    spawner: &Spawner,
    rank: usize,
    master_port: u16,
) -> Result<RankProcess, SpawnError> {
    let error_file = job.folder.join(format!("rank-{rank}.error.json"));
    let progress_file = job.folder.join(format!("rank-{rank}.progress.jsonl"));
    let mut command = match &job.spec.program {
        Program::Ranks { entry, args } => {
            let request = RankRequest { args: args.clone(), result: result_file(job) };
            Command::entry(entry, &request)?
        }
        Program::Command { program, args } => Command::program(program, args.iter().cloned()),
    };
    let place = Place {
        rank,
        attempt_id: &job.attempt_id,
        master_port,
        error_file: &error_file,
        progress_file: &progress_file,
    };
    for (name, value) in environment(&job.spec, &place) {
        command = command.env(name, value);
    }
    if let Some(folder) = &job.spec.cwd {
        command = command.cwd(folder);
    }
    let events = job.events.clone();
    let on_line = move |line: &str| {
        let _ = events.send(JobEvent::Line { rank, line: line.to_owned() });
    };
    let child = spawner.spawn(command.log(Log::to(job.log(rank))).on_line(on_line)).await?;
    job.tell(JobEvent::RankStarted { rank, pid: child.pid() });
    let progress = ProgressFile::new(progress_file);
    Ok(RankProcess { rank, child: Arc::new(child), error_file, progress, started: false })
}

/// Watches until all ranks have succeeded, or something ends the job before.
async fn watch(job: &LocalJob, ranks: &mut [RankProcess]) -> JobEnd {
    let began = Instant::now();
    let mut ends: FuturesUnordered<BoxFuture<'static, Ended>> = ranks
        .iter()
        .map(|rank| {
            let (number, child) = (rank.rank, rank.child.clone());
            async move {
                let (exit, at) = child.ended_at().await;
                (number, exit, at)
            }
            .boxed()
        })
        .collect();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = ends.next() => match ended {
                Some(ended) if ended.1.success() => tell_end(job, ended),
                Some(ended) => return failed(job, ranks, ended, ends).await,
                None => return succeeded(job),
            },
            () = job.cancel.cancelled() => return JobEnd::Canceled,
            _ = tick.tick() => {
                read_progress(job, ranks);
                if let Some(after) = job.spec.timeout.filter(|after| began.elapsed() >= *after) {
                    return JobEnd::TimedOut { after };
                }
                if let Some(late) = ranks.iter().find(|rank| is_late(job, rank, began.elapsed())) {
                    let end = RankEnd::NotStarted(job.spec.start_timeout.as_secs_f64());
                    return JobEnd::Failed(Box::new(describe(job, late, end)));
                }
            }
        }
    }
}

fn is_late(job: &LocalJob, rank: &RankProcess, elapsed: Duration) -> bool {
    let tells = matches!(job.spec.program, Program::Ranks { .. });
    tells && !rank.started && elapsed >= job.spec.start_timeout && rank.child.exit().is_none()
}

fn succeeded(job: &LocalJob) -> JobEnd {
    if matches!(job.spec.program, Program::Command { .. }) {
        return JobEnd::Succeeded { result: Value::Null };
    }
    let path = result_file(job);
    let result = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    match result {
        Ok(result) => JobEnd::Succeeded { result },
        Err(error) => {
            let place = path.display();
            broken(format!("rank 0 ended with exit code 0 but left no result in {place}: {error}"), false)
        }
    }
}

/// Finds the cause of a failure among the ranks that fail with the first one.
async fn failed(
    job: &LocalJob,
    ranks: &[RankProcess],
    first: Ended,
    mut ends: FuturesUnordered<BoxFuture<'static, Ended>>,
) -> JobEnd {
    let suspect = |(rank, exit, at): Ended| Suspect {
        rank,
        exit,
        at,
        of_another_rank: error_file::read(&ranks[rank].error_file).is_some_and(|file| file.of_another_rank),
    };
    tell_end(job, first);
    let mut suspects = vec![suspect(first)];
    let settle = tokio::time::sleep(SETTLE);
    tokio::pin!(settle);
    loop {
        let ended = tokio::select! {
            ended = ends.next() => ended,
            () = &mut settle => None,
        };
        let Some(ended) = ended else { break };
        tell_end(job, ended);
        if !ended.1.success() {
            suspects.push(suspect(ended));
        }
    }
    // There is at least the first.
    let (rank, exit) = culprit(&suspects).map_or((first.0, first.1), |found| (found.rank, found.exit));
    JobEnd::Failed(Box::new(describe(job, &ranks[rank], RankEnd::Exited(exit))))
}

fn describe(job: &LocalJob, rank: &RankProcess, end: RankEnd) -> Failure {
    Failure {
        rank: rank.rank,
        world_size: job.spec.ranks,
        end,
        message: error_file::read(&rank.error_file).map(|file| file.message),
        last_lines: rank.child.tail(LAST_LINES),
        log: job.log(rank.rank),
    }
}

/// Ends the ranks that are left, all at once.
async fn stop(job: &LocalJob, ranks: &[RankProcess]) {
    let left = ranks.iter().filter(|rank| rank.child.exit().is_none());
    join_all(left.map(|rank| async {
        let exit = rank.child.terminate(job.spec.stop_grace).await;
        job.tell(JobEvent::RankEnded { rank: rank.rank, exit });
    }))
    .await;
}

fn read_progress(job: &LocalJob, ranks: &mut [RankProcess]) {
    for rank in ranks {
        for note in rank.progress.read() {
            match note {
                Note::Started => rank.started = true,
                Note::Progress(progress) => job.tell(JobEvent::Progress { rank: rank.rank, progress }),
            }
        }
    }
}

fn broken(reason: String, retryable: bool) -> JobEnd {
    JobEnd::Broken { reason, retryable }
}

fn tell_end(job: &LocalJob, (rank, exit, _): Ended) {
    job.tell(JobEvent::RankEnded { rank, exit });
}

fn result_file(job: &LocalJob) -> PathBuf {
    job.folder.join("result.json")
}
