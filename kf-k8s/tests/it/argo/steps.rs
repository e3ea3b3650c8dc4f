//! What a step is told, and what it says: KFP's executor input filled in, and the lines that read its executor output.

use std::process::Command;

use kf_k8s::argo::{Options, workflow};
use kf_k8s::objects::Workflow;
use kf_k8s::objects::argo::Template;
use kf_pipeline::spec::PipelineFile;
use serde_json::{Value as Json, json};

use super::{exported, pipelines, template};

/// A template's executor input with values filled in, as Argo does: the tag becomes the text, `toJson` its JSON.
fn filled(template: &Template, word: usize, values: &[(&str, &str)]) -> Json {
    let mut text = template.container.as_ref().unwrap().args.as_ref().unwrap()[word].clone();
    for (name, value) in values {
        text = text.replace(&format!("{{{{inputs.parameters.{name}}}}}"), value);
        let quoted = Json::from(*value).to_string();
        text = text.replace(&format!("{{{{=toJson(inputs.parameters['{name}'])}}}}"), &quoted);
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_component_is_told_what_kfp_would_tell_it() {
    let workflow = exported(&pipelines::artifacts());
    let fit = template(&workflow, "fit");
    let args = fit.container.as_ref().unwrap().args.clone().unwrap();
    assert_eq!(
        (args[0].as_str(), args[2].as_str(), args[3].as_str()),
        ("--executor_input", "--function_to_execute", "fit")
    );
    let input = filled(fit, 1, &[("rate", "0.25"), ("label", "a \"b\"\n")]);
    assert_eq!(input["inputs"]["parameterValues"], json!({"label": "a \"b\"\n", "rate": 0.25}));
    let data = &input["inputs"]["artifacts"]["data"]["artifacts"][0];
    assert_eq!(
        (&data["uri"], &data["type"]["schemaTitle"]),
        (&json!("/kf/in/data"), &json!("system.Dataset"))
    );
    let outputs = &input["outputs"];
    assert_eq!(outputs["artifacts"]["model"]["artifacts"][0]["uri"], "/kf/out/model");
    assert_eq!(outputs["parameters"]["accuracy"]["outputFile"], "/kf/out/accuracy.parameter");
    let file = fit.outputs.parameters.iter().find(|output| output.name == "accuracy").unwrap();
    assert_eq!(file.value_from.as_ref().unwrap().path.as_deref(), Some("/kf/out/accuracy.parameter"));
}

/// A lightweight Python component of these outputs, whose step is `script`.
fn lightweight() -> Workflow {
    let file: PipelineFile = serde_json::from_value(json!({
        "pipeline_spec": {
            "pipelineInfo": {"name": "p"},
            "deploymentSpec": {"executors": {"exec-a": {"container": {
                "image": "python", "command": ["sh", "-c", "STEP", "kfp.dsl.executor_main"], "args": ["--executor_input", "{{$}}"],
            }}}},
            "components": {"comp-a": {"executorLabel": "exec-a", "outputDefinitions": {
                "parameters": {
                    "text": {"parameterType": "STRING"}, "list": {"parameterType": "LIST"},
                    "flag": {"parameterType": "BOOLEAN"}, "any": {"parameterType": "STRUCT"},
                },
                "artifacts": {
                    "moved": {"artifactType": {"schemaTitle": "system.Dataset"}},
                    "said": {"artifactType": {"schemaTitle": "system.Metrics"}},
                },
            }}},
            "root": {"dag": {"tasks": {"first": {"componentRef": {"name": "comp-a"}}}}},
        },
    }))
    .unwrap();
    workflow(&file, &Options::default()).unwrap()
}

/// Runs a lightweight component's container here, in a folder that stands for the volume.
fn run(step: &str, folder: &std::path::Path) -> std::process::Output {
    let workflow = lightweight();
    let container = template(&workflow, "a").container.clone().unwrap();
    let words: Vec<String> = container.command.into_iter().chain(container.args).flatten().collect();
    let folder = folder.to_str().unwrap();
    let words: Vec<String> = words
        .iter()
        .map(|word| word.replace("/kf/out", folder).replace("STEP", &step.replace("OUT", folder)))
        .collect();
    Command::new(&words[0]).args(&words[1..]).output().unwrap()
}

#[test]
fn what_a_python_step_says_lands_in_the_files_that_argo_reads() {
    let folder = tempfile::tempdir().unwrap();
    if Command::new("python3").arg("--version").output().is_err() {
        println!("JUDGE argo-python skipped: no python3");
        return;
    }
    let step = r#"echo True > OUT/flag.parameter; echo x > OUT/elsewhere; cat > OUT/executor-output.json <<'X'
{"parameterValues": {"text": "a \"b\"", "list": [1, "x"], "any": "quoted"},
 "artifacts": {"moved": {"artifacts": [{"uri": "OUT/moved", "custom_path": "OUT/elsewhere"}]},
               "said": {"artifacts": [{"uri": "OUT/said", "metadata": {"accuracy": 0.5}}]}}}
X"#;
    let ended = run(step, folder.path());
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("text.parameter"), "a \"b\"");
    assert_eq!(read("list.parameter"), "[1, \"x\"]");
    assert_eq!(read("flag.parameter"), "true");
    assert_eq!(read("any.parameter"), "\"quoted\"");
    assert_eq!(read("moved"), "x\n");
    assert_eq!(read("said"), "{\"accuracy\": 0.5}");

    let missing = run("true", tempfile::tempdir().unwrap().path());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("was not given") && !missing.status.success());
    assert_eq!(run("exit 7", folder.path()).status.code(), Some(7));
}
