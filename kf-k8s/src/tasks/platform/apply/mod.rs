//! A pod as a configuration wants it.

mod affinity;
mod containers;
mod env;
mod scheduling;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value as Json;

use super::error::shown;
use super::{InputParameter, KubernetesConfig, Lookup, PlatformError, Reference, Source};

impl KubernetesConfig {
    /// Makes a pod as it is asked for, `container` being the one that runs the task. Parameters are what `lookup` gives.
    ///
    /// Back come notes: what was asked for and is not done, in words, since the pod has it otherwise or an optional
    /// parameter was not given.
    ///
    /// # What the pod has already
    /// It stays, and comes first: volumes, environment, tolerations, pull secrets. Of two variables of one name the later
    /// one counts where what it names exists, as Kubernetes has it: append those that no pipeline may replace afterwards.
    /// Labels and annotations of the pod, and the user of the container, are the operator's: what the configuration says
    /// otherwise becomes a note. The pod's own security context is a default only, which the container's replaces.
    ///
    /// # Names of volumes
    /// Those of claims, Secrets and ConfigMaps are the objects' names, as upstream has it, unless these don't fit or are in
    /// use for something else. One object that is asked for twice is one volume, mounted twice.
    ///
    /// # Errors
    /// What can't be meant, what no parameter gives, and names that two things want. The pod is as it was then.
    pub fn apply(
        &self,
        lookup: &Lookup<'_>,
        pod: &mut PodTemplateSpec,
        container: &str,
    ) -> Result<Vec<String>, PlatformError> {
        let mut spec = pod.spec.clone().unwrap_or_default();
        let Some(index) = spec.containers.iter().position(|found| found.name == container) else {
            let known: Vec<&str> = spec.containers.iter().map(|found| found.name.as_str()).collect();
            let known = known.join(", ");
            return Err(PlatformError::NoContainer { container: container.to_owned(), known });
        };
        let main = spec.containers.remove(index);
        let mut draft = Draft {
            config: self,
            lookup,
            metadata: pod.metadata.clone().unwrap_or_default(),
            spec,
            main,
            reserved: self.volume_names(),
            objects: BTreeMap::new(),
            notes: Vec::new(),
        };
        draft.claims()?;
        draft.secrets_and_config_maps()?;
        draft.own_volumes()?;
        draft.environment()?;
        draft.metadata();
        draft.images()?;
        draft.deadline();
        draft.node_selector()?;
        draft.tolerations()?;
        draft.node_affinity()?;
        draft.pod_affinity()?;
        draft.resource_claims()?;
        draft.init_containers()?;
        draft.security_context()?;
        let Draft { metadata, mut spec, main, notes, .. } = draft;
        spec.containers.insert(index, main);
        pod.metadata =
            Some(metadata).filter(|metadata| pod.metadata.is_some() || *metadata != ObjectMeta::default());
        pod.spec = Some(spec);
        Ok(notes)
    }
}

/// A pod while it is made.
struct Draft<'a> {
    config: &'a KubernetesConfig,
    lookup: &'a Lookup<'a>,
    metadata: ObjectMeta,
    /// Without the container of the task.
    spec: PodSpec,
    /// The container of the task.
    main: Container,
    /// The volumes' names that the configuration gives itself.
    reserved: BTreeSet<&'a str>,
    /// Names of claims, Secrets and ConfigMaps, and of the volumes that they are.
    objects: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl Draft<'_> {
    /// What a parameter stands for; none where it is optional and was not given, which is noted.
    fn value(&mut self, parameter: &InputParameter, pointer: &str) -> Result<Option<Json>, PlatformError> {
        let InputParameter { source, selector } = parameter;
        let given = (self.lookup)(&Reference { pointer, source, selector: selector.as_deref() });
        let value = match (given, source, selector) {
            (Some(value), ..) => value,
            (None, Source::Constant(value), None) => value.clone(),
            (None, _, selector) => {
                let part = selector.as_ref().map(|selector| format!("`{selector}` of ")).unwrap_or_default();
                let from = format!("{part}{source}");
                return Err(PlatformError::Missing { pointer: pointer.to_owned(), from });
            }
        };
        if value.is_null() {
            self.notes.push(format!("`{pointer}` is left out: {source} is null"));
            return Ok(None);
        }
        Ok(Some(value))
    }

    /// The name that a parameter gives.
    fn text(&mut self, parameter: &InputParameter, pointer: &str) -> Result<Option<String>, PlatformError> {
        let Some(value) = self.value(parameter, pointer)? else { return Ok(None) };
        match value.as_str().filter(|name| !name.is_empty()) {
            Some(name) => Ok(Some(name.to_owned())),
            None => Err(PlatformError::unfit(pointer, shown(&value), "a name, as a text that is not empty")),
        }
    }

    /// The name of an object, by a parameter or as it is. `key` is the field with it; that of the parameter ends in
    /// `Parameter`.
    fn name(
        &mut self,
        parameter: Option<&InputParameter>,
        deprecated: &str,
        item: &str,
        key: &str,
    ) -> Result<Option<String>, PlatformError> {
        match parameter {
            Some(parameter) => self.text(parameter, &format!("{item}/{key}Parameter")),
            None if deprecated.is_empty() => {
                Err(PlatformError::unfit(item, "no name", format!("`{key}Parameter` or `{key}`")))
            }
            None => Ok(Some(deprecated.to_owned())),
        }
    }
}

/// A value that has to be there.
fn given<'t>(pointer: &str, key: &str, text: &'t str) -> Result<&'t str, PlatformError> {
    match text {
        "" => Err(PlatformError::unfit(&format!("{pointer}/{key}"), "nothing", "a text that is not empty")),
        text => Ok(text),
    }
}

/// A text, where it says something.
fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// A collection, where it holds something.
fn filled<T: Default + PartialEq>(collection: T) -> Option<T> {
    Some(collection).filter(|collection| *collection != T::default())
}
