//! KFP's `ExecutorInput`: what a container is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kf_core::artifact::ArtifactRef;
use serde_json::{Map, Value as Json, json};

use super::command::called;
use crate::engine::Attempt;
use crate::placeholder::{ArtifactPart, Placeholder, with_whole_numbers};
use crate::plan::ContainerTask;

/// What a container of an attempt takes, and where it is to write.
#[derive(Debug)]
pub(super) struct ExecutorInput<'a> {
    attempt: &'a Attempt,
    task: &'a ContainerTask,
    /// Input artifacts, each with the URI that the container is to know it by.
    artifacts: BTreeMap<&'a str, Vec<(&'a ArtifactRef, String)>>,
}

impl<'a> ExecutorInput<'a> {
    /// Lays out an attempt's inputs: where content has no path of its own among this engine's runs, a link is made that
    /// is called like the artifact.
    pub(super) fn lay_out(attempt: &'a Attempt, task: &'a ContainerTask) -> std::io::Result<Self> {
        let mut artifacts = BTreeMap::new();
        for (port, list) in &attempt.artifacts {
            let mut named = Vec::with_capacity(list.len());
            for (index, (artifact, content)) in list.iter().enumerate() {
                let uri = match content {
                    None => artifact.uri.clone(),
                    Some(content) if leads_to(&artifact.uri, content) => artifact.uri.clone(),
                    Some(content) => {
                        let folder = attempt.scratch().join("inputs").join(port).join(index.to_string());
                        let link = folder.join(file_name(&artifact.name));
                        std::fs::create_dir_all(&folder)?;
                        std::os::unix::fs::symlink(content, &link)?;
                        link.display().to_string()
                    }
                };
                named.push((artifact, uri));
            }
            artifacts.insert(port.as_str(), named);
        }
        std::fs::create_dir_all(attempt.scratch().join("parameters"))?;
        Ok(Self { attempt, task, artifacts })
    }

    /// The parameters, those that only the platform asks for left out.
    fn parameters(&self) -> impl Iterator<Item = (&str, &Json)> {
        let own = self.attempt.parameters.iter();
        own.map(|(name, value)| (name.as_ref(), value.as_ref()))
            .filter(|(name, _)| !name.starts_with(ContainerTask::KUBERNETES))
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&Json> {
        self.parameters().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    /// Whether `IfPresent` finds an input: a null counts as none.
    pub(super) fn is_present(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| !value.is_null())
            || self.artifacts.get(name).is_some_and(|list| !list.is_empty())
    }

    /// In KFP's JSON form.
    pub(super) fn to_json(&self) -> Json {
        let parameters: Map<String, Json> = self
            .parameters()
            .map(|(name, value)| {
                let value = match value {
                    Json::Array(_) | Json::Object(_) => with_whole_numbers(value),
                    scalar => scalar.clone(),
                };
                (name.to_owned(), value)
            })
            .collect();
        let inputs = self.artifacts.iter().map(|(port, list)| {
            let list: Vec<Json> =
                list.iter().map(|(artifact, uri)| runtime_artifact(artifact, uri)).collect();
            ((*port).to_owned(), json!({"artifacts": list}))
        });
        let outputs = self.attempt.outputs.iter().map(|(name, path)| {
            let declared = self.task.outputs.artifacts.get(name);
            let mut artifact = json!({
                "name": name,
                "uri": path,
                "metadata": declared.map(|declared| declared.metadata.clone()).unwrap_or_default(),
            });
            if let Some(declared) = declared {
                artifact["type"] = json!(declared.artifact_type);
            }
            (name.clone(), json!({"artifacts": [artifact]}))
        });
        let files = self.task.outputs.parameters.keys();
        let files = files.map(|name| (name.clone(), json!({"outputFile": output_file(self.attempt, name)})));
        json!({
            "inputs": {
                "parameterValues": parameters,
                "artifacts": inputs.collect::<Map<_, _>>(),
            },
            "outputs": {
                "parameters": files.collect::<Map<_, _>>(),
                "artifacts": outputs.collect::<Map<_, _>>(),
                "outputFile": output_metadata(self.attempt),
            },
        })
    }

    /// What a placeholder of the command stands for.
    pub(super) fn look_up(&self, placeholder: Placeholder<'_>) -> Result<Option<Json>, String> {
        let missing = || format!("its command asks for {}, which has no value", called(placeholder));
        Ok(Some(match placeholder {
            Placeholder::ExecutorInput { escapes } => {
                let mut text = self.to_json().to_string();
                for _ in 0..escapes {
                    let quoted = Json::from(text).to_string();
                    text = quoted[1..quoted.len() - 1].to_owned();
                }
                text.into()
            }
            Placeholder::InputParameter(name) => self.parameter(name).ok_or_else(missing)?.clone(),
            Placeholder::InputArtifact(name, part) => {
                let first = self.artifacts.get(name).and_then(|list| list.first());
                let (artifact, uri) = first.ok_or_else(missing)?;
                match part {
                    ArtifactPart::Whole => runtime_artifact(artifact, uri),
                    ArtifactPart::Uri => uri.as_str().into(),
                    ArtifactPart::Path => local_path(uri).into(),
                    ArtifactPart::Metadata(None) => Json::Object(artifact.metadata.clone()),
                    ArtifactPart::Metadata(Some(key)) => {
                        artifact.metadata.get(key).ok_or_else(missing)?.clone()
                    }
                }
            }
            Placeholder::OutputArtifact(name, part) => {
                let path = self.attempt.outputs.get(name).ok_or_else(missing)?;
                match part {
                    ArtifactPart::Uri | ArtifactPart::Path => json!(path),
                    ArtifactPart::Whole => {
                        self.to_json()["outputs"]["artifacts"][name]["artifacts"][0].take()
                    }
                    ArtifactPart::Metadata(key) => {
                        let declared = self.task.outputs.artifacts.get(name).ok_or_else(missing)?;
                        match key {
                            None => Json::Object(declared.metadata.clone()),
                            Some(key) => declared.metadata.get(key).ok_or_else(missing)?.clone(),
                        }
                    }
                }
            }
            Placeholder::OutputFile(name) => {
                if !self.task.outputs.parameters.contains_key(name) {
                    return Err(format!("its command asks for output `{name}`, which it does not declare"));
                }
                json!(output_file(self.attempt, name))
            }
            Placeholder::OutputMetadata => json!(output_metadata(self.attempt)),
            Placeholder::Run(_) | Placeholder::Task(_) => {
                return Ok(self.attempt.names.look_up(&self.attempt.task, placeholder));
            }
        }))
    }
}

/// The file that the executor output is written to.
pub(super) fn output_metadata(attempt: &Attempt) -> PathBuf {
    attempt.scratch().join("output_metadata.json")
}

/// The file that an output parameter is written to.
pub(super) fn output_file(attempt: &Attempt, name: &str) -> PathBuf {
    attempt.scratch().join("parameters").join(name)
}

/// The folder that the step runs in.
pub(super) fn work_dir(attempt: &Attempt) -> PathBuf {
    attempt.scratch().join("work")
}

/// An artifact as KFP's `RuntimeArtifact`.
fn runtime_artifact(artifact: &ArtifactRef, uri: &str) -> Json {
    json!({
        "name": artifact.name,
        "type": {"schemaTitle": artifact.schema_title},
        "uri": uri,
        "metadata": artifact.metadata,
    })
}

/// Whether a URI is a path on this machine that leads to this content.
fn leads_to(uri: &str, content: &Path) -> bool {
    uri.starts_with('/') && std::fs::read_link(uri).is_ok_and(|target| target == content)
}

/// A name as the name of a file.
fn file_name(name: &str) -> String {
    match name {
        "" | "." | ".." => "artifact".to_owned(),
        name => name.replace('/', "_"),
    }
}

/// Where upstream's containers find what lies at a URI: buckets are mounted at a folder each.
pub(crate) fn local_path(uri: &str) -> String {
    for (scheme, folder) in [("gs://", "/gcs/"), ("s3://", "/s3/"), ("minio://", "/minio/")] {
        if let Some(rest) = uri.strip_prefix(scheme) {
            return format!("{folder}{rest}");
        }
    }
    match uri.strip_prefix("oci://") {
        Some(rest) => format!("/oci/{}/models", rest.replace('/', "_")),
        None => uri.to_owned(),
    }
}
