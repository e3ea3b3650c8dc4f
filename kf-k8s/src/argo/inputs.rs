//! What a template takes.

use std::collections::BTreeSet;

use kf_pipeline::spec::{ComponentSpec, ParameterInput, ParameterType};
use serde_json::Value as Json;

use super::shape::Shape;
use super::text::Text;
use super::{Error, Result, names};
use crate::objects::argo::{Artifact, Inputs, Parameter};

/// Whether a component's parameter may be left out, there being no default for it either.
pub(super) fn may_be_absent(declared: &ParameterInput) -> bool {
    let default = declared.default_value.as_ref().is_some_and(|value| !value.is_null());
    !default && declared.is_optional
}

/// The parameters of a component, but for absent ones, with their defaults.
pub(super) fn parameters(
    place: &str,
    component: &ComponentSpec,
    absent: &BTreeSet<String>,
) -> Result<Vec<Parameter>> {
    let declared = &component.input_definitions.parameters;
    let ports = names::parameters(declared.keys());
    let mut all = Vec::with_capacity(declared.len());
    for (name, input) in declared.iter().filter(|(name, _)| !absent.contains(*name)) {
        if input.kind() == ParameterType::TaskConfig {
            let what =
                format!("input `{name}` is the task's own configuration, which Argo does not hand over");
            return Err(Error::unsupported(place, what));
        }
        let default = input.default_value.as_ref().filter(|value| !value.is_null());
        let value = default.map(|default| value(input, default)).transpose();
        let value = value.map_err(|problem| {
            Error::unsupported(place, format!("the default of input `{name}`: {problem}"))
        })?;
        let name = ports.get(name).cloned().unwrap_or_default();
        all.push(Parameter { name, value, ..Parameter::default() });
    }
    Ok(all)
}

/// A value as a parameter's text.
pub(super) fn value(input: &ParameterInput, value: &Json) -> Result<String, String> {
    Text::literal(Shape::from(input.kind()).text_of(value)).template()
}

/// What a DAG takes: its tasks take the artifacts' content.
pub(super) fn of_dag(place: &str, component: &ComponentSpec, absent: &BTreeSet<String>) -> Result<Inputs> {
    let parameters = parameters(place, component, absent)?;
    let declared = &component.input_definitions.artifacts;
    let ports = names::parameters(declared.keys());
    let artifacts = declared.iter().filter(|(name, _)| !absent.contains(*name)).map(|(name, input)| {
        if input.is_artifact_list {
            return Err(a_list(place, name));
        }
        Ok(Artifact { name: ports.get(name).cloned().unwrap_or_default(), ..Artifact::default() })
    });
    Ok(Inputs { parameters, artifacts: artifacts.collect::<Result<_>>()? })
}

pub(super) fn a_list(place: &str, name: &str) -> Error {
    Error::unsupported(place, format!("input `{name}` is a list of artifacts, and Argo hands on single ones"))
}
