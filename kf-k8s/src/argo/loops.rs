//! Loops over values.

use kf_pipeline::spec::{ComponentSpec, Items, ParameterIterator, TaskSpec};
use serde_json::Value as Json;

use super::exporter::Exporter;
use super::found::Found;
use super::names;
use super::scope::Scope;
use super::shape::Shape;
use super::text::{Reference, Text};
use crate::objects::argo::{Arguments, DagTask, Parameter};

/// Calls a task once for each of a list.
pub(super) fn each(
    exporter: &Exporter<'_>,
    scope: &Scope<'_>,
    spec: &TaskSpec,
    target: &ComponentSpec,
    iterator: &ParameterIterator,
    call: &mut DagTask,
    arguments: &mut Arguments,
) -> Result<(), String> {
    let declared = &target.input_definitions.parameters;
    let item = declared.get(&iterator.item_input).ok_or("there is no input for the loop's item")?;
    let shape = Shape::from(item.kind());
    let port = names::parameters(declared.keys()).get(&iterator.item_input).cloned().unwrap_or_default();
    let value = Text::from(Reference::Item).template()?;
    arguments.parameters.push(Parameter { name: port, value: Some(value), ..Parameter::default() });
    match &iterator.items {
        Items::Raw(text) => {
            let items: Vec<Json> =
                serde_json::from_str(text).map_err(|error| format!("the loop's items: {error}"))?;
            if items.is_empty() {
                call.with_param = Some("[]".to_owned());
            }
            for item in items {
                if item.is_null() {
                    return Err("one of the loop's items is a null, which Argo has no text for".to_owned());
                }
                call.with_items.push(Text::literal(shape.text_of(&item)).template()?.into());
            }
        }
        Items::InputParameter(name) => {
            let given = spec.inputs.parameters.get(name);
            let given =
                given.ok_or_else(|| format!("the loop goes over input `{name}`, which is not given"))?;
            let list = match scope.find(exporter, spec, given)? {
                Found::Dynamic(text, Shape::Text | Shape::List | Shape::Any, None) => text,
                Found::Constant(value @ Json::Array(_)) => Text::literal(value.to_string()),
                Found::Constant(Json::String(text)) => Text::literal(text),
                _ => return Err(format!("the loop goes over input `{name}`, which is no list")),
            };
            // An item's own text, for those that may be any: Argo leaves out the quotes of texts.
            let list = match shape {
                Shape::Any => {
                    Text::of_code(format!("toJson(map(jsonpath({}, '$'), {{toJson(#)}}))", list.code()))
                }
                _ => list,
            };
            call.with_param = Some(list.template()?);
        }
    }
    Ok(())
}

/// What iterations hold where only one is to run at a time.
pub(super) fn one_at_a_time(
    scope: &Scope<'_>,
    name: &str,
    spec: &TaskSpec,
) -> Result<Option<String>, String> {
    match spec.iterator_policy.as_ref().map_or(0, |policy| policy.parallelism_limit) {
        0 => Ok(None),
        1 => {
            // Of its own for each loop: one inside another would wait for ever.
            let digest = kf_core::Digest::of(format!("{}/{name}", scope.place)).to_hex();
            Ok(Some(format!("{{{{workflow.uid}}}}-{}-{}", scope.name(name), &digest[..12])))
        }
        limit => {
            Err(format!("{limit} iterations may run at once, and Argo counts pods, or has one at a time"))
        }
    }
}
