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
use super::port::ReservedPort;
use super::{JobEnd, JobEvent, Program};

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
    let port = match ReservedPort::new() {
        Ok(port) => port,
        Err(error) => return broken(format!("no free port for rank 0: {error}"), true),
    };
    let events = job.clone();
    let tell = Arc::new(move |event| events.tell(event));
    let places = places(job, port.port(), restarts);
    let mut gang = match Gang::start(&job.spec, &places, &result_file(job), spawner, tell).await {
        Ok(gang) => gang,
        Err(error) => {
            let reason = format!("rank {} can't be started: {}", error.rank, error.source);
            return broken(reason, error.source.is_retryable());
        }
    };
    let deadline = job.spec.timeout.map(|after| (after, began + after));
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
        end = gang.watch() => match end {
            GangEnd::Succeeded => succeeded(job),
            GangEnd::Failed(failed) => JobEnd::Failed(Box::new(failed.failure)),
        },
        () = job.cancel.cancelled() => JobEnd::Canceled,
        after = over => JobEnd::TimedOut { after },
    };
    gang.stop(job.spec.stop_grace).await;
    end
}

/// The job's nodes, which are all this machine.
fn places(job: &LocalJob, master_port: u16, restarts: u64) -> Vec<Place> {
    let (nodes, local_world_size) = (job.spec.nodes, job.spec.ranks_per_node);
    let place = |node: usize| Place {
        run_id: job.attempt_id.clone(),
        node,
        nodes,
        first_rank: node * local_world_size,
        local_world_size,
        world_size: job.spec.world_size(),
        master_addr: "127.0.0.1".into(),
        master_port,
        agent_store: false,
        host: (nodes > 1).then(|| "127.0.0.1".into()),
        restarts,
        max_restarts: job.spec.max_restarts,
        attempt: restarts,
        folder: job.node_folder(node),
        heal: None,
    };
    (0..nodes).map(place).collect()
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

fn broken(reason: String, retryable: bool) -> JobEnd {
    JobEnd::Broken { reason, retryable }
}

fn result_file(job: &LocalJob) -> PathBuf {
    job.folder.join("result.json")
}
