//! The trait.

use async_trait::async_trait;
use kf_core::Digest;

use crate::{
    AliasChange, AliasChanged, AliasEvent, AliasName, DigestUse, Model, ModelName, ModelPatch, NewModel,
    NewVersion, Page, PageRequest, Registered, Result, Version, VersionPatch,
};

/// A store of models, their versions and aliases.
///
/// Every call is one transaction: it has happened whole, or not at all, when it returns, when it is dropped
/// half-way and when the process is killed. Any number of tasks and processes may call at once.
///
/// Implementations run the suite in `kf_registry::testing` (feature `testing`).
#[async_trait]
pub trait Registry: std::fmt::Debug + Send + Sync {
    /// Creates a model.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::Error::AlreadyExists) where there is one of that name.
    async fn create_model(&self, new: NewModel) -> Result<Model>;

    /// The model of that name.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound).
    async fn model(&self, model: &ModelName) -> Result<Model>;

    /// Models in the order of their names.
    async fn models(&self, page: PageRequest) -> Result<Page<Model>>;

    /// Changes a model's description and custom properties.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound), [`RevisionConflict`](crate::Error::RevisionConflict).
    async fn update_model(&self, model: &ModelName, patch: ModelPatch) -> Result<Model>;

    /// Registers content as a version of a model, which is created where it does not exist.
    ///
    /// The content's digest is the identity: what is in the model already comes back as it is, with
    /// `created: false`, however often and by however many at once it is registered; the first registration's
    /// fields stay. The lineage of every registration is kept: a version can be found from each run that
    /// made it.
    ///
    /// # Errors
    /// [`KeyConflict`](crate::Error::KeyConflict) where the idempotency key was used for other content of
    /// the model.
    async fn register(&self, new: NewVersion) -> Result<Registered>;

    /// A version by its number.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound).
    async fn version(&self, model: &ModelName, number: u32) -> Result<Version>;

    /// The version that an alias holds.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound) where the alias is not set.
    async fn version_by_alias(&self, model: &ModelName, alias: &AliasName) -> Result<Version>;

    /// A model's versions, the newest first.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound) where there is no such model.
    async fn versions(&self, model: &ModelName, page: PageRequest) -> Result<Page<Version>>;

    /// Changes a version's description, state and custom properties. All else is immutable.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound), [`RevisionConflict`](crate::Error::RevisionConflict).
    async fn update_version(&self, model: &ModelName, number: u32, patch: VersionPatch) -> Result<Version>;

    /// Sets, moves or deletes an alias, where it holds what the change expects. Of several that expect the
    /// same, one wins.
    ///
    /// # Errors
    /// [`AliasConflict`](crate::Error::AliasConflict), with the holder;
    /// [`NotFound`](crate::Error::NotFound) where the model or the version does not exist.
    async fn change_alias(&self, change: AliasChange) -> Result<AliasChanged>;

    /// The aliases of a model that are set, in the order of their names: each one's last event.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound) where there is no such model.
    async fn aliases(&self, model: &ModelName) -> Result<Vec<AliasEvent>>;

    /// All that ever happened to an alias, the newest first; of an alias that never was, an empty list.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound) where there is no such model.
    async fn alias_history(
        &self,
        model: &ModelName,
        alias: &AliasName,
        page: PageRequest,
    ) -> Result<Page<AliasEvent>>;

    /// The versions that a run registered, in the order of registration, of all models.
    async fn versions_of_run(&self, run_id: &str, page: PageRequest) -> Result<Page<Version>>;

    /// The versions whose content a digest is, or that were made from it, in the order of registration, of
    /// all models.
    async fn versions_of_digest(&self, digest: &Digest, page: PageRequest) -> Result<Page<DigestUse>>;
}
