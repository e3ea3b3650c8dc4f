//! Versions of a model.

use std::fmt;

use kf_core::artifact::ArtifactRef;
use kf_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::lineage::Lineage;
use crate::patch::Patch;
use crate::property::{Metrics, Parameters, Properties, Property};
use crate::{Error, ModelName, Result, limits};

/// Content to register as a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewVersion {
    /// The model; it is created where it does not exist.
    pub model: ModelName,
    /// The digest of the content: the version's identity within the model.
    pub digest: Digest,
    /// Where the content lies; 1 to 4,096 bytes.
    pub uri: String,
    /// The content's size in bytes.
    pub size: u64,
    /// What the content is: its format, framework and so on.
    pub metadata: Properties,
    /// The parameters that it was trained with.
    pub parameters: Parameters,
    /// What was measured before it was registered.
    pub metrics: Metrics,
    /// Where it came from.
    pub lineage: Lineage,
    /// Who registers it; up to 256 bytes.
    pub author: String,
    /// A text, the first description. Mutable later.
    pub description: String,
    /// Names this attempt to register, so that the key can't be used for other content later: for callers
    /// that retry without knowing whether the first call went through. 1 to 256 bytes.
    pub idempotency_key: Option<String>,
}

fn digest_of(artifact: &ArtifactRef) -> Result<Digest> {
    artifact.digest.ok_or_else(|| {
        let found = format!("{} without a digest", artifact.uri);
        let expected = "one whose content was read: made by a task, or imported from a local file";
        Error::invalid(format!("artifact `{}`", artifact.name), found, expected)
    })
}

impl NewVersion {
    /// Content of `size` bytes at `uri`, to be registered in `model`.
    pub fn new(model: ModelName, digest: Digest, uri: impl Into<String>, size: u64) -> Self {
        Self {
            model,
            digest,
            uri: uri.into(),
            size,
            metadata: Properties::new(),
            parameters: Parameters::new(),
            metrics: Metrics::new(),
            lineage: Lineage::default(),
            author: String::new(),
            description: String::new(),
            idempotency_key: None,
        }
    }

    /// The content of an artifact, to be registered in `model`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an artifact whose content was never read, so that nobody knows what it is.
    pub fn of_artifact(model: ModelName, artifact: &ArtifactRef) -> Result<Self> {
        Ok(Self::new(model, digest_of(artifact)?, &artifact.uri, artifact.size))
    }

    /// Says who registers it.
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = author.into();
        self
    }

    /// Sets the first description.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Adds what the content is, such as `format` = `safetensors`.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Property>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Adds a training parameter.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Adds a metric.
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }

    /// Says which run's which task made the content.
    pub fn made_by(mut self, run: impl fmt::Display, task: impl fmt::Display) -> Self {
        self.lineage.run_id = Some(run.to_string());
        self.lineage.task = Some(task.to_string());
        self
    }

    /// Says which data the content was made from; `name` is its role, such as `train`.
    pub fn made_from(mut self, name: impl Into<String>, data: Digest) -> Self {
        self.lineage.data.insert(name.into(), data);
        self
    }

    /// Says from which artifact the content was made.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an artifact whose content was never read.
    pub fn made_from_artifact(self, name: impl Into<String>, data: &ArtifactRef) -> Result<Self> {
        Ok(self.made_from(name, digest_of(data)?))
    }

    /// Names this attempt to register.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// The version as it is right after its registration under `number`, for implementations.
    pub fn into_version(self, number: u32, now: Timestamp) -> Version {
        Version {
            model: self.model,
            number,
            digest: self.digest,
            uri: self.uri,
            size: self.size,
            metadata: self.metadata,
            parameters: self.parameters,
            metrics: self.metrics,
            lineage: self.lineage,
            author: self.author,
            created: now,
            description: self.description,
            state: VersionState::Live,
            custom_properties: Properties::new(),
            revision: 1,
            updated: now,
        }
    }

    /// Refuses what no registry stores. Implementations call it first.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field named.
    pub fn validate(&self) -> Result<()> {
        limits::uri("URI", &self.uri)?;
        limits::size(self.size)?;
        limits::actor("author", &self.author, false)?;
        limits::description(&self.description)?;
        if let Some(key) = &self.idempotency_key {
            limits::id("idempotency key", key)?;
        }
        limits::properties("metadata", &self.metadata)?;
        limits::parameters(&self.parameters)?;
        limits::metrics(&self.metrics)?;
        self.lineage.validate()
    }
}

/// Whether a version is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum VersionState {
    /// In use, or may be.
    #[default]
    Live,
    /// Kept for the record.
    Archived,
}

/// A registered version. Its content, origin and measurements never change; `description`, `state` and
/// `custom_properties` may, by [`Registry::update_version`](crate::Registry::update_version).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// The model.
    pub model: ModelName,
    /// 1, 2, 3 … in the order of registration, without gaps.
    pub number: u32,
    /// The content's digest, unique in the model.
    pub digest: Digest,
    /// Where the content lies.
    pub uri: String,
    /// The content's size in bytes.
    pub size: u64,
    /// What the content is.
    pub metadata: Properties,
    /// The parameters that it was trained with.
    pub parameters: Parameters,
    /// What was measured before it was registered.
    pub metrics: Metrics,
    /// Where it came from, as the first registration said; later ones are found by
    /// [`Registry::versions_of_run`](crate::Registry::versions_of_run).
    pub lineage: Lineage,
    /// Who registered it first.
    pub author: String,
    /// When it was registered.
    pub created: Timestamp,
    /// A text. Mutable.
    pub description: String,
    /// Whether it is in use. Mutable.
    pub state: VersionState,
    /// The users' values. Mutable.
    pub custom_properties: Properties,
    /// Counts the changes of the mutable part, from 1.
    pub revision: u64,
    /// When the mutable part changed last.
    pub updated: Timestamp,
}

/// The answer to a registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registered {
    /// The version that holds the content.
    pub version: Version,
    /// Whether this call made it; false where the content was registered before.
    pub created: bool,
}

impl Registered {
    /// The answer of an implementation.
    pub fn new(version: Version, created: bool) -> Self {
        Self { version, created }
    }
}

/// A change of a version's mutable part.
pub type VersionPatch = Patch<Version>;

impl Patch<Version> {
    /// Sets the state.
    pub fn state(mut self, state: VersionState) -> Self {
        self.state = Some(state);
        self
    }

    /// The version with the change applied: pure, the same for every implementation.
    ///
    /// # Errors
    /// [`Error::RevisionConflict`] and [`Error::Invalid`].
    pub fn apply(&self, mut version: Version, now: Timestamp) -> Result<Version> {
        if let Some(expected) = self.expected_revision
            && expected != version.revision
        {
            let what = format!("version {} of model `{}`", version.number, version.model);
            return Err(Error::RevisionConflict { what, found: version.revision, expected });
        }
        self.apply_to(&mut version.description, &mut version.custom_properties)?;
        if let Some(state) = self.state {
            version.state = state;
        }
        version.revision += 1;
        version.updated = now;
        Ok(version)
    }
}
