//! The quickstart on a cluster: each task is a pod, each fit a job of the cluster's, and the engine a pod beside them.
//!
//! Who is outside [starts](outside::start) the engine's pod, which runs the same image, and tells what comes of it.
//! [Inside](inside::run), everything that is kept lies on one volume, which all pods have mounted at the same place.

pub mod inside;
mod objects;
mod options;
pub mod outside;
mod stage;

pub use options::Options;

/// The volume claim, and where all pods have it mounted.
pub const CLAIM: &str = "kf-quickstart";
const MOUNT: &str = "/data";
/// The engine's home, and the artifacts in it.
const HOME: &str = "/data/kf-home";
const ARTIFACTS: &str = "/data/kf-home/artifacts";
/// The engine's pod, and its container.
pub const ENGINE: &str = "kf-quickstart";
/// Where the engine's last words go: Kubernetes keeps them in the pod's status.
const LAST_WORDS: &str = "/dev/termination-log";
/// When images are pulled: those that are imported into a node are in no registry.
const PULL: &str = "IfNotPresent";
