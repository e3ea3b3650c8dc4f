//! Values that a configuration leaves open, and where they come from.

use serde::Deserialize;
use serde_json::Value as Json;

/// Where a value comes from: KFP's `InputParameterSpec`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Fields")]
pub struct InputParameter {
    /// Where it is found.
    pub source: Source,
    /// An expression in CEL over `string_value`, the value's JSON text, that gives the part which is meant.
    pub selector: Option<String>,
}

/// What gives a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The input of this name of the component that the task is in.
    ComponentInput(String),
    /// An output of another task beside this one.
    TaskOutput {
        /// The task.
        task: String,
        /// Its output.
        output: String,
    },
    /// The run's argument of this name.
    RunArgument(String),
    /// The value itself. Texts may hold placeholders.
    Constant(Json),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ComponentInput(name) => write!(f, "input `{name}` of the component around it"),
            Self::TaskOutput { task, output } => write!(f, "output `{output}` of task `{task}`"),
            Self::RunArgument(name) => write!(f, "argument `{name}` of the run"),
            Self::Constant(_) => f.write_str("a constant"),
        }
    }
}

/// What a lookup is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reference<'a> {
    /// The place in the configuration of the object that names the source, as a JSON pointer (RFC 6901), such as
    /// `/secretAsEnv/0/secretNameParameter`.
    pub pointer: &'a str,
    /// What gives the value.
    pub source: &'a Source,
    /// The part of it that is meant ([`InputParameter::selector`]): what a lookup gives is that part.
    pub selector: Option<&'a str>,
}

/// What gives the value that a reference stands for: none where there is no such parameter, which is an error; `null` where
/// an optional one was not given, which leaves out what asks for it. A constant is asked for too, so that its placeholders
/// can be replaced; none keeps it as it is.
///
/// Sources can be told apart by name. Where an engine has found all values before, as kf-pipeline does for
/// `ContainerTask::kubernetes_parameter`, the pointer is enough.
pub type Lookup<'a> = dyn Fn(&Reference<'_>) -> Option<Json> + 'a;

/// How it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    task_output_parameter: Option<TaskOutput>,
    runtime_value: Option<RuntimeValue>,
    component_input_parameter: Option<String>,
    parameter_expression_selector: Option<String>,
}

/// An output of a task, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskOutput {
    /// The task.
    pub producer_task: String,
    /// Its output.
    pub output_parameter_key: String,
}

impl From<TaskOutput> for Source {
    fn from(written: TaskOutput) -> Self {
        Self::TaskOutput { task: written.producer_task, output: written.output_parameter_key }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum RuntimeValue {
    Constant(Json),
    RuntimeParameter(String),
}

impl From<RuntimeValue> for Source {
    fn from(written: RuntimeValue) -> Self {
        match written {
            RuntimeValue::Constant(value) => Self::Constant(value),
            RuntimeValue::RuntimeParameter(name) => Self::RunArgument(name),
        }
    }
}

impl TryFrom<Fields> for InputParameter {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let mut sources = [
            fields.task_output_parameter.map(Source::from),
            fields.runtime_value.map(Source::from),
            fields.component_input_parameter.map(Source::ComponentInput),
        ]
        .into_iter()
        .flatten();
        match (sources.next(), sources.next()) {
            (Some(source), None) => Ok(Self { source, selector: fields.parameter_expression_selector }),
            _ => Err(
                "expected exactly one of `taskOutputParameter`, `runtimeValue` and `componentInputParameter`",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Json) -> Result<InputParameter, String> {
        InputParameter::deserialize(value).map_err(|error| error.to_string())
    }

    #[test]
    fn each_source_is_read() {
        let plain = |source| Ok(InputParameter { source, selector: None });
        assert_eq!(read(json!({"componentInputParameter": "a"})), plain(Source::ComponentInput("a".into())));
        let output = json!({"taskOutputParameter": {"producerTask": "t", "outputParameterKey": "o"}});
        assert_eq!(read(output), plain(Source::TaskOutput { task: "t".into(), output: "o".into() }));
        let constant = json!({"runtimeValue": {"constant": {"a": 1}}});
        assert_eq!(read(constant), plain(Source::Constant(json!({"a": 1}))));
        let argument = json!({"runtimeValue": {"runtimeParameter": "r"}});
        assert_eq!(read(argument), plain(Source::RunArgument("r".into())));
        let part =
            json!({"componentInputParameter": "a", "parameterExpressionSelector": "parseJson(string_value)"});
        assert_eq!(read(part).unwrap().selector.as_deref(), Some("parseJson(string_value)"));
    }

    #[test]
    fn what_is_not_known_or_not_one_is_refused() {
        for (value, named) in [
            (json!({}), "exactly one"),
            (json!({"componentInputParameter": "a", "runtimeValue": {"constant": 1}}), "exactly one"),
            (json!({"taskFinalStatus": {"producerTask": "t"}}), "taskFinalStatus"),
            (json!({"runtimeValue": {"constantValue": {"intValue": 1}}}), "constantValue"),
            (json!({"taskOutputParameter": {"producerTask": "t"}}), "outputParameterKey"),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert!(error.contains(named), "{value}: {error}");
        }
    }
}
