//! The objects of upstream's custom resources that this crate makes and reads.
//!
//! Each kind is a plain struct of `metadata`, `spec` and, where it has one, `status`, and works with [`kube::Api`]. It
//! has the fields that a launcher sets and the status that a watcher reads, and no others: what else a server sends is
//! ignored. Since a whole object written back would lose that, change what is there by patches, never by replacing.
//!
//! Pod and job templates are Kubernetes' own types. A field that is not set is not written, so that an older or a newer
//! server takes the object as long as it sets nothing that this server does not know. Words that a newer server may add to
//! are strings, or enums with `Other`.
//!
//! ```
//! use kf_k8s::objects::{TrainJob, trainjob::{RuntimeRef, TrainJobSpec, Trainer}};
//!
//! let spec = TrainJobSpec {
//!     runtime_ref: RuntimeRef { name: "torch-distributed".into(), ..Default::default() },
//!     trainer: Some(Trainer { num_nodes: Some(2), ..Default::default() }),
//!     ..Default::default()
//! };
//! let written = serde_json::to_value(TrainJob::new("digits", spec))?;
//! assert_eq!(written["apiVersion"], "trainer.kubeflow.org/v1alpha1");
//! assert_eq!(written["spec"]["trainer"], serde_json::json!({"numNodes": 2}));
//! # Ok::<(), serde_json::Error>(())
//! ```

#[macro_use]
mod resource;

pub mod argo;
pub mod job_status;
pub mod jobset;
pub mod kueue;
pub mod pod_group;
pub mod pytorchjob;
pub mod run_policy;
pub mod runtime_patch;
pub mod training_runtime;
pub mod trainjob;
pub mod v1_jobs;
pub mod volcano;

pub use argo::Workflow;
pub use jobset::JobSet;
pub use pytorchjob::PyTorchJob;
pub use training_runtime::{ClusterTrainingRuntime, TrainingRuntime};
pub use trainjob::TrainJob;
pub use v1_jobs::{JAXJob, MPIJob, PaddleJob, TFJob, XGBoostJob};
