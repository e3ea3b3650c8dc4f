//! Conformance suites, and stores that fail ([`FaultyObjects`], [`FaultyMetadata`]).
//!
//! A suite says what every implementation of a trait of this crate must do, as functions that a test of
//! the implementation calls. Each suite is a function of its name, and each behaviour a function of its own below
//! it; they panic where the behaviour is missing.
//!
//! ```
//! use kf_core::artifact::ArtifactStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let folder = tempfile::tempdir()?;
//! let mut n = 0;
//! kf_core::testing::artifact_store(async || {
//!     n += 1;
//!     ArtifactStore::in_memory(folder.path().join(n.to_string()))
//! })
//! .await;
//! # Ok(()) }
//! ```

#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite says by a panic what is wrong")]

pub mod artifacts;
mod faulty;
pub mod metadata;
pub mod servers;

pub use artifacts::artifact_store;
pub use faulty::{FaultyMetadata, FaultyObjects, MetadataCall, MetadataFault, ObjectCall, ObjectFault};
pub use metadata::metadata_store;
