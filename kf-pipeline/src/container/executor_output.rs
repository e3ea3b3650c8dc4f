//! KFP's `ExecutorOutput`: what a container says that it gave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kf_core::artifact::Metadata;
use serde::Deserialize;
use serde_json::Value as Json;

use super::executor_input::{output_file, output_metadata, work_dir};
use crate::engine::{Attempt, AttemptOutputs, GivenArtifact};
use crate::plan::ContainerTask;
use crate::spec::ParameterType;

/// How large a file of outputs may be.
const LARGEST: u64 = 64 << 20;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExecutorOutput {
    #[serde(alias = "parameter_values")]
    parameter_values: Metadata,
    artifacts: BTreeMap<String, ArtifactList>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArtifactList {
    artifacts: Vec<RuntimeArtifact>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeArtifact {
    uri: String,
    metadata: Metadata,
    #[serde(alias = "custom_path")]
    custom_path: Option<String>,
}

/// Reads what a container gave: its executor output where it wrote one, and the files of output parameters.
///
/// # Errors
/// Says which file or output is not as declared.
pub(super) fn read(attempt: &Attempt, task: &ContainerTask) -> Result<AttemptOutputs, String> {
    let said = match text_of(&output_metadata(attempt))? {
        None => ExecutorOutput::default(),
        Some(text) => {
            parse(&text).map_err(|problem| format!("its executor output is not understood: {problem}"))?
        }
    };
    let mut given = AttemptOutputs::default();
    let mut values = said.parameter_values;
    for (name, declared) in &task.outputs.parameters {
        let kind = declared.kind();
        let value = match values.remove(name) {
            Some(value) => Some(fitted(kind, value)),
            None => match text_of(&output_file(attempt, name))? {
                Some(text) => {
                    Some(from_text(kind, text).map_err(|problem| format!("output `{name}`: {problem}"))?)
                }
                None => None,
            },
        };
        if let Some(value) = value {
            given.parameters.insert(name.clone(), value);
        }
    }
    let work = work_dir(attempt);
    for (name, list) in said.artifacts {
        if !task.outputs.artifacts.contains_key(&name) {
            continue;
        }
        let planned = attempt.outputs.get(&name);
        let list =
            list.artifacts.into_iter().map(|artifact| one(artifact, planned.map(PathBuf::as_path), &work));
        given.artifacts.insert(name, list.collect());
    }
    Ok(given)
}

/// What was said about an artifact; `work` is the folder that it ran in.
fn one(artifact: RuntimeArtifact, planned: Option<&Path>, work: &Path) -> GivenArtifact {
    let mut given = GivenArtifact::from(artifact.metadata);
    let uri = artifact.uri.strip_prefix("file://").unwrap_or(&artifact.uri);
    if let Some(path) = artifact.custom_path.filter(|path| !path.is_empty()) {
        given.path = Some(work.join(path));
    } else if uri.contains("://") {
        given.uri = Some(uri.to_owned());
    } else if !uri.is_empty() && Some(Path::new(uri)) != planned {
        given.path = Some(work.join(uri));
    }
    given
}

/// Python's JSON may hold NaN and infinities, which JSON has no form for: they become texts.
fn parse(text: &str) -> Result<ExecutorOutput, String> {
    match serde_json::from_str(text) {
        Ok(said) => Ok(said),
        Err(error) => serde_json::from_str(&quote_numbers(text)).map_err(|_| error.to_string()),
    }
}

/// Puts quotes around `NaN`, `Infinity` and `-Infinity` outside of texts.
fn quote_numbers(text: &str) -> String {
    let (mut quoted, mut rest) = (String::with_capacity(text.len()), text);
    let mut inside = false;
    while let Some(c) = rest.chars().next() {
        if !inside
            && let Some(word) = ["NaN", "Infinity", "-Infinity"].iter().find(|word| rest.starts_with(**word))
        {
            quoted.push('"');
            quoted.push_str(word);
            quoted.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        let escaped = inside && c == '\\';
        inside ^= c == '"';
        let length =
            c.len_utf8() + if escaped { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
        quoted.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    quoted
}

/// A file's text; none where there is no such file. A link is not followed: this process may be able to read what the
/// container is not to publish.
fn text_of(path: &Path) -> Result<Option<String>, String> {
    let failed = |problem: String| format!("can't read `{}`: {problem}", path.display());
    let is_elsewhere = path.parent().is_some_and(Path::is_symlink);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
        Ok(_) if is_elsewhere => {
            return Err(failed("its folder was replaced by a link; write a file in the folder".to_owned()));
        }
        Ok(meta) if meta.is_symlink() => {
            let target = std::fs::read_link(path).unwrap_or_default();
            return Err(failed(format!("it is a link to `{}`; write a file", target.display())));
        }
        Ok(meta) if !meta.is_file() => return Err(failed("it is no file".to_owned())),
        Ok(meta) if meta.len() > LARGEST => {
            return Err(failed(format!("it is {} bytes long, and {LARGEST} are allowed", meta.len())));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| failed(error.to_string()))
}

/// A value where a type is declared that it can be turned into.
fn fitted(kind: ParameterType, value: Json) -> Json {
    match (kind, &value) {
        (ParameterType::List | ParameterType::Struct, Json::String(text)) => {
            serde_json::from_str(text).unwrap_or(value)
        }
        _ => kind.fit(&value).unwrap_or(value),
    }
}

/// A value written as text, in the ways that upstream's launcher reads it.
fn from_text(kind: ParameterType, text: String) -> Result<Json, String> {
    let wrong =
        |text: &str| format!("expected {kind}, found `{}`", text.chars().take(200).collect::<String>());
    match kind {
        ParameterType::NumberInteger | ParameterType::NumberDouble => {
            let number: Result<Json, _> = serde_json::from_str(text.trim());
            number.ok().filter(Json::is_number).ok_or_else(|| wrong(&text))
        }
        ParameterType::Boolean => match text.trim() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true.into()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false.into()),
            _ => Err(wrong(&text)),
        },
        ParameterType::List | ParameterType::Struct => {
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", wrong(&text)))
        }
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_are_read_as_the_launcher_reads_them() {
        let read = |kind, text: &str| from_text(kind, text.to_owned());
        assert_eq!(read(ParameterType::Boolean, "True\n"), Ok(json!(true)));
        assert_eq!(read(ParameterType::NumberInteger, " 3\n"), Ok(json!(3)));
        assert_eq!(read(ParameterType::String, "a\n"), Ok(json!("a\n")));
        assert_eq!(read(ParameterType::List, "[1]"), Ok(json!([1])));
        assert!(read(ParameterType::NumberDouble, "x").unwrap_err().contains("`x`"));
        assert!(read(ParameterType::Struct, "{").unwrap_err().contains("EOF"));
    }

    #[test]
    fn pythons_json_is_read() {
        let text = r#"{"artifacts": {"roc": {"artifacts": [{"uri": "/x", "custom_path": "/y",
            "metadata": {"a": [Infinity, -Infinity, NaN, 1], "NaN \" NaN": "NaN é"}}]}}}"#;
        let said = parse(text).unwrap();
        let artifact = &said.artifacts["roc"].artifacts[0];
        assert_eq!(artifact.custom_path.as_deref(), Some("/y"));
        assert_eq!(artifact.metadata["a"], json!(["Infinity", "-Infinity", "NaN", 1]));
        assert_eq!(artifact.metadata["NaN \" NaN"], "NaN é");
        assert!(parse("{").is_err());
    }
}
