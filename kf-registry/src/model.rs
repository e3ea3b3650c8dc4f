//! Registered models.

use kf_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::patch::Patch;
use crate::property::{Properties, Property};
use crate::{Error, ModelName, Result, limits};

/// A model to create.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewModel {
    /// Its name, unique in the registry.
    pub name: ModelName,
    /// What it is for; up to 64 KiB.
    pub description: String,
    /// The users' values.
    pub custom_properties: Properties,
}

impl NewModel {
    /// A model with a name alone.
    pub fn new(name: ModelName) -> Self {
        Self { name, description: String::new(), custom_properties: Properties::new() }
    }

    /// Says what it is for.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Adds a user's value.
    pub fn custom_property(mut self, name: impl Into<String>, value: impl Into<Property>) -> Self {
        self.custom_properties.insert(name.into(), value.into());
        self
    }

    /// The model as it is right after its creation, for implementations.
    pub fn into_model(self, now: Timestamp) -> Model {
        let Self { name, description, custom_properties } = self;
        Model { name, description, custom_properties, versions: 0, revision: 1, created: now, updated: now }
    }

    /// Refuses what no registry stores. Implementations call it first.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field named.
    pub fn validate(&self) -> Result<()> {
        limits::description(&self.description)?;
        limits::properties("custom property", &self.custom_properties)
    }
}

/// A registered model: a name under which versions are registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Model {
    /// Its name, unique in the registry.
    pub name: ModelName,
    /// What it is for. Mutable.
    pub description: String,
    /// The users' values. Mutable.
    pub custom_properties: Properties,
    /// The number of the newest version; 0 where there is none. As numbers have no gaps, also their count.
    pub versions: u32,
    /// Counts the changes of the mutable part, from 1.
    pub revision: u64,
    /// When it was created.
    pub created: Timestamp,
    /// When its mutable part changed last.
    pub updated: Timestamp,
}

/// A change of a model's mutable part.
pub type ModelPatch = Patch<Model>;

impl Patch<Model> {
    /// The model with the change applied: pure, the same for every implementation.
    ///
    /// # Errors
    /// [`Error::RevisionConflict`] and [`Error::Invalid`].
    pub fn apply(&self, mut model: Model, now: Timestamp) -> Result<Model> {
        if let Some(expected) = self.expected_revision
            && expected != model.revision
        {
            let what = format!("model `{}`", model.name);
            return Err(Error::RevisionConflict { what, found: model.revision, expected });
        }
        self.apply_to(&mut model.description, &mut model.custom_properties)?;
        model.revision += 1;
        model.updated = now;
        Ok(model)
    }
}
