//! A local job, from its first process to the end of the last.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use kf_core::process::Spawner;
use serde_json::Value;

use super::environment::Place;
use super::gang::{Gang, GangEnd};
use super::local::LocalJob;
use super::port::Ports;
use super::{JobEnd, JobEvent, JobSpec, Program};
use crate::contract::{Address, Node, Placement};
use crate::{Error, Result, plain_file};

/// Runs a job to its end, starting its ranks anew as often as it may. When this returns, no process of it is left.
pub(super) async fn carry(job: &Arc<LocalJob>, spawner: &Spawner) -> JobEnd {
    let began = Instant::now();
    let mut restarts = 0;
    loop {
        match round(job, spawner, restarts, began).await {
            JobEnd::Failed(failure) if restarts < job.spec.max_restarts => {
                restarts += 1;
                job.restarts.store(restarts, Ordering::Relaxed);
                job.tell(JobEvent::Restarting { restarts, failure });
            }
            end => return end,
        }
    }
}

/// One start of all ranks, to the end of the last.
async fn round(job: &Arc<LocalJob>, spawner: &Spawner, restarts: u64, began: Instant) -> JobEnd {
    // Held until the round is over.
    let ports = match Ports::reserve(job.spec.framework, job.spec.world_size()) {
        Ok(ports) => ports,
        Err(error) => return broken(format!("there are no free ports for its ranks: {error}"), true),
    };
    let events = job.clone();
    let tell = Arc::new(move |event| events.tell(event));
    let places = match places(job, &ports, restarts) {
        Ok(places) => places,
        Err(error) => return broken(error.to_string(), false),
    };
    // One beyond all time is none.
    let deadline = job.spec.timeout.and_then(|after| Some((after, began.checked_add(after)?)));
    let late = || deadline.is_some_and(|(_, deadline)| Instant::now() >= deadline);
    let wanted = || !job.cancel.is_cancelled() && !late();
    let mut gang = match Gang::start(&job.spec, &places, &result_file(job), spawner, tell, &wanted).await {
        Ok(gang) => gang,
        Err(Error::Spawn { rank, source, .. }) => {
            return broken(format!("rank {rank} can't be started: {source}"), source.is_retryable());
        }
        Err(error) => return broken(error.to_string(), error.is_retryable()),
    };
    if !wanted() {
        // Not all may have been started, which must not look like an end of them all.
        gang.stop(job.spec.stop_grace).await;
        return match deadline.filter(|_| !job.cancel.is_cancelled()) {
            Some((after, _)) => JobEnd::TimedOut { after },
            None => JobEnd::Canceled,
        };
    }
    let over = async {
        match deadline {
            Some((after, deadline)) => {
                tokio::time::sleep_until(deadline.into()).await;
                after
            }
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        biased;
        () = job.cancel.cancelled() => JobEnd::Canceled,
        after = over => JobEnd::TimedOut { after },
        end = gang.watch() => match end {
            GangEnd::Succeeded => succeeded(job),
            GangEnd::Failed(failed) => JobEnd::Failed(Box::new(failed.failure)),
        },
    };
    gang.stop(job.spec.stop_grace).await;
    end
}

const HERE: &str = "127.0.0.1";

/// The job's nodes, which are all this machine.
pub(super) fn placement(spec: &JobSpec, run_id: &str, ports: &Ports, restarts: u64) -> Result<Placement> {
    let mut of_ranks = ports.ranks.chunks(spec.ranks_per_node.max(1));
    let node = |_| Node::new(HERE, spec.ranks_per_node).ports(of_ranks.next().unwrap_or_default().to_vec());
    let nodes = (0..spec.nodes).map(node).collect();
    Placement::new(&spec.name, run_id, nodes, Address::new(HERE, ports.master))?
        .restarts(restarts, spec.max_restarts)
}

fn places(job: &LocalJob, ports: &Ports, restarts: u64) -> Result<Vec<Place>> {
    let spec = &job.spec;
    let placement = Arc::new(placement(spec, &job.attempt_id, ports, restarts)?);
    let place = |node: usize| {
        let share = job.gpus.len() / spec.nodes;
        Ok(Place {
            gpus: job.gpus.iter().skip(node * share).take(share).cloned().collect(),
            attempt: restarts,
            folder: job.node_folder(node),
            ..Place::of(spec.framework, placement.clone(), node)?
        })
    };
    (0..spec.nodes).map(place).collect()
}

fn succeeded(job: &LocalJob) -> JobEnd {
    if matches!(job.spec.program, Program::Command { .. }) {
        return JobEnd::Succeeded { result: Value::Null };
    }
    let path = result_file(job);
    match plain_file::read_result(&path) {
        Ok(result) => JobEnd::Succeeded { result },
        Err(error) => {
            let place = path.display();
            broken(format!("rank 0 ended with exit code 0 but left no result in {place}: {error}"), false)
        }
    }
}

fn broken(reason: String, retryable: bool) -> JobEnd {
    JobEnd::Broken { reason, retryable }
}

fn result_file(job: &LocalJob) -> PathBuf {
    job.folder.join("result.json")
}
