//! Ranks as processes of this machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use kf_core::CancellationToken;
use kf_core::process::Spawner;
use serde::de::DeserializeOwned;
use tokio_util::sync::DropGuard;

use super::attempt_id::check_attempt_id;
use super::carry::{carry, placement};
use super::machine::gpus_for;
use super::port::Ports;
use super::rank_process::{rank_folder, stdout_name};
use super::reader::unwatched;
use super::{Job, JobEvent, JobFeed, JobHandle, JobSpec, JobStatus, Launcher, run};
use crate::{Error, Result, plain_file};

const KIND: &str = "local";
/// How many jobs that have ended are remembered.
const REMEMBERED: usize = 256;

/// Runs the ranks of a job as processes of this machine.
///
/// Its jobs end when it is dropped, and, on Linux, when this process ends in any way. In its folder, each attempt has a
/// folder with what the ranks printed (`attempt_0/1/output.log` for the first start of local rank 1) and their error
/// files (`error.json` there); with several nodes, which all are this machine, below a folder a node (`node_0`). Needs a tokio
/// runtime with I/O and time enabled.
#[derive(Debug)]
pub struct LocalLauncher {
    folder: PathBuf,
    spawner: Mutex<Option<Arc<Spawner>>>,
    jobs: Mutex<Jobs>,
    ends: CancellationToken,
    _ends_jobs: DropGuard,
}

#[derive(Debug, Default)]
struct Jobs {
    by_attempt: HashMap<String, Arc<LocalJob>>,
    in_order: Vec<String>,
}

/// A job of this process.
#[derive(Debug)]
pub(super) struct LocalJob {
    pub(super) spec: JobSpec,
    pub(super) attempt_id: String,
    pub(super) folder: PathBuf,
    /// The GPUs for its ranks.
    pub(super) gpus: Vec<String>,
    pub(super) cancel: CancellationToken,
    /// How many times its ranks were started anew.
    pub(super) restarts: AtomicU64,
    feed: Arc<JobFeed>,
}

impl LocalJob {
    pub(super) fn tell(&self, event: JobEvent) {
        self.feed.tell(event);
    }

    /// Where the files of a node's ranks are.
    pub(super) fn node_folder(&self, node: usize) -> PathBuf {
        match self.spec.nodes {
            1 => self.folder.clone(),
            _ => self.folder.join(format!("node_{node}")),
        }
    }

    fn log(&self, rank: usize) -> PathBuf {
        let (node, local_rank) = (rank / self.spec.ranks_per_node, rank % self.spec.ranks_per_node);
        let attempt = self.restarts.load(Ordering::Relaxed);
        rank_folder(&self.node_folder(node), attempt, local_rank).join(stdout_name(&self.spec))
    }
}

impl LocalLauncher {
    /// A launcher that keeps its jobs' files in this folder, which is made when the first job starts.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref();
        let ends = CancellationToken::new();
        Self {
            folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
            spawner: Mutex::default(),
            jobs: Mutex::default(),
            _ends_jobs: ends.clone().drop_guard(),
            ends,
        }
    }

    /// Runs a job to its end, and returns what rank 0 returned; see [`run`].
    ///
    /// # Errors
    /// Those of [`run`].
    pub async fn run<R: DeserializeOwned>(&self, job: Job) -> Result<R> {
        run(self, job).await
    }

    /// The folder of one attempt's files.
    pub fn folder(&self, handle: &JobHandle) -> PathBuf {
        self.folder.join(&handle.attempt_id)
    }

    fn spawner(&self, job: &str) -> Result<Arc<Spawner>> {
        let mut spawner = locked(&self.spawner);
        if let Some(spawner) = &*spawner {
            return Ok(spawner.clone());
        }
        let new = Spawner::new().map_err(|source| Error::Spawn { job: job.to_owned(), rank: 0, source })?;
        Ok(spawner.insert(Arc::new(new)).clone())
    }

    fn find(&self, handle: &JobHandle) -> Result<Arc<LocalJob>> {
        let jobs = locked(&self.jobs);
        let found = jobs.by_attempt.get(&handle.attempt_id).filter(|_| handle.launcher == KIND);
        found.cloned().ok_or_else(|| Error::Unknown { attempt: handle.attempt_id.clone() })
    }

    /// Makes the job's folder, without what an earlier process left of the same attempt.
    fn make_folder(&self, attempt_id: &str) -> Result<PathBuf> {
        let folder = self.folder.join(attempt_id);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("can't clear", &folder)(error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&folder).map_err(Error::io("can't make", &folder))?;
        Ok(folder)
    }
}

#[async_trait]
impl Launcher for LocalLauncher {
    fn jobs_outlive_caller(&self) -> bool {
        false
    }

    async fn submit(&self, spec: JobSpec, attempt_id: &str) -> Result<JobHandle> {
        spec.check()?;
        check_attempt_id(&spec.name, attempt_id)?;
        let handle = JobHandle::new(KIND, attempt_id);
        let mut jobs = locked(&self.jobs);
        // Whatever the machine has by now, one that was started is found.
        if let Some(job) = jobs.by_attempt.get(attempt_id) {
            return match job.spec == spec {
                true => Ok(handle),
                false => Err(Error::Conflict { attempt: attempt_id.to_owned() }),
            };
        }
        check_framework(&spec, attempt_id)?;
        let world_size = spec.world_size();
        let gpus = gpus_for(&spec, world_size)?;
        let spawner = self.spawner(&spec.name)?;
        let feed = Arc::new(JobFeed::new(world_size));
        let job = Arc::new(LocalJob {
            folder: self.make_folder(attempt_id)?,
            spec,
            attempt_id: attempt_id.to_owned(),
            gpus,
            cancel: self.ends.child_token(),
            restarts: AtomicU64::new(0),
            feed: feed.clone(),
        });
        jobs.add(job.clone());
        drop(jobs);
        let watched = Watched(feed);
        tokio::spawn(async move {
            let end = carry(&job, &spawner).await;
            watched.0.end(end);
        });
        Ok(handle)
    }

    async fn attach(&self, handle: &JobHandle) -> Result<()> {
        self.find(handle).map(drop)
    }

    async fn events(&self, handle: &JobHandle) -> Result<BoxStream<'static, JobEvent>> {
        Ok(self.find(handle)?.feed.events())
    }

    async fn status(&self, handle: &JobHandle) -> Result<JobStatus> {
        Ok(self.find(handle)?.feed.status())
    }

    async fn logs(&self, handle: &JobHandle, rank: usize) -> Result<String> {
        let job = self.find(handle)?;
        if rank >= job.spec.world_size() {
            let reason = format!("it has no rank {rank}; it has {}", job.spec.world_size());
            return Err(Error::Job { job: job.spec.name.clone(), reason });
        }
        let path = job.log(rank);
        let of_task = path.clone();
        let read = tokio::task::spawn_blocking(move || plain_file::read(&of_task, u64::MAX - 1)).await;
        match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            // The rank's process is about to be started.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Error::io("can't read", path)(error)),
        }
    }

    async fn cancel(&self, handle: &JobHandle) -> Result<()> {
        self.find(handle)?.cancel.cancel();
        Ok(())
    }
}

/// Held by who watches a job; dropped with the runtime that watched it, at the latest.
struct Watched(Arc<JobFeed>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abandon(unwatched());
    }
}

impl Jobs {
    /// Adds a job, and forgets the oldest ended ones when there are many.
    fn add(&mut self, job: Arc<LocalJob>) {
        if self.in_order.len() >= REMEMBERED {
            let ended = |id: &String| self.by_attempt.get(id).is_none_or(|job| job.feed.ended().is_some());
            if let Some(oldest) = self.in_order.iter().position(ended) {
                self.by_attempt.remove(&self.in_order.remove(oldest));
            }
        }
        self.in_order.push(job.attempt_id.clone());
        self.by_attempt.insert(job.attempt_id.clone(), job);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses a job that its framework does not go along with, by a look at rank 0.
fn check_framework(spec: &JobSpec, attempt_id: &str) -> Result<()> {
    let ports = Ports::made_up(spec.framework, spec.world_size())
        .map_err(|reason| Error::Job { job: spec.name.clone(), reason })?;
    spec.framework.rank_env(&placement(spec, attempt_id, &ports, 0)?, 0).map(drop)
}
