//! Compares what tasks give and take.

use super::{
    Component, ComponentKind, Dag, Iterator_, LoopItems, Name, Plan, Source, Task, TaskOutput, platform,
};
use crate::spec::{ArtifactType, ParameterInput, ParameterOutput, ParameterType};
use crate::{Error, Result};

pub(super) fn types(plan: &Plan) -> Result<()> {
    for component in &plan.components {
        if let ComponentKind::Dag(dag) = &component.kind {
            Checker { plan, component, dag }.check()?;
            platform::check(plan, &component.name, dag)?;
        }
    }
    Ok(())
}

struct Checker<'a> {
    plan: &'a Plan,
    component: &'a Component,
    dag: &'a Dag,
}

impl Checker<'_> {
    fn check(&self) -> Result<()> {
        for task in &self.dag.tasks {
            let place = format!("{}/{}", self.component.name, task.name);
            if let Some(iterator) = &task.iterator {
                self.iterator(&place, task, iterator)?;
            }
            self.parameters(&place, task)?;
            self.artifacts(&place, task)?;
        }
        self.outputs()
    }

    fn iterator(&self, place: &str, task: &Task, iterator: &Iterator_) -> Result<()> {
        let target = &self.plan.components[task.component];
        let input = &iterator.input;
        let parameter = || {
            let item = target.inputs.parameters.get(input.as_ref());
            item.ok_or_else(|| no_input(place, target, "parameter", input))
        };
        match &iterator.items {
            LoopItems::Artifacts(name) => {
                let item = target.inputs.artifacts.get(input.as_ref());
                item.ok_or_else(|| no_input(place, target, "artifact", input))?;
                goes_over(place, name, &task.artifacts)
            }
            LoopItems::Input(name) => {
                parameter()?;
                goes_over(place, name, &task.parameters)
            }
            LoopItems::Constant(items) => {
                let (item, optional) = parameter().map(|item| (item.kind(), item.is_optional))?;
                let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
                match items.iter().position(|value| {
                    item != ParameterType::String && !item.accepts(value) && !(optional && value.is_null())
                }) {
                    None => Ok(()),
                    Some(index) => {
                        let found = &items[index];
                        let problem =
                            format!("item {index} of the loop: `{input}` expects {item}, found {found}");
                        Err(Error::plan(place, problem))
                    }
                }
            }
        }
    }

    /// What the DAG gives is what it declares.
    fn outputs(&self) -> Result<()> {
        let declared = &self.component.outputs;
        for (name, outputs) in &self.dag.parameters {
            let place = format!("{}/{name}", self.component.name);
            let wanted = declared.parameters.get(name.as_ref()).map(ParameterOutput::kind);
            for output in outputs {
                let found = self.produced_parameter(&place, output)?;
                if let (Some(found), Some(wanted)) = (found, wanted)
                    // Upstream's compiler declares a list for what each iteration of a loop gives.
                    && wanted != ParameterType::List
                    && !converts(found, wanted)
                {
                    let problem = format!("the output is declared as {wanted}, found {found}");
                    return Err(Error::plan(&place, problem));
                }
            }
        }
        for (name, outputs) in &self.dag.artifacts {
            let place = format!("{}/{name}", self.component.name);
            for output in outputs {
                let (found, _) = self.produced_artifact(&place, output)?;
                let wanted = declared.artifacts.get(name.as_ref()).map(|wanted| &wanted.artifact_type);
                if let Some(wanted) = wanted.filter(|wanted| !found.fits(wanted)) {
                    let (wanted, found) = (&wanted.schema_title, &found.schema_title);
                    return Err(Error::plan(
                        &place,
                        format!("the output is declared as {wanted}, found {found}"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn parameters(&self, place: &str, task: &Task) -> Result<()> {
        let target = &self.plan.components[task.component];
        for (input, source) in &task.parameters {
            let found = self.given_parameter(place, source)?;
            // Upstream's compiler also gives what a component does not declare: values for its condition, its loop or its
            // resources.
            let Some(wanted) = target.inputs.parameters.get(input.as_ref()).map(ParameterInput::kind) else {
                continue;
            };
            let found = match (source, found) {
                (Source::Constant(value), _) if !takes_constant(wanted, value) => {
                    format!("the constant {value}")
                }
                (_, Some(found)) if !converts(found, wanted) => found.to_string(),
                _ => continue,
            };
            return Err(Error::plan(place, format!("input `{input}` expects {wanted}, found {found}")));
        }
        for (name, input) in &target.inputs.parameters {
            let given = task.parameters.iter().any(|(given, _)| given.as_ref() == name)
                || task.iterator.as_ref().is_some_and(|iterator| iterator.input.as_ref() == name);
            if !given && !input.is_optional && input.default_value.is_none() {
                return Err(Error::plan(place, format!("input parameter `{name}` is missing")));
            }
        }
        Ok(())
    }

    fn artifacts(&self, place: &str, task: &Task) -> Result<()> {
        let target = &self.plan.components[task.component];
        for (input, source) in &task.artifacts {
            let found = match source {
                Source::Input(name) => {
                    let own = self.component.inputs.artifacts.get(name.as_ref());
                    let own = own.ok_or_else(|| no_input(place, self.component, "artifact", name))?;
                    (&own.artifact_type, own.is_artifact_list)
                }
                Source::Output(output) => self.produced_artifact(place, output)?,
                Source::Constant(_) | Source::Template(_) | Source::FinalStatus(_) | Source::Selected(_) => {
                    continue;
                }
            };
            let (found, list) = found;
            let Some(wanted) = target.inputs.artifacts.get(input.as_ref()) else { continue };
            // A loop over it takes the list apart.
            let looped = matches!(task.iterator.as_deref(), Some(Iterator_ { items: LoopItems::Artifacts(name), .. }) if name == input);
            if !looped && list != wanted.is_artifact_list {
                let what = |list| if list { "a list of artifacts" } else { "one artifact" };
                let (wanted, found) = (what(wanted.is_artifact_list), what(list));
                return Err(Error::plan(place, format!("input `{input}` expects {wanted}, found {found}")));
            }
            if !found.fits(&wanted.artifact_type) {
                let (wanted, found) = (&wanted.artifact_type.schema_title, &found.schema_title);
                return Err(Error::plan(place, format!("input `{input}` expects {wanted}, found {found}")));
            }
        }
        for (name, input) in &target.inputs.artifacts {
            let given = task.artifacts.iter().any(|(given, _)| given.as_ref() == name)
                || task.iterator.as_ref().is_some_and(|iterator| iterator.input.as_ref() == name);
            if !input.is_optional && !given {
                return Err(Error::plan(place, format!("input artifact `{name}` is missing")));
            }
        }
        Ok(())
    }

    /// The type of what a source gives, where it is known before it is there.
    fn given_parameter(&self, place: &str, source: &Source) -> Result<Option<ParameterType>> {
        match source {
            Source::Input(name) => self.own_parameter(place, name).map(Some),
            Source::Output(output) => self.produced_parameter(place, output),
            Source::FinalStatus(_) => Ok(Some(ParameterType::TaskFinalStatus)),
            Source::Selected(part) => self.given_parameter(place, &part.0).map(|_| None),
            Source::Constant(_) | Source::Template(_) => Ok(None),
        }
    }

    fn own_parameter(&self, place: &str, name: &str) -> Result<ParameterType> {
        let own = self.component.inputs.parameters.get(name);
        own.map(ParameterInput::kind).ok_or_else(|| no_input(place, self.component, "parameter", name))
    }

    /// The type of a task's output; none where a loop makes a list of it.
    fn produced_parameter(&self, place: &str, output: &TaskOutput) -> Result<Option<ParameterType>> {
        let task = &self.dag.tasks[output.task];
        if task.iterator.as_ref().is_some_and(|iterator| iterator.failures.as_ref() == Some(&output.key)) {
            return Ok(Some(ParameterType::List));
        }
        let producer = &self.plan.components[task.component];
        let found = producer.outputs.parameters.get(output.key.as_ref());
        let found = found.ok_or_else(|| no_output(place, task, "parameter", &output.key))?;
        Ok(task.iterator.is_none().then_some(found.kind()))
    }

    /// The type of a task's output, and whether there is a list of them.
    fn produced_artifact(&self, place: &str, output: &TaskOutput) -> Result<(&ArtifactType, bool)> {
        let task = &self.dag.tasks[output.task];
        let producer = &self.plan.components[task.component];
        let found = producer.outputs.artifacts.get(output.key.as_ref());
        let found = found.ok_or_else(|| no_output(place, task, "artifact", &output.key))?;
        Ok((&found.artifact_type, found.is_artifact_list || task.iterator.is_some()))
    }
}

/// That what a loop goes over is among what the task is given.
fn goes_over<T>(place: &str, name: &Name, given: &[(Name, T)]) -> Result<()> {
    match given.iter().any(|(given, _)| given == name) {
        true => Ok(()),
        false => Err(Error::plan(place, format!("the loop goes over input `{name}`, which is not given"))),
    }
}

fn no_input(place: &str, component: &Component, what: &str, name: &str) -> Error {
    Error::plan(place, format!("`{}` has no input {what} `{name}`", component.name))
}

fn no_output(place: &str, task: &Task, what: &str, key: &str) -> Error {
    Error::plan(place, format!("task `{}` has no output {what} `{key}`", task.name))
}

/// Whether a constant may go where `wanted` is asked for. Text takes everything (as its JSON).
fn takes_constant(wanted: ParameterType, value: &serde_json::Value) -> bool {
    wanted == ParameterType::String || wanted.accepts(value)
}

/// Whether a value declared as `found` may go where `wanted` is asked for. Text takes everything (as its JSON);
/// the SDK declares lists for single numbers at times, so that lists and structs are compared when values are
/// there.
fn converts(found: ParameterType, wanted: ParameterType) -> bool {
    use ParameterType::{List, NumberDouble, NumberInteger, String, Struct};
    found == wanted
        || wanted == String
        || matches!((found, wanted), (NumberInteger, NumberDouble) | (NumberDouble, NumberInteger))
        || matches!(found, List | Struct)
        || wanted == Struct
}
