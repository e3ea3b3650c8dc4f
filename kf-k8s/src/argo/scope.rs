//! The tasks of one DAG, and where what goes into them comes from.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kf_pipeline::placeholder::{Placeholder, TaskField, may_hold};
use kf_pipeline::spec::{ComponentSpec, DagSpec, ParameterSource, RuntimeValue, TaskParameter, TaskSpec};
use serde_json::Value as Json;

use super::exporter::Exporter;
use super::found::Found;
use super::order::{at_any_end, is_loop, may_be_empty};
use super::shape::Shape;
use super::text::{Reference, Text, quoted};
use super::{cel, fill, names};

/// One DAG while its template is made.
pub(super) struct Scope<'a> {
    /// The component's name.
    pub(super) place: &'a str,
    pub(super) component: &'a ComponentSpec,
    pub(super) dag: &'a DagSpec,
    /// The component's inputs that it is not given.
    pub(super) absent: &'a BTreeSet<String>,
    /// Tasks as they are called in the workflow.
    pub(super) names: BTreeMap<String, String>,
    /// Tasks that may be skipped though all goes well.
    pub(super) may_skip: HashSet<String>,
    /// Whether it runs at the end of the workflow, with nothing but the workflow's arguments.
    pub(super) at_exit: bool,
}

impl<'a> Scope<'a> {
    /// As the workflow calls a task.
    pub(super) fn name(&self, task: &str) -> String {
        self.names.get(task).cloned().unwrap_or_default()
    }

    /// What a task of this DAG is called in the pipeline.
    fn own_name(&self, task: &TaskSpec) -> &str {
        let mut all = self.dag.tasks.iter();
        all.find(|(_, other)| std::ptr::eq(*other, task)).map_or("", |(name, _)| name)
    }

    fn input(&self, name: &str) -> Reference {
        let ports = names::parameters(self.component.input_definitions.parameters.keys());
        let port = ports.get(name).cloned().unwrap_or_else(|| name.to_owned());
        if self.at_exit { Reference::Argument(port) } else { Reference::Input(port) }
    }

    /// What an output of a task of this DAG is.
    pub(super) fn output(
        &self,
        exporter: &Exporter<'_>,
        task: &str,
        key: &str,
    ) -> Result<(Text, Shape), String> {
        let spec = self.dag.tasks.get(task).ok_or_else(|| format!("there is no task `{task}`"))?;
        let producer = exporter.component(&spec.component_ref.name).map_err(|error| error.to_string())?;
        let outputs = &producer.output_definitions.parameters;
        let declared = outputs.get(key).ok_or_else(|| format!("task `{task}` has no output `{key}`"))?;
        let port = names::parameters(outputs.keys()).get(key).cloned().unwrap_or_default();
        let (task, shape) = (self.name(task), Shape::from(declared.kind()));
        let text = Text::from(Reference::Output { task: task.clone(), name: port });
        if !is_loop(spec) {
            return Ok((text, shape));
        }
        let list = shape.collected(&text);
        match may_be_empty(spec) {
            false => Ok((list, Shape::List)),
            true => {
                let code = format!("tasks['{task}'].status == 'Skipped' ? '[]' : {}", list.code());
                Ok((Text::of_code(code), Shape::List))
            }
        }
    }

    /// What goes into a task's parameter.
    pub(super) fn find(
        &self,
        exporter: &Exporter<'_>,
        task: &TaskSpec,
        given: &TaskParameter,
    ) -> Result<Found, String> {
        let found = self.source(exporter, task, &given.source)?;
        let selector = given.parameter_expression_selector.as_deref().filter(|text| !text.is_empty());
        let Some(selector) = selector else { return Ok(found) };
        let (text, shape, of) = match found {
            Found::Absent => return Ok(Found::Absent),
            Found::Constant(value) => {
                let shape = if value.is_string() { Shape::Text } else { Shape::Any };
                (Text::literal(shape.text_of(&value)), shape, None)
            }
            Found::Filled(text, shape) => (text, shape, None),
            Found::Dynamic(text, shape, of) => (text, shape, of),
        };
        let (text, shape) = cel::selected(selector, &text, shape)?;
        Ok(Found::Dynamic(text, shape, of))
    }

    fn source(
        &self,
        exporter: &Exporter<'_>,
        task: &TaskSpec,
        source: &ParameterSource,
    ) -> Result<Found, String> {
        match source {
            ParameterSource::RuntimeValue(RuntimeValue::Constant(value)) => match may_hold(value) {
                true => self.fill(exporter, task, value),
                false => Ok(Found::Constant(value.clone())),
            },
            ParameterSource::RuntimeValue(RuntimeValue::ConstantValue(value)) => {
                value.to_json().map(Found::Constant)
            }
            ParameterSource::RuntimeValue(RuntimeValue::RuntimeParameter(name))
            | ParameterSource::ComponentInputParameter(name) => {
                if self.absent.contains(name) {
                    return Ok(Found::Absent);
                }
                let declared = self.component.input_definitions.parameters.get(name);
                let declared = declared.ok_or_else(|| format!("there is no input `{name}`"))?;
                Ok(Found::Dynamic(self.input(name).into(), declared.kind().into(), None))
            }
            ParameterSource::TaskOutputParameter { producer_task, output_parameter_key } => {
                let (text, shape) = self.output(exporter, producer_task, output_parameter_key)?;
                let of = at_any_end(task).then(|| self.name(producer_task));
                Ok(Found::Dynamic(text, shape, of))
            }
            ParameterSource::TaskFinalStatus { producer_task } => {
                Ok(Found::Dynamic(self.final_status(producer_task), Shape::Any, None))
            }
            _ => Err("a kind of value that this version does not know".to_owned()),
        }
    }

    /// How a task ended, as KFP's `PipelineTaskFinalStatus`.
    fn final_status(&self, task: &str) -> Text {
        let status = match self.at_exit {
            true => "workflow.status".to_owned(),
            false => format!("tasks['{}'].status", self.name(task)),
        };
        let otherwise = match self.at_exit {
            true => "'FAILED'".to_owned(),
            false => format!("({status} == 'Skipped' || {status} == 'Omitted' ? 'SKIPPED' : 'FAILED')"),
        };
        let state = format!("{status} == 'Succeeded' ? 'SUCCEEDED' : {otherwise}");
        let message = format!("Argo says that {task} has not succeeded");
        let error = format!(",\"error\":{}", serde_json::json!({ "message": message }));
        let mut text = Text::literal("{\"state\":\"");
        text.push(Text::of_code(state));
        text.push_literal("\",\"pipelineJobResourceName\":\"");
        text.push(Reference::Other("workflow.name").into());
        text.push_literal(&format!("\",\"pipelineTaskName\":{}", Json::from(task)));
        text.push(Text::of_code(format!("{status} == 'Succeeded' ? '' : {}", quoted(&error))));
        text.push_literal("}");
        text
    }

    /// A constant with placeholders, which stand for the task's other inputs and for the run.
    fn fill(&self, exporter: &Exporter<'_>, task: &TaskSpec, value: &Json) -> Result<Found, String> {
        let target = exporter.component(&task.component_ref.name).map_err(|error| error.to_string())?;
        let other = |name: &str| -> Result<Found, String> {
            let default = || target.input_definitions.parameters.get(name)?.default_value.clone();
            match task.inputs.parameters.get(name) {
                Some(given) => match &given.source {
                    ParameterSource::RuntimeValue(RuntimeValue::Constant(value)) if may_hold(value) => {
                        Err(format!("it is made of input `{name}`, which is made of others itself"))
                    }
                    _ => self.find(exporter, task, given),
                },
                None => default()
                    .map(Found::Constant)
                    .ok_or_else(|| format!("it is made of input `{name}`, which has no value")),
            }
        };
        let find: &fill::Find<'_> = &|placeholder| match placeholder {
            Placeholder::InputParameter(name) => match other(name)?.fit(Shape::Text, None)? {
                Some(text) => Ok(Some(text)),
                None => Err(format!("it is made of input `{name}`, which has no value")),
            },
            Placeholder::Run(field) => run_field(field).map(Some),
            Placeholder::Task(TaskField::Name) => Ok(Some(Text::literal(self.own_name(task)))),
            Placeholder::Task(TaskField::Uuid) => {
                Err("it is made of the task's own id, which in Argo its pod alone knows".to_owned())
            }
            _ => Ok(None),
        };
        if let Json::String(text) = value {
            let lone =
                text.strip_prefix("{{$.inputs.parameters['").and_then(|rest| rest.strip_suffix("']}}"));
            if let Some(name) = lone.filter(|name| !name.contains('\'')) {
                return other(name);
            }
            return Ok(Found::Filled(fill::text(text, find)?, Shape::Text));
        }
        Ok(Found::Filled(fill::json(value, find)?, Shape::Any))
    }
}

/// What a placeholder says of the run.
pub(super) fn run_field(field: kf_pipeline::placeholder::RunField) -> Result<Text, String> {
    use kf_pipeline::placeholder::RunField;
    match field {
        RunField::ResourceName => Ok(Reference::Other("workflow.name").into()),
        RunField::Uuid => Ok(Reference::Other("workflow.uid").into()),
        RunField::CreatedAt => Ok(Reference::Other("workflow.creationTimestamp.RFC3339").into()),
        RunField::Root => {
            Err("it asks for the folder of the run's artifacts, which Argo does not tell".to_owned())
        }
        RunField::Workspace => Err("it asks for the run's workspace, which Argo has none of".to_owned()),
    }
}
