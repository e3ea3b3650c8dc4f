//! Compares what tasks give and take.

use super::{Component, ComponentKind, Dag, LoopItems, Plan, Source, Task, TaskOutput};
use crate::spec::{ArtifactType, ParameterType};
use crate::{Error, Result};

pub(super) fn types(plan: &Plan) -> Result<()> {
    for component in &plan.components {
        if let ComponentKind::Dag(dag) = &component.kind {
            Checker { plan, component, dag }.check()?;
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
            self.parameters(&place, task)?;
            self.artifacts(&place, task)?;
            if let Some(LoopItems::Input(name)) = task.iterator.as_ref().map(|iterator| &iterator.items)
                && !task.parameters.iter().any(|(given, _)| given == name)
            {
                return Err(Error::plan(&place, format!("the loop goes over input `{name}`, which is not given")));
            }
        }
        for (name, output) in &self.dag.parameters {
            self.produced_parameter(&format!("{}/{name}", self.component.name), output)?;
        }
        for (name, outputs) in &self.dag.artifacts {
            for output in outputs {
                self.produced_artifact(&format!("{}/{name}", self.component.name), output)?;
            }
        }
        Ok(())
    }

    fn parameters(&self, place: &str, task: &Task) -> Result<()> {
        let target = &self.plan.components[task.component];
        for (input, source) in &task.parameters {
            let found = match source {
                Source::Constant(value) => {
                    let wanted = target.inputs.parameters.get(input.as_ref()).map(|input| input.parameter_type);
                    if let Some(wanted) = wanted.filter(|wanted| !wanted.accepts(value)) {
                        let problem = format!("input `{input}` expects {wanted:?}, found the constant {value}");
                        return Err(Error::plan(place, problem));
                    }
                    None
                }
                Source::Input(name) => Some(self.own_parameter(place, name)?),
                Source::Output(output) => self.produced_parameter(place, output)?,
                Source::FinalStatus(_) => Some(ParameterType::TaskFinalStatus),
            };
            let wanted = target.inputs.parameters.get(input.as_ref()).map(|input| input.parameter_type);
            if let (Some(found), Some(wanted)) = (found, wanted)
                && !converts(found, wanted)
            {
                return Err(Error::plan(place, format!("input `{input}` expects {wanted:?}, found {found:?}")));
            }
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
                    let own = own.ok_or_else(|| self.no_input(place, "artifact", name))?;
                    &own.artifact_type
                }
                Source::Output(output) => self.produced_artifact(place, output)?,
                Source::Constant(_) | Source::FinalStatus(_) => continue,
            };
            let Some(wanted) = target.inputs.artifacts.get(input.as_ref()) else { continue };
            if !found.fits(&wanted.artifact_type) {
                let (wanted, found) = (&wanted.artifact_type.schema_title, &found.schema_title);
                return Err(Error::plan(place, format!("input `{input}` expects {wanted}, found {found}")));
            }
        }
        for (name, input) in &target.inputs.artifacts {
            if !input.is_optional && !task.artifacts.iter().any(|(given, _)| given.as_ref() == name) {
                return Err(Error::plan(place, format!("input artifact `{name}` is missing")));
            }
        }
        Ok(())
    }

    fn own_parameter(&self, place: &str, name: &str) -> Result<ParameterType> {
        let own = self.component.inputs.parameters.get(name);
        own.map(|own| own.parameter_type).ok_or_else(|| self.no_input(place, "parameter", name))
    }

    fn no_input(&self, place: &str, what: &str, name: &str) -> Error {
        Error::plan(place, format!("`{}` has no input {what} `{name}`", self.component.name))
    }

    /// The type of a task's output; none where a loop makes a list of it.
    fn produced_parameter(&self, place: &str, output: &TaskOutput) -> Result<Option<ParameterType>> {
        let task = &self.dag.tasks[output.task];
        let producer = &self.plan.components[task.component];
        let found = producer.outputs.parameters.get(output.key.as_ref());
        let found = found.ok_or_else(|| no_output(place, task, "parameter", &output.key))?;
        Ok(task.iterator.is_none().then_some(found.parameter_type))
    }

    fn produced_artifact(&self, place: &str, output: &TaskOutput) -> Result<&ArtifactType> {
        let task = &self.dag.tasks[output.task];
        let producer = &self.plan.components[task.component];
        let found = producer.outputs.artifacts.get(output.key.as_ref());
        Ok(&found.ok_or_else(|| no_output(place, task, "artifact", &output.key))?.artifact_type)
    }
}

fn no_output(place: &str, task: &Task, what: &str, key: &str) -> Error {
    Error::plan(place, format!("task `{}` has no output {what} `{key}`", task.name))
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
