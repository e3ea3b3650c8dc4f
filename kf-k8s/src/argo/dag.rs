//! A DAG as a template.

use std::collections::HashSet;

use kf_pipeline::spec::{
    ArtifactSelector, ComponentSpec, DagOutputSource, DagSpec, ParameterSelector, TaskSpec,
};

use super::exporter::{Exporter, Variant};
use super::scope::Scope;
use super::shape::Shape;
use super::text::Text;
use super::{Error, Result, inputs, names, order, task};
use crate::objects::argo::{Artifact, Dag, Mutex, Outputs, Parameter, Synchronization, Template, ValueFrom};

/// The template of a DAG, but for the tasks that are left out of it.
pub(super) fn template(
    exporter: &mut Exporter<'_>,
    variant: &Variant,
    component: &ComponentSpec,
    dag: &DagSpec,
    left_out: &HashSet<String>,
) -> Result<Template> {
    let place = variant.component.as_str();
    if exporter.kf.components.get(place).is_some_and(|added| added.max_depth.is_some()) {
        return Err(Error::unsupported(place, "it runs within itself, which a workflow's DAG can't"));
    }
    let scope = Scope {
        place,
        component,
        dag,
        absent: &variant.absent,
        names: names::tasks(dag.tasks.keys()),
        may_skip: order::skippable(dag),
        at_exit: false,
    };
    let mut tasks = Vec::with_capacity(dag.tasks.len());
    for (name, spec) in dag.tasks.iter().filter(|(name, _)| !left_out.contains(*name)) {
        tasks.push(task::task(exporter, &scope, name, spec)?);
    }
    if tasks.is_empty() {
        return Err(Error::unsupported(place, "it has no tasks, and a workflow's DAG has at least one"));
    }
    // By default only what no task comes after decides whether the whole has failed: a task that runs although another
    // failed would hide that.
    let hides = |spec: &TaskSpec| order::at_any_end(spec) && !order::upstream(spec, &[]).is_empty();
    let target = dag.tasks.iter().any(|(name, spec)| !left_out.contains(name) && hides(spec));
    let target = target.then(|| tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(" "));
    Ok(Template {
        inputs: inputs::of_dag(place, component, &variant.absent)?,
        outputs: outputs(exporter, &scope)?,
        dag: Some(Dag { tasks, target, fail_fast: Some(false) }),
        synchronization: variant.serial.clone().map(|name| Synchronization { mutexes: vec![Mutex { name }] }),
        ..Template::default()
    })
}

fn outputs(exporter: &Exporter<'_>, scope: &Scope<'_>) -> Result<Outputs> {
    let declared = &scope.component.output_definitions;
    let (parameters, artifacts) =
        (names::parameters(declared.parameters.keys()), names::parameters(declared.artifacts.keys()));
    let mut outputs = Outputs::default();
    for (name, output) in &scope.dag.outputs.parameters {
        let place = format!("{}/{name}", scope.place);
        let from = match &output.source {
            DagOutputSource::ValueFromParameter(one) => std::slice::from_ref(one),
            DagOutputSource::ValueFromOneof(several) => several.parameter_selectors.as_slice(),
            _ => {
                return Err(Error::unsupported(
                    &place,
                    "the output comes from what this version does not know",
                ));
            }
        };
        let (Some(port), Some(kind)) = (parameters.get(name), declared.parameters.get(name)) else {
            continue;
        };
        let value = parameter(exporter, scope, from, kind.kind().into())
            .map_err(|problem| Error::unsupported(&place, problem))?;
        let value_from = match value.as_reference() {
            Some(tag) => ValueFrom { parameter: Some(tag), ..ValueFrom::default() },
            None => ValueFrom { expression: Some(value.code()), ..ValueFrom::default() },
        };
        outputs.parameters.push(Parameter {
            name: port.clone(),
            value_from: Some(value_from),
            ..Parameter::default()
        });
    }
    for (name, output) in &scope.dag.outputs.artifacts {
        let place = format!("{}/{name}", scope.place);
        let Some(port) = artifacts.get(name) else { continue };
        let mut artifact = artifact(exporter, scope, &output.artifact_selectors)
            .map_err(|problem| Error::unsupported(&place, problem))?;
        artifact.name.clone_from(port);
        outputs.artifacts.push(artifact);
    }
    Ok(outputs)
}

/// The tasks of which the first that has run gives an output: with one that may be skipped there must be another after it.
fn candidates<'s, T>(scope: &Scope<'_>, from: &'s [T], task: impl Fn(&T) -> &str) -> Result<&'s [T], String> {
    let certain = from.iter().position(|one| !scope.may_skip.contains(task(one)));
    match (certain, from) {
        (Some(last), _) => Ok(&from[..=last]),
        (None, []) => Err("the output comes from no task".to_owned()),
        (None, [one]) => Err(format!(
            "the output comes from task `{}`, which may be skipped, and then Argo fails",
            task(one)
        )),
        // One of several branches.
        (None, several) => Ok(several),
    }
}

fn parameter(
    exporter: &Exporter<'_>,
    scope: &Scope<'_>,
    from: &[ParameterSelector],
    wanted: Shape,
) -> Result<Text, String> {
    let from = candidates(scope, from, |one| &one.producer_subtask)?;
    let value = |one: &ParameterSelector| -> Result<Text, String> {
        let (text, shape) = scope.output(exporter, &one.producer_subtask, &one.output_parameter_key)?;
        // What a loop gives is a list, whatever the file declares for it.
        Ok(if shape == Shape::List { text } else { shape.convert(text, wanted) })
    };
    let [first @ .., last] = from else { return Err("the output comes from no task".to_owned()) };
    let mut text = value(last)?;
    for one in first.iter().rev() {
        let ran = format!("tasks['{}'].status == 'Succeeded'", scope.name(&one.producer_subtask));
        text = Text::of_code(format!("{ran} ? {} : {}", value(one)?.code(), text.code()));
    }
    Ok(text)
}

fn artifact(
    exporter: &Exporter<'_>,
    scope: &Scope<'_>,
    from: &[ArtifactSelector],
) -> Result<Artifact, String> {
    let from = candidates(scope, from, |one| &one.producer_subtask)?;
    let name = |one: &ArtifactSelector| {
        task::produced(exporter, scope, &one.producer_subtask, &one.output_artifact_key)
    };
    let [first @ .., last] = from else { return Err("the output comes from no task".to_owned()) };
    let (task, port) = name(last)?;
    if first.is_empty() {
        let from = Some(format!("{{{{tasks.{task}.outputs.artifacts.{port}}}}}"));
        return Ok(Artifact { from, ..Artifact::default() });
    }
    let code = |task: &str, port: &str| format!("tasks['{task}'].outputs.artifacts['{port}']");
    let mut all = code(&task, &port);
    for one in first.iter().rev() {
        let (task, port) = name(one)?;
        all = format!("tasks['{task}'].status == 'Succeeded' ? {} : {all}", code(&task, &port));
    }
    Ok(Artifact { from_expression: Some(all), ..Artifact::default() })
}
