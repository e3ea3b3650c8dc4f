//! Kubernetes as one implementation of KF's traits: a program changes its executor or its launcher, and its tasks or ranks
//! run as pods. Tasks of pipelines are the module [`tasks`]'s; what follows is of training jobs.
//!
//! ```no_run
//! use kf_k8s::train::{KubeLauncher, PodOptions};
//! use kf_train::{Job, run};
//!
//! # async fn doc() -> Result<(), Box<dyn std::error::Error>> {
//! // The same job that `LocalLauncher` runs as processes.
//! let job = Job::command("python", ["train.py"], 1).nodes(4);
//!
//! let client = kube::Client::try_default().await?;
//! let kind = KubeLauncher::discover(&client).await?;
//! let launcher = KubeLauncher::new(client, "team-a", kind, PodOptions::new("registry.example/train:1"));
//! run::<()>(&launcher, job).await?;
//! # Ok(()) }
//! ```
//!
//! # What runs where
//! A node of a job is a pod, and a rank of it a container: they share the pod's network and `/dev/shm`. A job that runs a
//! function of the program ([`Job::ranks`](kf_train::Job::ranks)) needs an image whose entrypoint is the program;
//! `cargo xtask image` in KF's repository makes one without Docker. Any other command runs in the image as it is, so that it
//! must be there: an image of `cargo xtask image` has the program alone, and no shell.
//!
//! A pod that is deleted, evicted or preempted has its containers sent SIGTERM, and after the job's
//! [`stop_grace`](kf_train::Job::stop_grace) killed, which are whole seconds, and at least one. A function that asks
//! [`Rank::is_leaving`](kf_train::Rank::is_leaving) in its steps has that time to save what it has, and fails; one that never
//! asks goes on until it is killed.
//!
//! The ranks find their framework's environment, as they do everywhere. What they tell comes back by what Kubernetes has:
//! lines, progress and results by the container's log, the error file by its termination message. Nothing has to reach the
//! launcher, which may end and come back.
//!
//! # Objects
//! A job has one object at a time, a [`Kind`](train::Kind) of which [`discover`](train::KubeLauncher::discover) picks one that the
//! cluster knows. Its name follows from the attempt id (`kf-` and a digest), so that the same attempt is the same job for
//! every launcher; all its objects and pods have the label `kf.dev/job` with that name. What is typed in [`objects`] can be
//! made and read by itself, too.
//!
//! # Elastic jobs
//! The module [`elastic`] has jobs whose pods come and go between a least and a most number, without a launcher: an agent in
//! each pod makes the rounds.
//!
//! # Workflows of Argo
//! The module [`argo`] makes a pipeline of `kf-pipeline` a `Workflow`, for those who stay on that
//! engine.
//!
//! # Rights
//! A launcher needs, in its namespace: `create`, `get`, `list`, `watch`, `patch`, `delete` and `deletecollection` of the jobs'
//! kind (of `trainingruntimes` `create` and `patch`), `get`, `list` and `watch` of `pods` and `get` of `pods/log`, `create` of
//! `services`, and `list` of `jobs`. Pods run under PodSecurity's `restricted`, without a token. [`manifests`](mod@manifests)
//! makes a namespace in which programs have just that: accounts, a role, policies for the network, applied or as YAML.
//!
//! # Suspended jobs
//! Whoever sets `suspend` of a job's object (Kueue does, until there is room) takes its pods away. That is no failure, and
//! uses up no restart: [`JobEvent::Waiting`](kf_train::JobEvent::Waiting) names the field, and tells once more when the pods
//! have gone. When it is set back, the ranks start anew, from where they can; of a Job, a JobSet or a TrainJob, those ranks
//! that had succeeded by then stay so. The time that the job may take is counted from there.
//!
//! ```sh
//! kubectl patch jobset kf-0123456789ab --type merge -p '{"spec": {"suspend": true}}'
//! kubectl patch pytorchjob kf-0123456789ab --type merge -p '{"spec": {"runPolicy": {"suspend": true}}}'
//! ```
//!
//! # Limits
//! - Standard error and standard output come as one; of each rank the last 256 KiB are kept.
//! - The pods of a job differ by their number alone: a command on several nodes has one rank on each. Ranks that are
//!   functions of the program ([`Job::ranks`](kf_train::Job::ranks)) may be several on each: they know their numbers by
//!   [`Rank`](kf_train::Rank), and `RANK` and `ROLE_RANK` are empty.
//! - A rank with an accelerator is a node of its own.
//! - Ranks that failed are started anew by a launcher that has the job in hand, not by the cluster alone. Nor does a
//!   PyTorchJob without one end when its time is over.

mod again;
mod answer;
pub mod argo;
mod clock;
pub mod elastic;
mod facts;
mod log;
pub mod manifests;
pub mod objects;
mod pod;
pub mod tasks;
pub mod train;
mod watching;

pub use manifests::manifests;
