//! What goes into a task, found from what its frame has.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::frame::LoopList;
use super::{Frame, TaskState, Values};
use crate::error::shown;
use crate::placeholder::{self, Placeholder, RunNames};
use crate::plan::{Component, Iterator_, LoopItems, Name, Plan, Source, Task};
use crate::spec::ParameterType;

/// Looks up a task's inputs, its upstream tasks having ended.
pub(super) fn resolve(plan: &Plan, frame: &Frame, task: &Task, names: &RunNames) -> Result<Values, String> {
    let target = &plan.components[task.component];
    let mut parameters = Vec::with_capacity(task.parameters.len() + 1);
    let templates = task.parameters.iter().filter(|(_, source)| source.is_template());
    let first = task.parameters.iter().filter(|(_, source)| !source.is_template());
    for (input, source) in first.chain(templates) {
        let fill = |template: &Json| fill(template, &parameters, frame, task, names);
        let value = parameter(plan, frame, source, names, &fill)
            .map_err(|problem| format!("input `{input}`: {problem}"))?;
        match value {
            Some(value) => parameters.push((Name::clone(input), value)),
            None => {
                let wanted = target.inputs.parameters.get(input.as_ref());
                if !wanted.is_none_or(|wanted| wanted.is_optional || wanted.default_value.is_some()) {
                    return Err(missing(plan, frame, input, source));
                }
            }
        }
    }
    let mut artifacts = Vec::with_capacity(task.artifacts.len());
    for (input, source) in &task.artifacts {
        let list = match source {
            Source::Input(name) => frame.inputs.artifact(name),
            Source::Output(output) => frame.output(output).and_then(|values| values.artifact(&output.key)),
            Source::Constant(_) | Source::Template(_) | Source::FinalStatus(_) | Source::Selected(_) => None,
        };
        match list {
            Some(list) => artifacts.push((Name::clone(input), Arc::clone(list))),
            None => {
                let wanted = target.inputs.artifacts.get(input.as_ref());
                if !wanted.is_none_or(|wanted| wanted.is_optional) {
                    return Err(missing(plan, frame, input, source));
                }
            }
        }
    }
    Ok(Values::new(parameters, artifacts))
}

/// What a source gives; none where a task did not give it.
fn parameter(
    plan: &Plan,
    frame: &Frame,
    source: &Source,
    names: &RunNames,
    fill: &dyn Fn(&Json) -> Result<Json, String>,
) -> Result<Option<Arc<Json>>, String> {
    Ok(match source {
        Source::Constant(value) => Some(Arc::clone(value)),
        Source::Template(template) => Some(Arc::new(fill(template)?)),
        Source::Input(name) => frame.inputs.parameter(name).cloned(),
        Source::Output(output) => {
            frame.output(output).and_then(|values| values.parameter(&output.key)).cloned()
        }
        Source::FinalStatus(task) => Some(Arc::new(final_status(plan, frame, *task, names))),
        Source::Selected(part) => match parameter(plan, frame, &part.0, names, fill)? {
            Some(whole) => Some(Arc::new(part.1.select(&whole)?)),
            None => None,
        },
    })
}

/// A constant with its placeholders replaced: by the task's other inputs, and by what the run and the task are called.
fn fill(
    template: &Json,
    given: &[(Name, Arc<Json>)],
    frame: &Frame,
    task: &Task,
    names: &RunNames,
) -> Result<Json, String> {
    let path = frame.path_of(&task.name, None);
    placeholder::replace(template, &|placeholder| {
        Ok(match placeholder {
            Placeholder::InputParameter(name) => {
                let value = given.iter().find(|(given, _)| given.as_ref() == name);
                if value.is_none() && task.parameters.iter().any(|(given, _)| given.as_ref() == name) {
                    return Err(format!("it is made of input `{name}`, which has no value"));
                }
                value.map(|(_, value)| value.as_ref().clone())
            }
            other => names.look_up(&path, other),
        })
    })
}

fn missing(plan: &Plan, frame: &Frame, input: &str, source: &Source) -> String {
    match source {
        Source::Output(output) => {
            let producer = &frame.dag(plan).tasks[output.task].name;
            let state = frame.state_of(Some(output.task));
            format!("input `{input}`: `{producer}` is {state} and gave no `{}`", output.key)
        }
        Source::Selected(part) => missing(plan, frame, input, &part.0),
        _ => format!("input `{input}` has no value"),
    }
}

/// How a task ended, as KFP's `PipelineTaskFinalStatus`.
fn final_status(plan: &Plan, frame: &Frame, task: usize, names: &RunNames) -> Json {
    let end = frame.end_of(task);
    let state = match end.map(|end| end.state) {
        None => "STATE_UNSPECIFIED",
        Some(TaskState::Succeeded) if !names.succeeded.is_empty() => names.succeeded,
        Some(state) => state.as_str(),
    };
    let mut status = json!({
        "state": state,
        "pipelineJobResourceName": names.resource_name,
        "pipelineTaskName": frame.dag(plan).tasks[task].name.as_ref(),
    });
    if let Some(error) = end.and_then(|end| end.error.as_deref()) {
        status["error"] = json!({"message": error});
    }
    status
}

impl Frame {
    /// The state of a task that has ended.
    pub(super) fn state_of(&self, task: Option<usize>) -> TaskState {
        task.and_then(|task| self.end_of(task)).map_or(TaskState::Skipped, |end| end.state)
    }
}

/// The list a loop goes over.
pub(super) fn items(iterator: &Iterator_, inputs: &Values) -> Result<LoopList, String> {
    let items = match &iterator.items {
        LoopItems::Artifacts(name) => {
            let list = inputs.artifact(name).map(Arc::clone);
            let list = list.ok_or_else(|| format!("the loop's items, input `{name}`, are not there"))?;
            return Ok(LoopList::Artifacts(list));
        }
        LoopItems::Constant(items) => Arc::clone(items),
        LoopItems::Input(name) => {
            let items = inputs.parameter(name);
            Arc::clone(items.ok_or_else(|| format!("the loop's items, input `{name}`, have no value"))?)
        }
    };
    match items.as_ref() {
        Json::Array(_) => Ok(LoopList::Values(items)),
        // Where a list is passed as text.
        Json::String(text) => match serde_json::from_str(text) {
            Ok(list @ Json::Array(_)) => Ok(LoopList::Values(Arc::new(list))),
            _ => Err(format!("the loop's items are not a list: {}", shown(&items))),
        },
        _ => Err(format!("the loop's items are not a list: {}", shown(&items))),
    }
}

/// Fills in the defaults of a component's parameters, and brings values into their types' form: text where text is asked
/// for, a whole number without a fraction.
pub(super) fn fitted(component: &Component, inputs: Arc<Values>) -> Arc<Values> {
    let mut inputs = inputs;
    for (name, input) in &component.inputs.parameters {
        let kind = input.kind();
        let value = match (inputs.parameter(name), &input.default_value) {
            (Some(value), _) => kind.fit(value),
            (None, Some(default)) => kind.fit(default).or_else(|| Some(default.clone())),
            (None, None) => None,
        };
        if let Some(value) = value {
            inputs = Arc::new(inputs.with_parameter(name.as_str().into(), Arc::new(value)));
        }
    }
    inputs
}

/// Compares the values with the component's types, where the plan could not.
pub(super) fn check(component: &Component, inputs: &Values) -> Result<(), String> {
    for (name, value) in inputs.named_parameters() {
        let Some(input) = component.inputs.parameters.get(name) else { continue };
        let wanted = input.kind();
        let absent = value.is_null() && input.is_optional;
        if !absent && wanted != ParameterType::String && !wanted.accepts(value) {
            return Err(format!("input `{name}` expects {wanted}, found {}", shown(value)));
        }
    }
    Ok(())
}
