//! One task of a DAG: what it is called with, after which, whether and how often.

use std::collections::BTreeSet;

use kf_pipeline::spec::{ArtifactSource, ComponentSpec, ExecutorSpec, KfTask, TaskSpec};
use serde_json::Value as Json;

use super::exporter::{Exporter, Variant};
use super::found::Found;
use super::order::{at_any_end, condition, is_loop, may_be_empty, upstream};
use super::scope::Scope;
use super::shape::Shape;
use super::text::Text;
use super::{Error, Result, cel, inputs, loops, names};
use crate::objects::argo::{Arguments, Artifact, DagTask, Parameter};

pub(super) fn task(
    exporter: &mut Exporter<'_>,
    scope: &Scope<'_>,
    name: &str,
    spec: &TaskSpec,
) -> Result<DagTask> {
    let place = format!("{}/{name}", scope.place);
    let refuse = |problem: String| Error::unsupported(&place, problem);
    refuse_what_argo_has_not(exporter, scope, name, spec).map_err(refuse)?;
    let target = exporter.component(&spec.component_ref.name)?;
    let label = target.executor_label.as_deref();
    let mut variant = Variant { component: spec.component_ref.name.clone(), ..Variant::default() };
    let mut arguments = Arguments::default();
    parameters(exporter, scope, spec, target, &mut variant, &mut arguments).map_err(refuse)?;
    artifacts(exporter, scope, spec, target, &mut variant, &mut arguments).map_err(refuse)?;
    let more = match label {
        Some(label) => exporter.kubernetes_parameters(&place, label)?,
        None => Vec::new(),
    };
    let taken = names::parameters(target.input_definitions.parameters.keys());
    for (pointer, port, given) in &more {
        if taken.values().any(|other| other == port) {
            return Err(refuse(format!("its input `{port}` is called what the platform `kubernetes` needs")));
        }
        let value = scope.find(exporter, spec, given).and_then(|found| found.fit(Shape::Text, None));
        let value = value.and_then(|value| value.ok_or_else(|| "it has no value".to_owned()));
        let value = value.and_then(|value| value.template());
        let value =
            value.map_err(|problem| refuse(format!("platform kubernetes, `{pointer}`: {problem}")))?;
        arguments.parameters.push(Parameter {
            name: port.clone(),
            value: Some(value),
            ..Parameter::default()
        });
    }
    let more: Vec<_> = more.into_iter().map(|(_, _, given)| given).collect();
    let mut call = DagTask { name: scope.name(name), ..DagTask::default() };
    if let Some(iterator) = spec.parameter_iterator.as_deref() {
        loops::each(exporter, scope, spec, target, iterator, &mut call, &mut arguments).map_err(refuse)?;
        variant.serial = loops::one_at_a_time(scope, name, spec).map_err(refuse)?;
    }
    if let Some(label) = label {
        variant.retry = spec
            .retry_policy
            .as_ref()
            .filter(|policy| policy.max_retry_count > 0)
            .map(|policy| serde_json::to_string(policy).unwrap_or_default());
        let asked = asked(exporter, label);
        variant.task = asked.contains("pipeline_task_name").then(|| name.to_owned());
        undeclared(exporter, scope, spec, target, &asked, &mut variant, &mut arguments).map_err(refuse)?;
    } else if spec.retry_policy.as_ref().is_some_and(|policy| policy.max_retry_count > 0) {
        return Err(refuse(
            "a group of tasks is tried again, of which only single tasks are carried over".into(),
        ));
    }
    call.when = when(exporter, scope, spec).map_err(refuse)?;
    call.depends = depends(scope, spec, &upstream(spec, &more));
    call.arguments = arguments;
    call.template = exporter.template(&place, variant)?;
    Ok(call)
}

fn refuse_what_argo_has_not(
    exporter: &Exporter<'_>,
    scope: &Scope<'_>,
    name: &str,
    spec: &TaskSpec,
) -> Result<(), String> {
    let added = exporter.kf.components.get(scope.place).and_then(|added| added.tasks.get(name));
    if let Some(KfTask { min_success, failures, fallback }) = added {
        if min_success.is_some() || failures.is_some() {
            return Err("some of its iterations may fail, and Argo knows only all or none".to_owned());
        }
        if let Some(fallback) = fallback {
            return Err(format!(
                "`{fallback}` stands for it where it has failed, which Argo has nothing like"
            ));
        }
    }
    if spec.artifact_iterator.is_some() {
        return Err("it goes over a list of artifacts, and Argo goes over values only".to_owned());
    }
    if is_loop(spec) && condition(spec).is_some() {
        return Err("it is a loop with a condition of its own: put the loop into a branch".to_owned());
    }
    let key =
        spec.caching_options.as_ref().filter(|options| options.enable_cache && !options.cache_key.is_empty());
    if let Some(options) = key {
        let key = &options.cache_key;
        return Err(format!(
            "it has the cache key `{key}`, and what Argo remembers of earlier runs is another thing"
        ));
    }
    Ok(())
}

fn parameters(
    exporter: &Exporter<'_>,
    scope: &Scope<'_>,
    spec: &TaskSpec,
    target: &ComponentSpec,
    variant: &mut Variant,
    arguments: &mut Arguments,
) -> Result<(), String> {
    let declared = &target.input_definitions.parameters;
    let ports = names::parameters(declared.keys());
    let item = spec.parameter_iterator.as_ref().map(|iterator| iterator.item_input.as_str());
    for (name, input) in declared.iter().filter(|(name, _)| item != Some(name.as_str())) {
        let found = match spec.inputs.parameters.get(name) {
            Some(given) => {
                scope.find(exporter, spec, given).map_err(|problem| format!("input `{name}`: {problem}"))?
            }
            None => Found::Absent,
        };
        let value = found
            .fit(input.kind().into(), Some(input))
            .and_then(|value| value.map(|text| text.template()).transpose());
        let value = value.map_err(|problem| format!("input `{name}`: {problem}"))?;
        match value {
            Some(value) => {
                let name = ports.get(name).cloned().unwrap_or_default();
                arguments.parameters.push(Parameter { name, value: Some(value), ..Parameter::default() });
            }
            None if inputs::may_be_absent(input) => {
                variant.absent.insert(name.clone());
            }
            None if input.default_value.as_ref().is_some_and(|value| !value.is_null()) => {}
            None => return Err(format!("input `{name}` has no value, and is not optional")),
        }
    }
    Ok(())
}

fn artifacts(
    exporter: &Exporter<'_>,
    scope: &Scope<'_>,
    spec: &TaskSpec,
    target: &ComponentSpec,
    variant: &mut Variant,
    arguments: &mut Arguments,
) -> Result<(), String> {
    let declared = &target.input_definitions.artifacts;
    let ports = names::parameters(declared.keys());
    for (name, input) in declared {
        let from = match spec.inputs.artifacts.get(name).map(|given| &given.source) {
            Some(ArtifactSource::ComponentInputArtifact(own)) if !scope.absent.contains(own) => {
                let own_ports = names::parameters(scope.component.input_definitions.artifacts.keys());
                let port = own_ports.get(own).ok_or_else(|| format!("there is no input `{own}`"))?;
                Some(format!("{{{{inputs.artifacts.{port}}}}}"))
            }
            Some(ArtifactSource::TaskOutputArtifact { producer_task, .. }) if at_any_end(spec) => {
                return Err(format!(
                    "input `{name}`: it takes an artifact of `{producer_task}` though that may have failed"
                ));
            }
            Some(ArtifactSource::TaskOutputArtifact { producer_task, output_artifact_key }) => {
                let (task, port) = produced(exporter, scope, producer_task, output_artifact_key)
                    .map_err(|problem| format!("input `{name}`: {problem}"))?;
                Some(format!("{{{{tasks.{task}.outputs.artifacts.{port}}}}}"))
            }
            Some(ArtifactSource::ComponentInputArtifact(_)) | None => None,
        };
        match from {
            Some(from) => {
                let name = ports.get(name).cloned().unwrap_or_default();
                arguments.artifacts.push(Artifact { name, from: Some(from), ..Artifact::default() });
            }
            None if input.is_optional => {
                variant.absent.insert(name.clone());
            }
            None => return Err(format!("input artifact `{name}` is not given, and is not optional")),
        }
    }
    Ok(())
}

/// What a task and its output artifact are called in the workflow.
pub(super) fn produced(
    exporter: &Exporter<'_>,
    scope: &Scope<'_>,
    task: &str,
    key: &str,
) -> Result<(String, String), String> {
    let spec = scope.dag.tasks.get(task).ok_or_else(|| format!("there is no task `{task}`"))?;
    if is_loop(spec) {
        return Err(format!(
            "the artifacts `{key}` that loop `{task}` gives are collected, and Argo collects none"
        ));
    }
    let producer = exporter.component(&spec.component_ref.name).map_err(|error| error.to_string())?;
    let outputs = &producer.output_definitions.artifacts;
    match outputs.get(key) {
        Some(output) if output.is_artifact_list => {
            Err(format!("`{key}` of task `{task}` is a list of artifacts, and Argo hands on single ones"))
        }
        Some(_) => {
            Ok((scope.name(task), names::parameters(outputs.keys()).get(key).cloned().unwrap_or_default()))
        }
        None => Err(format!("task `{task}` has no output artifact `{key}`")),
    }
}

fn when(exporter: &Exporter<'_>, scope: &Scope<'_>, spec: &TaskSpec) -> Result<Option<String>, String> {
    let Some(condition) = condition(spec) else { return Ok(None) };
    // What the condition asks for is found before, since it is translated on a stack of its own.
    let mut known = std::collections::BTreeMap::new();
    for (name, given) in &spec.inputs.parameters {
        let found = scope.find(exporter, spec, given).and_then(|found| match found {
            Found::Dynamic(text, shape, None) | Found::Filled(text, shape) => Ok((text, shape)),
            Found::Constant(value) => {
                let shape = match &value {
                    Json::String(_) => Shape::Text,
                    Json::Bool(_) => Shape::Boolean,
                    Json::Number(_) => Shape::Number,
                    _ => Shape::Any,
                };
                Ok((Text::literal(shape.text_of(&value)), shape))
            }
            Found::Dynamic(_, _, Some(task)) => Err(format!("it is of `{task}`, which may have failed")),
            Found::Absent => Err("it has no value".to_owned()),
        });
        known.insert(name.as_str(), found);
    }
    let code = cel::condition(condition, &|name| match known.get(name) {
        Some(found) => found.clone().map_err(|problem| format!("`{name}`: {problem}")),
        None => Err(format!("`{name}` is not given")),
    })?;
    Text::of_code(code).template().map(Some)
}

/// How the tasks before it must have ended.
fn depends(scope: &Scope<'_>, spec: &TaskSpec, before: &BTreeSet<String>) -> Option<String> {
    let ended = |name: &String| {
        let of_loop = scope.dag.tasks.get(name).is_some_and(may_be_empty);
        let name = scope.name(name);
        match (at_any_end(spec), of_loop) {
            (true, _) => format!(
                "({name}.Succeeded || {name}.Failed || {name}.Errored || {name}.Skipped || {name}.Omitted)"
            ),
            (false, true) => format!("({name}.Succeeded || {name}.Skipped)"),
            (false, false) => format!("{name}.Succeeded"),
        }
    };
    (!before.is_empty()).then(|| before.iter().map(ended).collect::<Vec<_>>().join(" && "))
}

/// The text of an executor's container: its command, and all else that may have placeholders.
fn asked(exporter: &Exporter<'_>, label: &str) -> String {
    let executor = exporter.spec.deployment_spec.executors.get(label);
    match executor.map(|executor| &executor.spec) {
        Some(ExecutorSpec::Container(container)) => serde_json::to_string(container).unwrap_or_default(),
        _ => String::new(),
    }
}

/// Gives what the command asks for though the component does not declare it: KFP's compiler hands on so what resources
/// are made of.
fn undeclared(
    exporter: &Exporter<'_>,
    scope: &Scope<'_>,
    spec: &TaskSpec,
    target: &ComponentSpec,
    asked: &str,
    variant: &mut Variant,
    arguments: &mut Arguments,
) -> Result<(), String> {
    let declared = &target.input_definitions.parameters;
    let others = spec.inputs.parameters.iter().filter(|(name, _)| {
        !declared.contains_key(name) && asked.contains(&format!("inputs.parameters['{name}']"))
    });
    let others: Vec<_> = others.collect();
    variant.undeclared = others.iter().map(|(name, _)| (*name).clone()).collect();
    let ports = names::parameters(declared.keys().chain(&variant.undeclared));
    for (name, given) in others {
        let value = scope.find(exporter, spec, given).and_then(|found| found.fit(Shape::Text, None));
        let value = value.and_then(|value| value.ok_or_else(|| "it has no value".to_owned()));
        let value = value.and_then(|text| text.template());
        let value = value.map_err(|problem| format!("input `{name}`: {problem}"))?;
        let name = ports.get(name).cloned().unwrap_or_default();
        arguments.parameters.push(Parameter { name, value: Some(value), ..Parameter::default() });
    }
    Ok(())
}
