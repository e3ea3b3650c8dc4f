//! Training jobs on a cluster.

mod cluster;
mod follow;
mod gang;
mod indexed;
mod kinds;
mod launcher;
pub(crate) mod names;
mod node;
mod options;
mod pods;
mod refusals;

pub use gang::{Gang, Nearness};
pub use kinds::Kind;
pub use launcher::KubeLauncher;
pub use options::{ClaimMount, PodOptions};
