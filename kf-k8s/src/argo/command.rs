//! What a container's command asks for, as Argo fills it in.

use std::collections::BTreeMap;

use kf_pipeline::placeholder::{ArtifactPart, Placeholder, TaskField};
use kf_pipeline::spec::{ArtifactType, ComponentSpec, OutputDefinitions};
use serde_json::{Value as Json, json};

use super::exporter::Variant;
use super::leaf::{IN, OUT};
use super::scope::run_field;
use super::shape::Shape;
use super::text::{Reference, Text};
use super::{fill, names};

/// A component's command, and what it knows.
pub(super) struct Command<'a> {
    component: &'a ComponentSpec,
    variant: &'a Variant,
    parameters: BTreeMap<String, String>,
    artifacts: BTreeMap<String, String>,
    output_parameters: BTreeMap<String, String>,
    output_artifacts: BTreeMap<String, String>,
}

impl<'a> Command<'a> {
    /// Where KFP's executor output is written.
    pub(super) const SAID: &'static str = "/kf/out/executor-output.json";

    pub(super) fn new(component: &'a ComponentSpec, variant: &'a Variant) -> Result<Self, String> {
        let (inputs, outputs) = (&component.input_definitions, &component.output_definitions);
        Ok(Self {
            component,
            variant,
            parameters: names::parameters(inputs.parameters.keys().chain(&variant.undeclared)),
            artifacts: names::parameters(inputs.artifacts.keys()),
            output_parameters: names::parameters(outputs.parameters.keys()),
            output_artifacts: names::parameters(outputs.artifacts.keys()),
        })
    }

    pub(super) fn outputs(&self) -> &OutputDefinitions {
        &self.component.output_definitions
    }

    /// What an input parameter is called in the workflow.
    pub(super) fn port(&self, name: &str) -> String {
        self.parameters.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn output_port(&self, name: &str) -> String {
        self.output_parameters.get(name).cloned().unwrap_or_default()
    }

    /// The file that an output parameter is written to. Names have no dots, so that none is that of an artifact.
    pub(super) fn output_file(&self, name: &str) -> String {
        format!("{OUT}/{}.parameter", self.output_port(name))
    }

    pub(super) fn artifact_port(&self, name: &str) -> String {
        self.output_artifacts.get(name).cloned().unwrap_or_default()
    }

    /// The file or folder that an output artifact is written to.
    pub(super) fn artifact_path(&self, name: &str) -> String {
        format!("{OUT}/{}", self.artifact_port(name))
    }

    /// Whether it gives anything.
    pub(super) fn gives(&self) -> bool {
        !self.output_parameters.is_empty() || !self.output_artifacts.is_empty()
    }

    /// The first output parameter of whose file a command never speaks, though that is no component of this project, which
    /// would write it all the same.
    pub(super) fn unsaid(&self, command: &[String], args: &[String]) -> Option<&str> {
        let mut words = command.iter().chain(args);
        if words.clone().any(|word| word == "--function_to_execute") {
            return None;
        }
        let all = words.by_ref().map(String::as_str).collect::<Vec<_>>().join("\n");
        let says = |name: &str| {
            ["'", "\\\"", "\""]
                .iter()
                .any(|quote| all.contains(&format!("outputs.parameters[{quote}{name}{quote}].output")))
        };
        self.output_parameters.keys().map(String::as_str).find(|name| !says(name))
    }

    /// A text with its placeholders replaced.
    pub(super) fn text(&self, text: &str) -> Result<Text, String> {
        fill::text(text, &|placeholder| self.find(placeholder))
    }

    /// A command with its placeholders replaced.
    pub(super) fn words(&self, words: &[String]) -> Result<Vec<Text>, String> {
        let declared = &self.component.input_definitions;
        let present = |name: &str| {
            let known = declared.parameters.contains_key(name) || declared.artifacts.contains_key(name);
            known && !self.variant.absent.contains(name)
        };
        fill::words(words, &|placeholder| self.find(placeholder), &present)
    }

    fn parameter(&self, name: &str) -> Option<(Text, Shape)> {
        let declared = self.component.input_definitions.parameters.get(name);
        let port = self.parameters.get(name).filter(|_| !self.variant.absent.contains(name))?;
        let shape = declared.map_or(Shape::Text, |declared| declared.kind().into());
        Some((Reference::Input(port.clone()).into(), shape))
    }

    fn find(&self, placeholder: Placeholder<'_>) -> Result<Option<Text>, String> {
        let none =
            |what: &str, name: &str| format!("its command asks for {what} `{name}`, which it is not given");
        let metadata = |name: &str| {
            format!("its command asks what is said of artifact `{name}`, and Argo hands on content alone")
        };
        let text = match placeholder {
            Placeholder::ExecutorInput { escapes: 0 } => self.executor_input()?,
            Placeholder::ExecutorInput { .. } => {
                return Err(
                    "its command asks for KFP's executor input inside of another JSON text".to_owned()
                );
            }
            Placeholder::InputParameter(name) => {
                let (text, shape) = self.parameter(name).ok_or_else(|| none("input", name))?;
                shape.convert(text, Shape::Text)
            }
            Placeholder::InputArtifact(name, part) => {
                let port = self.artifacts.get(name).filter(|_| !self.variant.absent.contains(name));
                let path = format!("{IN}/{}", port.ok_or_else(|| none("input artifact", name))?);
                match part {
                    ArtifactPart::Path | ArtifactPart::Uri => Text::literal(path),
                    ArtifactPart::Whole | ArtifactPart::Metadata(_) => return Err(metadata(name)),
                }
            }
            Placeholder::OutputArtifact(name, part) => {
                let declared = &self.outputs().artifacts;
                let output = declared.get(name).ok_or_else(|| none("output artifact", name))?;
                match part {
                    ArtifactPart::Path | ArtifactPart::Uri => Text::literal(self.artifact_path(name)),
                    ArtifactPart::Metadata(Some(key)) => match output.metadata.get(key) {
                        Some(value) => Text::literal(kf_pipeline::placeholder::as_text(value)),
                        None => return Err(metadata(name)),
                    },
                    ArtifactPart::Whole | ArtifactPart::Metadata(None) => return Err(metadata(name)),
                }
            }
            Placeholder::OutputFile(name) => {
                if !self.outputs().parameters.contains_key(name) {
                    return Err(format!("its command asks for output `{name}`, which it does not declare"));
                }
                Text::literal(self.output_file(name))
            }
            Placeholder::OutputMetadata => Text::literal(Self::SAID),
            Placeholder::Run(field) => run_field(field)?,
            Placeholder::Task(TaskField::Name) => {
                Text::literal(self.variant.task.clone().unwrap_or_default())
            }
            Placeholder::Task(TaskField::Uuid) => Reference::Other("pod.name").into(),
            _ => return Ok(None),
        };
        Ok(Some(text))
    }

    /// KFP's `ExecutorInput` as JSON, with the parameters to be filled in.
    fn executor_input(&self) -> Result<Text, String> {
        let mut all = Text::literal("{\"inputs\":{\"parameterValues\":{");
        let mut before = "";
        for name in self.component.input_definitions.parameters.keys() {
            let Some((text, shape)) = self.parameter(name) else { continue };
            all.push_literal(&format!("{before}{}:", Json::from(name.as_str())));
            all.push(shape.convert(text, Shape::Any));
            before = ",";
        }
        let inputs = self.component.input_definitions.artifacts.iter();
        let inputs = inputs.filter(|(name, _)| !self.variant.absent.contains(*name)).map(|(name, input)| {
            let path = format!("{IN}/{}", self.artifacts.get(name).map_or("", String::as_str));
            (name.clone(), one(name, &path, &input.artifact_type, &serde_json::Map::new()))
        });
        let outputs = self.outputs().artifacts.iter().map(|(name, output)| {
            (name.clone(), one(name, &self.artifact_path(name), &output.artifact_type, &output.metadata))
        });
        let files = self.outputs().parameters.keys();
        let files = files.map(|name| (name.clone(), json!({"outputFile": self.output_file(name)})));
        let inputs: Json = inputs.collect::<serde_json::Map<_, _>>().into();
        let outputs = json!({
            "artifacts": outputs.collect::<serde_json::Map<_, _>>(),
            "outputFile": Self::SAID,
            "parameters": files.collect::<serde_json::Map<_, _>>(),
        });
        all.push_literal(&format!("}},\"artifacts\":{inputs}}},\"outputs\":{outputs}}}"));
        Ok(all)
    }
}

/// One artifact, as KFP's `ArtifactList` of `RuntimeArtifact`s.
fn one(name: &str, path: &str, kind: &ArtifactType, metadata: &serde_json::Map<String, Json>) -> Json {
    let kind = json!({"schemaTitle": kind.schema_title, "schemaVersion": kind.schema_version});
    json!({"artifacts": [{"name": name, "type": kind, "uri": path, "metadata": metadata}]})
}
