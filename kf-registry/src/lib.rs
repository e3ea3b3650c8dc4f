//! A model registry in a library: **models** whose **versions** never change, **aliases** such as `champion`
//! with a history, and **lineage** from a version to the run and the data it came from, and back.
//!
//! Programs hold an `Arc<dyn Registry>`; [`SqliteRegistry`] keeps it in one file that any number of processes
//! may use at once.
//!
//! ```
//! use std::sync::Arc;
//! use kf_core::Digest;
//! use kf_registry::{AliasChange, Expected, NewVersion, Registry, SqliteRegistry, VersionPatch};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let home = folder.path();
//! let registry: Arc<dyn Registry> = Arc::new(SqliteRegistry::open(home.join("registry.sqlite")).await?);
//!
//! // A training run registers what it made. The content's digest is the version's identity …
//! let weights = b"the bytes of model.safetensors";
//! let new = NewVersion::new("digits".parse()?, Digest::of(weights), "file:///models/digits", weights.len() as u64)
//!     .made_by("run-7", "fit")
//!     .made_from("train", Digest::of(b"the training data"))
//!     .parameter("learning_rate", 0.1)
//!     .metric("accuracy", 0.97)
//!     .author("nightly");
//! let first = registry.register(new.clone()).await?;
//! assert_eq!((first.version.number, first.created), (1, true));
//!
//! // … so a run that was killed and starts again makes no second one.
//! let again = registry.register(new).await?;
//! assert_eq!((again.version.number, again.created), (1, false));
//!
//! // The alias moves only if nobody else has moved it, and its history tells who did what, when and why.
//! let champion = AliasChange::set("digits".parse()?, "champion".parse()?, 1, "nightly")
//!     .expecting(Expected::Unset)
//!     .because("accuracy 0.97 is at least 0.95");
//! registry.change_alias(champion).await?;
//! let served = registry.version_by_alias(&"digits".parse()?, &"champion".parse()?).await?;
//! assert_eq!(served.metrics["accuracy"], 0.97);
//!
//! // Description, state and custom properties may change later; the rest of a version can't.
//! let signed = VersionPatch::new().set("sign_off_user", "ann").expecting(served.revision);
//! registry.update_version(&served.model, served.number, signed).await?;
//!
//! // Lineage is followed both ways.
//! let made = registry.versions_of_run("run-7", Default::default()).await?;
//! assert_eq!(made.items[0].number, 1);
//! let uses = registry.versions_of_digest(&Digest::of(b"the training data"), Default::default()).await?;
//! assert_eq!(uses.items[0].version.number, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What is kept, and what may change
//! | | immutable | mutable |
//! |---|---|---|
//! | model | name | description, custom properties |
//! | version | number, digest, URI, size, metadata, parameters, metrics, lineage, author, time | description, state, custom properties |
//! | alias | every event: version before and after, actor, reason, time | the version that it holds, by appending an event |
//!
//! A change of a mutable part may state the revision that it was made for, and is refused where somebody else
//! was faster. Nothing is ever deleted: an archived version keeps its number.
//!
//! The registry stores names, digests and addresses, not content: put the bytes into an artifact store first,
//! then register their digest.
//!
//! # Another store
//! Implement [`Registry`], and run `testing::suite` (feature `testing`) over it. Validation and decisions are
//! pure functions here ([`NewVersion::validate`], [`AliasChange::decide`], [`VersionPatch::apply`](Patch)), so
//! that an implementation only stores and finds.

mod alias;
mod error;
mod limits;
mod lineage;
mod model;
mod name;
mod page;
mod patch;
mod property;
mod registry;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
mod version;

pub use alias::{AliasChange, AliasChanged, AliasDecision, AliasEvent, Expected};
pub use error::{AliasConflict, Error, Result};
pub use lineage::{DigestRole, DigestUse, Lineage};
pub use model::{Model, ModelPatch, NewModel};
pub use name::{AliasName, ModelName};
pub use page::{Page, PageRequest};
pub use patch::Patch;
pub use property::{Metrics, Parameters, Properties, Property};
pub use registry::Registry;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteRegistry;
pub use version::{NewVersion, Registered, Version, VersionPatch, VersionState};
