//! Artifacts: what they are, how they are named, where their bytes lie.

mod kind;
mod reference;
mod store;

pub use kind::{Artifact, ArtifactKind, ClassificationMetrics, Dataset, Html, Markdown, Metrics, Model};
pub use reference::{ArtifactRef, Metadata};
#[cfg(feature = "s3")]
pub use store::S3Options;
pub use store::{ArtifactStore, Pile, Stored, Sweep, Swept};
