//! Changes of the mutable parts of models and versions.

use std::marker::PhantomData;

use crate::property::{Properties, Property};
use crate::{Result, VersionState, limits};

/// A change of the mutable part of a `T`: a [`Model`](crate::Model) or a [`Version`](crate::Version). What it
/// does not name stays.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Patch<T> {
    /// The new description.
    pub description: Option<String>,
    /// The new state; of versions alone.
    pub state: Option<VersionState>,
    /// Custom properties to add or replace.
    pub set: Properties,
    /// Custom properties to take away; one that is not there is no error. Done before `set`.
    pub remove: Vec<String>,
    /// The revision that the change was made for; none takes any.
    pub expected_revision: Option<u64>,
    of: PhantomData<fn() -> T>,
}

impl<T> Default for Patch<T> {
    fn default() -> Self {
        Self {
            description: None,
            state: None,
            set: Properties::new(),
            remove: Vec::new(),
            expected_revision: None,
            of: PhantomData,
        }
    }
}

impl<T> Patch<T> {
    /// A change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the description.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Adds or replaces a custom property.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<Property>) -> Self {
        self.set.insert(name.into(), value.into());
        self
    }

    /// Takes a custom property away.
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.remove.push(name.into());
        self
    }

    /// Refuses the change unless the revision is still this one.
    pub fn expecting(mut self, revision: u64) -> Self {
        self.expected_revision = Some(revision);
        self
    }

    pub(crate) fn apply_to(&self, description: &mut String, properties: &mut Properties) -> Result<()> {
        if let Some(text) = &self.description {
            limits::description(text)?;
            description.clone_from(text);
        }
        for name in &self.remove {
            properties.remove(name);
        }
        properties.extend(self.set.iter().map(|(name, value)| (name.clone(), value.clone())));
        limits::properties("custom property", properties)
    }
}
