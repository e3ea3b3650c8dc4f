//! What goes into a task and what comes out.

use std::sync::{Arc, LazyLock};

use kf_core::artifact::ArtifactRef;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

use crate::plan::Name;

/// Parameters and artifacts by name. Few at a time, so that vectors beat maps, above all in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Values {
    parameters: Vec<(Name, Arc<Json>)>,
    artifacts: Vec<(Name, Arc<[ArtifactRef]>)>,
}

static NONE: LazyLock<Arc<Values>> = LazyLock::new(Arc::default);

impl Values {
    /// The one shared empty value.
    pub(crate) fn none() -> Arc<Self> {
        Arc::clone(&NONE)
    }

    pub(crate) fn new(
        parameters: Vec<(Name, Arc<Json>)>,
        artifacts: Vec<(Name, Arc<[ArtifactRef]>)>,
    ) -> Self {
        Self { parameters, artifacts }
    }

    #[cfg(test)]
    pub(crate) fn of_parameters(parameters: impl Iterator<Item = (Name, Arc<Json>)>) -> Self {
        Self { parameters: parameters.collect(), artifacts: Vec::new() }
    }

    pub(crate) fn parameters(&self) -> &[(Name, Arc<Json>)] {
        &self.parameters
    }

    pub(crate) fn artifacts(&self) -> &[(Name, Arc<[ArtifactRef]>)] {
        &self.artifacts
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&Arc<Json>> {
        self.parameters.iter().find(|(given, _)| given.as_ref() == name).map(|(_, value)| value)
    }

    pub(crate) fn artifact(&self, name: &str) -> Option<&Arc<[ArtifactRef]>> {
        self.artifacts.iter().find(|(given, _)| given.as_ref() == name).map(|(_, list)| list)
    }

    pub(crate) fn named_parameters(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.parameters.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.artifacts.is_empty()
    }

    /// These values and one parameter more, or another in its place.
    pub(crate) fn with_parameter(&self, name: Name, value: Arc<Json>) -> Self {
        let mut values = self.clone();
        set(&mut values.parameters, name, value);
        values
    }

    /// These values and one list of artifacts more, or another in its place.
    pub(crate) fn with_artifacts(&self, name: Name, list: Arc<[ArtifactRef]>) -> Self {
        let mut values = self.clone();
        set(&mut values.artifacts, name, list);
        values
    }
}

/// Puts `value` in the place of that with this name, or behind the others.
fn set<T>(named: &mut Vec<(Name, T)>, name: Name, value: T) {
    match named.iter_mut().find(|(given, _)| *given == name) {
        Some((_, given)) => *given = value,
        None => named.push((name, value)),
    }
}

struct Parameters<'a>(&'a [(Name, Arc<Json>)]);

impl Serialize for Parameters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name.as_ref(), value.as_ref())?;
        }
        map.end()
    }
}

struct Artifacts<'a>(&'a [(Name, Arc<[ArtifactRef]>)]);

impl Serialize for Artifacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, list) in self.0 {
            map.serialize_entry(name.as_ref(), list.as_ref())?;
        }
        map.end()
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = usize::from(!self.parameters.is_empty()) + usize::from(!self.artifacts.is_empty());
        let mut map = serializer.serialize_map(Some(entries))?;
        if !self.parameters.is_empty() {
            map.serialize_entry("parameters", &Parameters(&self.parameters))?;
        }
        if !self.artifacts.is_empty() {
            map.serialize_entry("artifacts", &Artifacts(&self.artifacts))?;
        }
        map.end()
    }
}

#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    parameters: serde_json::Map<String, Json>,
    #[serde(default)]
    artifacts: std::collections::BTreeMap<String, Vec<ArtifactRef>>,
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        Ok(Self {
            parameters: stored
                .parameters
                .into_iter()
                .map(|(name, value)| (name.into(), Arc::new(value)))
                .collect(),
            artifacts: stored.artifacts.into_iter().map(|(name, list)| (name.into(), list.into())).collect(),
        })
    }
}
