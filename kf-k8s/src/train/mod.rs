//! Training jobs on a cluster.

mod cluster;
mod facts;
mod follow;
mod indexed;
mod kinds;
mod launcher;
mod log;
pub(crate) mod names;
mod options;
mod pods;

pub use kinds::Kind;
pub use launcher::KubeLauncher;
pub use options::PodOptions;
