//! The key by which the backend of Kubeflow Pipelines caches: `backend/src/v2/cacheutils/cache.go` of kubeflow/pipelines.
//!
//! Artifacts count by their names, not by content, and environment variables don't count.

use kf_core::Digest;
use serde_json::{Map, Number, Value as Json, json};

use crate::plan::{ContainerTask, Executor, Work};
use crate::scheduler::Values;

/// The fingerprint of a container task; none for anything else.
pub(super) fn fingerprint(executor: &Executor, inputs: &Values) -> Option<Digest> {
    let (container, kubernetes) = match &executor.work {
        Work::Component { container, .. } => (container.as_ref(), None),
        Work::Container(task) => (&task.container, Some(&task.kubernetes)),
        Work::Importer(_) | Work::Approval(_) => return None,
    };
    let names = inputs.artifacts().iter().map(|(port, list)| {
        let names: Vec<&str> = list.iter().map(|artifact| artifact.name.as_str()).collect();
        (port.to_string(), without_empty(json!({"artifactNames": names})))
    });
    let parameters = inputs
        .parameters()
        .iter()
        .filter(|(name, _)| !name.starts_with(ContainerTask::KUBERNETES))
        .map(|(name, value)| (name.to_string(), value.as_ref().clone()));
    let artifacts = executor.outputs.artifacts.iter().map(|(name, output)| {
        let artifact = json!({"name": name, "type": output.artifact_type, "metadata": output.metadata});
        (name.clone(), without_empty(artifact))
    });
    let outputs =
        executor.outputs.parameters.iter().map(|(name, output)| (name.clone(), json!(output.parameter_type)));
    let command = [container.command.as_slice(), &container.args].concat();
    let key = json!({
        "inputArtifactNames": names.collect::<Map<_, _>>(),
        "inputParameterValues": parameters.collect::<Map<_, _>>(),
        "outputArtifactsSpec": artifacts.collect::<Map<_, _>>(),
        "outputParametersSpec": outputs.collect::<Map<_, _>>(),
        "containerSpec": without_empty(json!({
            "image": container.image,
            "cmdArgs": command,
            "pvcNames": claims(kubernetes, inputs),
        })),
    });
    Some(of_key(&key))
}

/// The key of a task that names one itself: `cachingOptions.cacheKey`.
pub(crate) fn of_name(component: &str, cache_key: &str) -> Digest {
    Digest::of(format!("{component}\0{cache_key}"))
}

/// The volume claims that a container mounts, sorted.
fn claims(kubernetes: Option<&Map<String, Json>>, inputs: &Values) -> Vec<String> {
    let mounts = kubernetes.and_then(|config| config.get("pvcMount")).and_then(Json::as_array);
    let mounts = mounts.map(Vec::as_slice).unwrap_or_default().iter().enumerate();
    let mut names: Vec<String> = mounts
        .filter_map(|(index, mount)| {
            let by = |pointer: String| {
                let value = inputs.parameter(&ContainerTask::kubernetes_parameter(&pointer))?;
                value.as_str().map(str::to_owned)
            };
            by(format!("/pvcMount/{index}/pvcNameParameter"))
                .or_else(|| by(format!("/pvcMount/{index}")))
                .or_else(|| mount.get("constant").and_then(Json::as_str).map(str::to_owned))
        })
        .collect();
    names.sort();
    names
}

/// The fingerprint of a key in protobuf's JSON form.
fn of_key(key: &Json) -> Digest {
    let mut text = String::new();
    write(&without_empty(key.clone()), &mut text);
    Digest::of(text)
}

/// As protobuf's JSON form leaves them out: fields that hold nothing.
fn without_empty(mut message: Json) -> Json {
    if let Json::Object(fields) = &mut message {
        fields.retain(|_, value| match value {
            Json::Object(fields) => !fields.is_empty(),
            Json::Array(items) => !items.is_empty(),
            Json::String(text) => !text.is_empty(),
            Json::Null => false,
            _ => true,
        });
    }
    message
}

/// As Go's `encoding/json` writes what it has read: keys in order, no space, `<`, `>` and `&` escaped, every number a
/// float.
fn write(value: &Json, text: &mut String) {
    match value {
        Json::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_string(name, text);
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Json::Array(items) => {
            text.push('[');
            for (index, value) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(value, text);
            }
            text.push(']');
        }
        Json::String(string) => write_string(string, text),
        Json::Number(number) => text.push_str(&go_number(number)),
        Json::Bool(_) | Json::Null => text.push_str(&value.to_string()),
    }
}

fn write_string(string: &str, text: &mut String) {
    for c in Json::from(string).to_string().chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
}

/// The shortest decimal that is this float; with an exponent below 1e-6 and from 1e21 on.
fn go_number(number: &Number) -> String {
    let Some(float) = number.as_f64() else { return number.to_string() };
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{float:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        };
    }
    format!("{float}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of upstream's own test.
    #[test]
    fn fingerprints_are_upstreams() {
        let model = "title: kfp.Model\ntype: object\nproperties:\n  framework:\n    type: string\n  framework_version:\n    \
                     type: string\n";
        let key = json!({
            "inputArtifactNames": {
                "dataset_two": {"artifactNames": ["2"]},
                "dataset_one": {"artifactNames": ["1"]},
            },
            "inputParameterValues": {"message": "Some string value", "num_steps": 5},
            "outputArtifactsSpec": {
                "model": {"name": "model", "type": {"instanceSchema": model}, "metadata": {"name": "model"}},
                "metrics": {
                    "name": "metrics", "type": {"schemaTitle": "kfp.Metrics"}, "metadata": {"name": "metrics"},
                },
            },
            "outputParametersSpec": {"output_parameter_one": "STRING", "output_parameter_two": "INT"},
            "containerSpec": {"cmdArgs": ["sh", "ec", "test"], "image": "python:3.9"},
        });
        assert_eq!(of_key(&key).to_hex(), "4e8a5d7d70997b0a35429fcd481af8fcd5b9f58ef4391bdb6ad900fd1c63622b");
        let other = json!({
            "inputArtifactNames": {"dataset": {"artifactNames": ["10"]}},
            "inputParameterValues": {},
            "outputArtifactsSpec": {},
            "outputParametersSpec": {"output_parameter": "DOUBLE"},
            "containerSpec": {"cmdArgs": ["sh", "ec", "run"], "image": "python:3.9"},
        });
        assert_eq!(
            of_key(&other).to_hex(),
            "0a4cc1f15cdfad5170e1358518f7128c5278500a670db1b9a3f3d83b93db396e"
        );
    }

    /// What Go 1.26 writes for the same values.
    #[test]
    fn json_is_written_as_go_writes_it() {
        let value = json!({
            "b": [5, 5.0, 0.1, 1e21, 1e20, 1e-7, 0.000001, -0.0, -1.5e300, 9007199254740993_u64],
            "a": "<a href=\"x\">&\u{2028}é\n\u{1}",
        });
        let mut text = String::new();
        write(&value, &mut text);
        assert_eq!(
            text,
            "{\"a\":\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u2028é\\n\\u0001\",\
             \"b\":[5,5,0.1,1e+21,100000000000000000000,1e-7,0.000001,-0,-1.5e+300,9007199254740992]}"
        );
    }
}
