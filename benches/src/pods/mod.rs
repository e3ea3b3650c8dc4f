//! What the benches of pods share: the cluster, and jobs beside the same objects made bare.

pub mod cluster;
pub mod jobs;

/// Anything that goes wrong.
pub type Wrong = Box<dyn std::error::Error + Send + Sync>;
/// What comes of a part of a bench.
pub type Outcome<T> = Result<T, Wrong>;
