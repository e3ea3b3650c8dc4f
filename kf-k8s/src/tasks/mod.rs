//! Tasks of pipelines as pods.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use kf_core::artifact::ArtifactStore;
//! use kf_k8s::tasks::{PodExecutor, TaskOptions};
//! use kf_pipeline::Engine;
//!
//! # async fn doc(store: ArtifactStore) -> Result<(), Box<dyn std::error::Error>> {
//! let client = kube::Client::try_default().await?;
//! // The image of this program.
//! let options = TaskOptions::new("registry.example/pipelines:1");
//! let pods = PodExecutor::new(client, "team-a", store.clone(), options);
//! let engine = Engine::builder().artifacts(store).default_executor(Arc::new(pods)).open("kf-home").await?;
//! # Ok(()) }
//! ```
//!
//! # What runs where
//! An attempt of a task is one pod. A component runs in the program's own image, whose `main` has
//! [`RemoteTasks`](kf_pipeline::remote::RemoteTasks) among its workers. A container of Kubeflow Pipelines runs in its own
//! image, with KFP's contract of executor input and output files: an init container of the program's image lays the program
//! beside it ([`Install`](kf_pipeline::remote::Install) among the workers), which fetches and stores its artifacts. Content
//! goes between pods and the artifact store; the engine sees references.
//!
//! What a pipeline's platform document asks for of `kubernetes` (secrets, claims, tolerations …) becomes part of the pod, by
//! [`platform`]; tasks that make and delete volume claims do so without a pod.
//!
//! # Who may die
//! A pod's name follows from its attempt, and its pod goes on without the engine. An engine that comes back finds it, or what
//! it gave, under that name and starts nothing twice. What a pod gave stays until its end is committed; then the pod goes.
//!
//! What a task [saves](kf_pipeline::Context::save) for its next attempt goes into the artifact store as it is saved, below
//! `beside/checkpoints`, and goes from there when the run is over: a pod that is lost costs the item that it was at. The keys
//! of the store that pods are given must let them list, read, write and delete there.
//!
//! # What the cluster does meanwhile
//! Requests that fail, or are not answered, are sent again, later and later: an API server that is overloaded, restarted or
//! cut off is waited for, and what it did of a request whose answer was lost is looked up. That a pod is gone is believed of
//! the API server alone, asked for that very pod; one whose label was taken away gets it back. An executor whose rights are
//! taken away waits 20 seconds for them. A pod that was told to go and does not end in its time is lost with its node. Times
//! of the cluster are compared with the cluster's clock, never with this machine's.
//!
//! # What goes wrong
//! [`PodProblem`] has a variant for each, with what to do about it. What the cluster did, and not the task, counts against
//! the engine's [budget for lost attempts](kf_pipeline::EngineBuilder::max_lost) instead of the task's retries.
//!
//! # What a pod waits for, and what it uses
//! What keeps a pod from running is told as [`RunEvent::TaskWaiting`](kf_pipeline::RunEvent::TaskWaiting): by its status, and
//! by the warnings among its events, such as `FailedMount`. One that runs already is warned by
//! [`RunEvent::TaskWarned`](kf_pipeline::RunEvent::TaskWarned). Both are kept with the attempt, in the run's report. All events
//! come by one watch; an executor that has no right to it says so in its log, and goes on without.
//!
//! The process that runs a component measures itself. Of a command, the processor time comes with its reply; its memory is not
//! known, since nothing in its image is asked for it. A pod that ends without a reply has told nothing.
//!
//! # Limits
//! - A task's progress is a line of its log.
//! - A container without a command of its own is refused: what its image runs by itself is not known.
//! - Images of tasks are of the same kind of processor as the program's. A program of its own in them needs no library of
//!   the image's; where it looks up names or certificates, it looks in the image.
//! - The run's workspace is a folder of the pod, not a volume that tasks share.

mod attempt;
mod claims;
mod create;
mod executor;
mod informer;
mod limits;
mod logging;
mod make;
mod options;
mod pace;
pub mod platform;
mod pod;
mod problem;
mod remove;
mod told;
mod warnings;

pub use executor::PodExecutor;
pub use options::TaskOptions;
pub use problem::PodProblem;
