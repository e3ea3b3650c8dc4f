//! Training jobs on a cluster.

mod anew;
pub(crate) mod cluster;
mod follow;
mod gang;
pub(crate) mod indexed;
pub(crate) mod kinds;
mod launcher;
pub(crate) mod names;
mod node;
mod options;
pub(crate) mod pods;
mod refusals;

pub use gang::{Gang, Nearness};
pub use kinds::Kind;
pub use launcher::KubeLauncher;
pub use options::{ClaimMount, PodOptions};
