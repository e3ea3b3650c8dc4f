//! The launcher.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use kf_train::carrier::check_attempt_id;
use kf_train::{Error, JobEvent, JobHandle, JobSpec, JobStatus, Launcher, Result};
use kube::Client;
use tokio::task::AbortHandle;

use super::cluster::{Cluster, refused, unanswered};
use super::follow::{Job, Verdict, follow};
use super::kinds::Kind;
use super::names::{job_name, object_name};
use super::options::PodOptions;

const KIND: &str = "kubernetes";
/// How many jobs that have ended are remembered.
const REMEMBERED: usize = 256;

/// Runs the ranks of a job as pods of a cluster. A node of the job is a pod, and a rank of it a container.
///
/// Its jobs go on when this process ends: another launcher, in another process, finds them by the same attempt ids. Ranks
/// that failed are started anew only while some launcher has the job in hand: submit it, or attach to it. What ranks print
/// is kept in memory, the last 256 KiB of each, after a line that says how much is left out before; standard error is not kept
/// apart.
///
/// Where the cluster makes none of a job's pods, such as for a quota, [`JobEvent::Waiting`] says why, by the events of what is
/// to make them: that takes the right to list events, which an engine has that may make
/// [single pods](crate::manifests::Options::single_pods).
#[derive(Debug)]
pub struct KubeLauncher {
    cluster: Arc<Cluster>,
    jobs: Mutex<Jobs>,
}

#[derive(Debug, Default)]
struct Jobs {
    by_attempt: HashMap<String, (Arc<Job>, AbortHandle)>,
    in_order: Vec<String>,
}

impl KubeLauncher {
    /// Runs jobs in a namespace, by objects of a kind. What is asked of a namespace whose name is none, such as an empty one, is
    /// an error.
    pub fn new(client: Client, namespace: impl Into<String>, kind: Kind, options: PodOptions) -> Self {
        let cluster = Cluster { client, namespace: namespace.into(), kind, options };
        Self { cluster: Arc::new(cluster), jobs: Mutex::default() }
    }

    /// The kind of objects that this cluster carries jobs by best: a TrainJob where it has them, else a JobSet, else a
    /// PyTorchJob, and else a Job.
    ///
    /// The newest come first: TrainJobs are what Kubeflow shows and queues, JobSets what they are made of. A PyTorchJob is
    /// shown too, and its operator may start all its pods at once or none; its limits (see [`Kind::PyTorchJob`]) put it behind
    /// those. That the cluster knows a kind does not say that its operator runs: where definitions stay of one that was taken
    /// away, choose the kind by hand.
    ///
    /// # Errors
    /// What the cluster says.
    pub async fn discover(client: &Client) -> Result<Kind> {
        let groups = client.list_api_groups().await;
        let groups = groups.map_err(|error| unanswered("ask for the cluster's API groups".into(), &error))?;
        let versions: Vec<_> = groups.groups.into_iter().flat_map(|group| group.versions).collect();
        for kind in Kind::INSTALLED {
            let wanted = kind.resource();
            let version = &wanted.api_version;
            if !versions.iter().any(|there| there.group_version == *version) {
                continue;
            }
            // Other operators have objects of the same group.
            let resources = client.list_api_group_resources(version).await;
            let resources = resources.map_err(refused("ask for the objects of", version))?.resources;
            if resources.iter().any(|there| there.kind == wanted.kind) {
                return Ok(kind);
            }
        }
        Ok(Kind::Job)
    }

    /// Removes all objects of a job, and ends its ranks.
    ///
    /// # Errors
    /// [`Error::Carrier`].
    pub async fn delete(&self, handle: &JobHandle) -> Result<()> {
        self.cluster.delete(&job_name(&handle.attempt_id)).await
    }

    /// The handle of a job that was submitted under this attempt id, by whomever. [`run`](kf_train::run) with the same id and
    /// job goes on with it as well.
    pub fn handle(attempt_id: impl Into<String>) -> JobHandle {
        JobHandle::new(KIND, attempt_id)
    }

    /// The name of a job's objects on the cluster, and of the label `kf.dev/job` of its pods.
    pub fn name(handle: &JobHandle) -> String {
        job_name(&handle.attempt_id)
    }

    fn known(&self, attempt_id: &str) -> Option<Arc<Job>> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.by_attempt.get(attempt_id).map(|(job, _)| job.clone())
    }

    /// A job that is followed from now on, or was already.
    fn take(&self, spec: JobSpec, attempt_id: &str, restart: u64) -> Arc<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((job, _)) = jobs.by_attempt.get(attempt_id) {
            return job.clone();
        }
        let job = Arc::new(Job::new(spec, attempt_id, job_name(attempt_id)));
        let follows = tokio::spawn(follow(self.cluster.clone(), job.clone(), restart)).abort_handle();
        jobs.add(job.clone(), follows);
        job
    }

    async fn find(&self, handle: &JobHandle) -> Result<Arc<Job>> {
        let unknown = || Error::Unknown { attempt: handle.attempt_id.clone() };
        if handle.launcher != KIND {
            return Err(unknown());
        }
        if let Some(job) = self.known(&handle.attempt_id) {
            return Ok(job);
        }
        let found = self.cluster.find(&job_name(&handle.attempt_id)).await?.ok_or_else(unknown)?;
        Ok(self.take(found.spec, &handle.attempt_id, found.restart))
    }

    /// The number of the job's last start.
    async fn last(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.cluster.find(name).await?.map(|found| found.restart))
    }
}

impl Jobs {
    /// Adds a job, and forgets the oldest ended ones when there are many.
    fn add(&mut self, job: Arc<Job>, follows: AbortHandle) {
        if self.in_order.len() >= REMEMBERED {
            let ended =
                |id: &String| self.by_attempt.get(id).is_none_or(|(job, _)| job.feed.ended().is_some());
            if let Some(oldest) = self.in_order.iter().position(ended) {
                self.by_attempt.remove(&self.in_order.remove(oldest));
            }
        }
        self.in_order.push(job.attempt_id.clone());
        self.by_attempt.insert(job.attempt_id.clone(), (job, follows));
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        for (_, follows) in self.by_attempt.values() {
            follows.abort();
        }
    }
}

#[async_trait]
impl Launcher for KubeLauncher {
    fn jobs_outlive_caller(&self) -> bool {
        true
    }

    async fn submit(&self, spec: JobSpec, attempt_id: &str) -> Result<JobHandle> {
        spec.check()?;
        check_attempt_id(&spec.name, attempt_id)?;
        let handle = Self::handle(attempt_id);
        let conflict = || Error::Conflict { attempt: attempt_id.to_owned() };
        if let Some(job) = self.known(attempt_id) {
            return if job.spec == spec { Ok(handle) } else { Err(conflict()) };
        }
        let name = job_name(attempt_id);
        let restart = match self.cluster.find(&name).await? {
            Some(found) if found.spec != spec => return Err(conflict()),
            Some(found) => found.restart,
            None => 0,
        };
        // Also where it is there: whoever made it may have ended before it was whole.
        self.cluster.start(&spec, attempt_id, &name, restart).await?;
        if self.cluster.find(&name).await?.is_some_and(|found| found.spec != spec) {
            return Err(conflict());
        }
        self.take(spec, attempt_id, restart);
        Ok(handle)
    }

    async fn attach(&self, handle: &JobHandle) -> Result<()> {
        self.find(handle).await.map(drop)
    }

    async fn events(&self, handle: &JobHandle) -> Result<BoxStream<'static, JobEvent>> {
        Ok(self.find(handle).await?.feed.events())
    }

    async fn status(&self, handle: &JobHandle) -> Result<JobStatus> {
        Ok(self.find(handle).await?.feed.status())
    }

    async fn logs(&self, handle: &JobHandle, rank: usize) -> Result<String> {
        let job = self.find(handle).await?;
        let world_size = job.spec.world_size();
        if rank >= world_size {
            let reason = format!("it has no rank {rank}; it has {world_size}");
            return Err(Error::Job { job: job.spec.name.clone(), reason });
        }
        Ok(job.log(rank))
    }

    async fn cancel(&self, handle: &JobHandle) -> Result<()> {
        let job = self.find(handle).await?;
        // It may be started anew meanwhile.
        while job.feed.ended().is_none() {
            let Some(restart) = self.last(&job.name).await? else { return Ok(()) };
            self.cluster.suspend(&object_name(&job.name, restart), &Verdict::Canceled).await?;
            if self.last(&job.name).await? == Some(restart) {
                break;
            }
        }
        Ok(())
    }
}
