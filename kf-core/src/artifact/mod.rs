//! Artifacts: what they are, how they are named, where their bytes lie.

mod kind;
mod reference;
mod store;

pub use kind::{Artifact, ArtifactKind, ClassificationMetrics, Dataset, Html, Markdown, Metrics, Model};
pub use reference::{ArtifactRef, Metadata};
pub use store::{ArtifactStore, Stored};
