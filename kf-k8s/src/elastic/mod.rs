//! Elastic jobs: as many pods as there is room for, between a least and a most number, each a node with an agent of its own.
//!
//! ```no_run
//! use kf_k8s::elastic::{ElasticJob, ElasticJobs, ElasticKind};
//! use kf_k8s::train::PodOptions;
//!
//! # async fn doc() -> kf_train::Result<()> {
//! # let client = kube::Client::try_default().await.unwrap();
//! let jobs = ElasticJobs::new(client, "team-a", ElasticKind::Job, PodOptions::new("registry.example/train:1"));
//! let mut job = ElasticJob::new("digits", 1..=8);
//! job.command = ["launch", "--no-python", "python3", "train.py"].map(String::from).into();
//! job.start = 2;
//! job.ranks_per_node = 4;
//! job.max_restarts = 3;
//! jobs.create(&job).await?;
//! jobs.scale("digits", 6).await?;          // the ranks meet anew, 24 of them; no restart is used
//! println!("{:?}", jobs.status("digits").await?.round);
//! jobs.wait("digits").await?;
//! # Ok(()) }
//! ```
//!
//! # What runs in the pods
//! A program that takes torchrun's variables (`PET_NNODES=1:8`, `PET_RDZV_ENDPOINT`, `PET_NPROC_PER_NODE` …) and keeps the
//! ranks of its node: KF's example `launch`; a program of one's own with an
//! [`Agent`](kf_train::elastic::Agent) and [`AgentOptions::from_env`](kf_train::elastic::AgentOptions::from_env); or torchrun
//! itself ([`ElasticJob::torchrun`]). The agents make the rounds by themselves. Nothing here has to be running for that, and a
//! job is found again by its name.
//!
//! # What makes a round
//! - **A pod more**: [`scale`](ElasticJobs::scale), `kubectl patch`, or whoever else changes the number of pods. Its node joins.
//! - **A pod less**: those of the highest numbers are asked to end (SIGTERM). Their ranks may save what they have within
//!   [`ElasticJob::stop_grace`], and the others go on. No restart is used.
//! - **A pod that was deleted, evicted or lost** is replaced by another of the same number, which joins. So is one whose agent
//!   was killed, [`max_replaced`](ElasticJob::max_replaced) times. The agents know each other by their pods' names, so that
//!   the new pod stands for the old one, also where that is gone without a trace.
//! - **A rank that failed** uses one of [`max_restarts`](ElasticJob::max_restarts). With none left the agents end with the
//!   error, and so does the job.
//!
//! The agents meet at the first three pods: while one of them lives, a pod that comes finds the others.
//!
//! # How an agent ends
//! With 0 when all ranks of the job have succeeded: the first agent to say so ends the job well. With 143 when it was asked to
//! leave: its pod is replaced where it is still wanted. With another code below 128 when the job has failed for good.
//!
//! # Rights
//! Of the jobs' kind `create`, `get`, `patch` and `delete`, `list` of `pods`, `get` of `pods/log`, and for Jobs `create` of
//! `services`: [`manifests`](mod@crate::manifests) gives them, with [`Kind::Job`](crate::train::Kind::Job) or
//! [`Kind::PyTorchJob`](crate::train::Kind::PyTorchJob) among its kinds.

mod jobs;
mod kind;
mod objects;
mod pods;
mod spec;
mod status;
#[cfg(test)]
mod tests;

pub use jobs::ElasticJobs;
pub use kind::ElasticKind;
pub use spec::ElasticJob;
pub use status::{ElasticState, ElasticStatus};
