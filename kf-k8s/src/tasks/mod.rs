//! Tasks of pipelines on a cluster.

pub mod platform;
