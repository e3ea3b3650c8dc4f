//! KFP's contract with a container, from the container's side: `ExecutorInput` in, files and `ExecutorOutput` out. With it
//! a program's own image runs its components on a Kubeflow that is already there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kf_core::artifact::{ArtifactRef, Metadata};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::subprocess::TaskRequest;
use crate::component::checkpoint::Place;
use crate::component::{ComponentDef, Components, TaskError};
use crate::container::local_path;
use crate::placeholder::as_text;
use crate::spec::ParameterType;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExecutorInput {
    inputs: Inputs,
    outputs: Outputs,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Inputs {
    parameter_values: Map<String, Json>,
    artifacts: BTreeMap<String, ArtifactList>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Outputs {
    parameters: BTreeMap<String, OutputParameter>,
    artifacts: BTreeMap<String, ArtifactList>,
    output_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutputParameter {
    output_file: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArtifactList {
    artifacts: Vec<RuntimeArtifact>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeArtifact {
    name: String,
    uri: String,
    #[serde(rename = "type")]
    kind: ArtifactType,
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ArtifactType {
    schema_title: String,
}

/// Runs a component as a container of an exported pipeline does.
pub(super) fn run(
    components: &Components,
    definition: &ComponentDef,
    executor_input: &str,
) -> Result<(), TaskError> {
    let input: ExecutorInput = serde_json::from_str(executor_input).map_err(|error| {
        TaskError::permanent(format!("--executor_input is not KFP's ExecutorInput: {error}"))
    })?;
    let declared = |name: &str| definition.parameters.iter().find(|(declared, ..)| *declared == name);
    let parameters = input.inputs.parameter_values.into_iter().map(|(name, value)| {
        // Upstream's numbers are doubles.
        let fitted = declared(&name).and_then(|(_, kind, _)| kind.fit(&value));
        (Arc::from(name), fitted.unwrap_or(value))
    });
    let artifacts = input.inputs.artifacts.into_iter().map(|(port, list)| {
        let list = list.artifacts.into_iter().map(|artifact| {
            let path = PathBuf::from(path_of(&artifact.uri));
            let artifact = ArtifactRef {
                name: artifact.name,
                schema_title: artifact.kind.schema_title,
                uri: artifact.uri,
                digest: None,
                size: 0,
                metadata: artifact.metadata,
            };
            let path = path.exists().then_some(path);
            (artifact, path)
        });
        (port, list.collect())
    });
    let mut outputs = BTreeMap::new();
    let mut named = BTreeMap::new();
    for (port, list) in input.outputs.artifacts {
        let Some(artifact) = list.artifacts.into_iter().next() else { continue };
        let path = PathBuf::from(path_of(&artifact.uri));
        make_parent(&path)?;
        outputs.insert(port.clone(), path);
        named.insert(port, artifact);
    }
    let dir = input.outputs.output_file.parent().map(Path::to_owned).unwrap_or_default();
    let run = std::env::var("KFP_RUN_ID").unwrap_or_default();
    let request = TaskRequest {
        component: definition.name.to_owned(),
        run: run.parse().or_else(|_| "container".parse())?,
        task: Arc::from(definition.name),
        attempt: 1,
        checkpoint: Place::below(&dir),
        dir,
        parameters: parameters.collect(),
        artifacts: artifacts.collect(),
        outputs,
    };
    let (given, said) = components.run_component(request)?;
    for (name, parameter) in &input.outputs.parameters {
        let Some(value) = given.0.get(name) else { continue };
        make_parent(&parameter.output_file)?;
        let text = match is_text(definition, name) {
            true => as_text(value),
            false => value.to_string(),
        };
        std::fs::write(&parameter.output_file, text).map_err(|error| {
            TaskError::new(format!("write `{}`: {error}", parameter.output_file.display()))
        })?;
    }
    let artifacts = named.into_iter().map(|(port, artifact)| {
        let mut metadata = artifact.metadata;
        metadata.extend(said.get(&port).cloned().unwrap_or_default());
        let artifact = json!({"name": artifact.name, "uri": artifact.uri, "metadata": metadata});
        (port, json!({"artifacts": [artifact]}))
    });
    let output = json!({"parameterValues": given.0, "artifacts": artifacts.collect::<Map<_, _>>()});
    if input.outputs.output_file.as_os_str().is_empty() {
        return Ok(());
    }
    make_parent(&input.outputs.output_file)?;
    Ok(write_whole(&input.outputs.output_file, &output)?)
}

/// Whether an output is text, which its file holds as it is. Others it holds as JSON: text among what may be anything has
/// quotes.
fn is_text(definition: &ComponentDef, output: &str) -> bool {
    let kind = definition.output_parameters.iter().find(|(name, _)| *name == output).map(|(_, kind)| *kind);
    kind == Some(ParameterType::String)
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, value: &Json) -> std::io::Result<()> {
    let aside = path.with_extension("part");
    std::fs::write(&aside, value.to_string())?;
    std::fs::rename(aside, path)
}

fn path_of(uri: &str) -> String {
    local_path(uri.strip_prefix("file://").unwrap_or(uri))
}

fn make_parent(path: &Path) -> Result<(), TaskError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder)
        .map_err(|error| TaskError::new(format!("make folder `{}`: {error}", folder.display())))
}
