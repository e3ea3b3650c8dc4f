//! What the IR can say of a parameter, a loop or an output, carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use kf_core::Timestamp;
use kf_core::artifact::{ArtifactRef, Metadata};
use kf_core::metadata::RunState;
use serde_json::{Value as Json, json};

use super::super::{Command, Event, Launch, Limits, Outcome, Past, Scheduler, Values};
use crate::plan::Plan;
use crate::spec::PipelineFile;

/// What a task was given, by path: parameters, and the URIs of artifacts.
type Given = BTreeMap<String, Json>;

fn artifact(uri: &str) -> ArtifactRef {
    ArtifactRef {
        name: uri.to_owned(),
        schema_title: "system.Dataset".to_owned(),
        uri: uri.to_owned(),
        digest: None,
        size: 0,
        metadata: Metadata::new(),
    }
}

fn given(launch: &Launch) -> Json {
    let mut all = serde_json::Map::new();
    for (name, value) in launch.inputs.named_parameters() {
        all.insert(name.to_owned(), value.clone());
    }
    for (name, list) in launch.inputs.artifacts() {
        all.insert(name.to_string(), list.iter().map(|artifact| artifact.uri.as_str()).collect());
    }
    Json::Object(all)
}

/// Runs a pipeline whose tasks give what `body` says.
fn run(spec: Json, args: Json, body: impl Fn(&Launch) -> Values) -> (RunState, Option<String>, Given) {
    run_file(json!({"pipeline_spec": spec}), args, body)
}

fn run_file(file: Json, args: Json, body: impl Fn(&Launch) -> Values) -> (RunState, Option<String>, Given) {
    let file: PipelineFile = serde_json::from_value(file).unwrap();
    let plan = Arc::new(Plan::new(&file).unwrap());
    let args: BTreeMap<String, Json> = serde_json::from_value(args).unwrap();
    let args = Values::of_parameters(args.into_iter().map(|(name, value)| (name.into(), Arc::new(value))));
    let now = Timestamp::from_millis(0);
    let limits = Limits { in_flight: 4, cache: false, lost: 2 };
    let (mut scheduler, mut commands) =
        Scheduler::start(plan, Arc::default(), args, Past::default(), limits, now);
    let mut seen = Given::new();
    for _ in 0..1000 {
        let mut ended = Vec::new();
        for command in std::mem::take(&mut commands) {
            match command {
                Command::Launch(launch) => {
                    seen.insert(launch.task.to_string(), given(&launch));
                    let outcome = Outcome::Succeeded(body(&launch));
                    ended.push(Event::Ended { leaf: launch.leaf, outcome, started_at: now, ended_at: now });
                }
                Command::Finished { state, error } => return (state, error, seen),
                _ => {}
            }
        }
        assert!(!ended.is_empty(), "nothing is under way: {seen:?}");
        for event in ended {
            commands.extend(scheduler.step(now, event));
        }
    }
    panic!("does not end: {seen:?}");
}

fn parameters(values: &[(&str, Json)]) -> Values {
    Values::of_parameters(values.iter().map(|(name, value)| ((*name).into(), Arc::new(value.clone()))))
}

fn executors() -> Json {
    json!({"executors": {"exec": {"container": {"image": "none"}}}})
}

fn output(task: &str, key: &str) -> Json {
    json!({"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}})
}

#[test]
fn one_of_several_outputs_is_that_of_the_branch_which_ran() {
    let text = json!({"parameters": {"Output": {"parameterType": "STRING"}}});
    let branch = |condition: &str| {
        json!({
            "componentRef": {"name": "say"},
            "inputs": {"parameters": {"n": {"componentInputParameter": "n"}}},
            "triggerPolicy": {"condition": condition},
        })
    };
    let n = json!({"parameters": {"n": {"parameterType": "NUMBER_INTEGER"}}});
    let spec = json!({
        "pipelineInfo": {"name": "one-of"}, "deploymentSpec": executors(),
        "components": {
            "say": {"executorLabel": "exec", "inputDefinitions": n, "outputDefinitions": text},
            "tell": {"executorLabel": "exec", "inputDefinitions": {"parameters": {"x": {"parameterType": "STRING"}}}},
            "branches": {
                "inputDefinitions": n, "outputDefinitions": {"parameters": {"one": {"parameterType": "STRING"}}},
                "dag": {
                    "tasks": {
                        "small": branch("int(inputs.parameter_values['n']) < 3"),
                        "large": branch("!(int(inputs.parameter_values['n']) < 3)"),
                    },
                    "outputs": {"parameters": {"one": {"valueFromOneof": {"parameterSelectors": [
                        {"producerSubtask": "small", "outputParameterKey": "Output"},
                        {"producerSubtask": "large", "outputParameterKey": "Output"},
                    ]}}}},
                },
            },
        },
        "root": {"inputDefinitions": n, "dag": {"tasks": {
            "branches": {"componentRef": {"name": "branches"}, "inputs": {"parameters": {"n": {"componentInputParameter": "n"}}}},
            "tell": {"componentRef": {"name": "tell"}, "inputs": {"parameters": {"x": output("branches", "one")}}},
        }}},
    });
    for (n, taken) in [(1, "branches/small"), (7, "branches/large")] {
        let body = |launch: &Launch| parameters(&[("Output", json!(launch.task.as_ref()))]);
        let (state, error, seen) = run(spec.clone(), json!({"n": n}), body);
        assert_eq!((state, error), (RunState::Succeeded, None));
        assert_eq!(seen["tell"], json!({"x": taken}));
        assert_eq!(seen.len(), 2, "{seen:?}");
    }
}

#[test]
fn a_part_of_a_value_is_selected_and_text_is_made_of_what_goes_to_text() {
    let part =
        |selector: &str| json!({"componentInputParameter": "whole", "parameterExpressionSelector": selector});
    let spec = |selector: &str| {
        json!({
            "pipelineInfo": {"name": "parts"}, "deploymentSpec": executors(),
            "components": {"take": {"executorLabel": "exec", "inputDefinitions": {"parameters": {
                "number": {"parameterType": "NUMBER_INTEGER"}, "text": {"parameterType": "STRING"},
                "legacy": {"type": "INT"}, "absent": {"parameterType": "STRING", "defaultValue": 4},
            }}}},
            "root": {
                "inputDefinitions": {"parameters": {"whole": {"parameterType": "STRUCT"}}},
                "dag": {"tasks": {"take": {"componentRef": {"name": "take"}, "inputs": {"parameters": {
                    "number": part(selector),
                    "text": {"runtimeValue": {"runtimeParameter": "whole"}},
                    "legacy": {"runtimeValue": {"constantValue": {"intValue": "12"}}},
                }}}}},
            },
        })
    };
    let whole = json!({"whole": {"a": {"b": 3}}});
    let none = |_: &Launch| Values::default();
    let (state, error, seen) = run(spec(r#"parseJson(string_value)["a"]["b"]"#), whole.clone(), none);
    assert_eq!((state, error), (RunState::Succeeded, None));
    assert_eq!(seen["take"], json!({"number": 3, "text": r#"{"a":{"b":3}}"#, "legacy": 12, "absent": "4"}));

    let (state, error, seen) = run(spec(r#"parseJson(string_value)["c"]"#), whole.clone(), none);
    assert_eq!((state, seen.len()), (RunState::Failed, 0));
    let error = error.unwrap();
    assert!(error.contains("task `take`: input `number`: selector `parseJson"), "{error}");
    // First the part, then its type.
    let (state, error, _) = run(spec(r#"parseJson(string_value)["a"]"#), whole, none);
    assert_eq!(state, RunState::Failed);
    assert!(error.unwrap().contains(r#"input `number` expects an integer, found {"b":3}"#));
}

#[test]
fn a_loop_goes_over_artifacts_and_gives_lists_in_their_order() {
    let dataset = json!({"artifactType": {"schemaTitle": "system.Dataset"}});
    let mut list = dataset.clone();
    list["isArtifactList"] = json!(true);
    let spec = json!({
        "pipelineInfo": {"name": "artifacts"}, "deploymentSpec": executors(),
        "components": {
            "make": {"executorLabel": "exec", "outputDefinitions": {"artifacts": {"all": list}}},
            "each": {
                "executorLabel": "exec", "inputDefinitions": {"artifacts": {"one": dataset}},
                "outputDefinitions": {"artifacts": {"out": dataset}, "parameters": {"n": {"parameterType": "STRING"}}},
            },
            "last": {"executorLabel": "exec", "inputDefinitions": {
                "artifacts": {"all": list}, "parameters": {"names": {"parameterType": "LIST"}},
            }},
        },
        "root": {"dag": {"tasks": {
            "make": {"componentRef": {"name": "make"}},
            "each": {
                "componentRef": {"name": "each"},
                "inputs": {"artifacts": {"items": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "all"}}}},
                "artifactIterator": {"items": {"inputArtifact": "items"}, "itemInput": "one"},
                "iteratorPolicy": {"parallelismLimit": 1},
            },
            "last": {"componentRef": {"name": "last"}, "inputs": {
                "artifacts": {"all": {"taskOutputArtifact": {"producerTask": "each", "outputArtifactKey": "out"}}},
                "parameters": {"names": output("each", "n")},
            }},
        }}},
    });
    let body = |launch: &Launch| match launch.task.as_ref() {
        "make" => Values::new(Vec::new(), vec![("all".into(), Arc::from(["a", "b", "c"].map(artifact)))]),
        "last" => Values::default(),
        _ => {
            let one = &launch.inputs.artifact("one").unwrap()[0].uri;
            let name = ("n".into(), Arc::new(json!(one)));
            Values::new(vec![name], vec![("out".into(), Arc::from([artifact(&format!("{one}2"))]))])
        }
    };
    let (state, error, seen) = run(spec, json!({}), body);
    assert_eq!((state, error), (RunState::Succeeded, None));
    assert_eq!(seen["each[1]"]["one"], json!(["b"]));
    assert_eq!(seen["last"], json!({"all": ["a2", "b2", "c2"], "names": ["a", "b", "c"]}));
}

#[test]
fn a_component_runs_within_itself_as_deep_as_it_may() {
    let n = json!({"parameters": {"n": {"parameterType": "NUMBER_INTEGER"}}});
    let number = json!({"parameters": {"Output": {"parameterType": "NUMBER_INTEGER"}}});
    let from = json!({"parameters": {"n": output("less", "Output")}});
    let again = |condition: &str, component: &str| json!({"componentRef": {"name": component}, "inputs": from, "triggerPolicy": {"condition": condition}});
    let one_of = json!({"parameters": {"Output": {"valueFromOneof": {"parameterSelectors": [
        {"producerSubtask": "again", "outputParameterKey": "Output"},
        {"producerSubtask": "done", "outputParameterKey": "Output"},
    ]}}}});
    let countdown = json!({
        "inputDefinitions": n, "outputDefinitions": number,
        "dag": {
            "tasks": {
                "less": {"componentRef": {"name": "less"}, "inputs": {"parameters": {"n": {"componentInputParameter": "n"}}}},
                "again": again("int(inputs.parameter_values['n']) > 0", "countdown"),
                "done": again("int(inputs.parameter_values['n']) <= 0", "less"),
            },
            "outputs": one_of,
        },
    });
    let file = |depth: Json| {
        json!({
            "pipeline_spec": {
                "pipelineInfo": {"name": "recursion"}, "deploymentSpec": executors(),
                "components": {
                    "less": {"executorLabel": "exec", "inputDefinitions": n, "outputDefinitions": number},
                    "countdown": countdown,
                },
                "root": {"inputDefinitions": n, "outputDefinitions": number, "dag": {
                    "tasks": {"countdown": {
                        "componentRef": {"name": "countdown"},
                        "inputs": {"parameters": {"n": {"componentInputParameter": "n"}}},
                    }},
                    "outputs": {"parameters": {"Output": {"valueFromParameter":
                        {"producerSubtask": "countdown", "outputParameterKey": "Output"}}}},
                }},
            },
            "platform_spec": {"platforms": {"kf": {"components": {"countdown": depth}}}},
        })
    };
    let body = |launch: &Launch| {
        let n = launch.inputs.parameter("n").and_then(|n| n.as_i64()).unwrap();
        parameters(&[("Output", json!(n - 1))])
    };
    let (state, error, seen) = run_file(file(json!({"maxDepth": 4})), json!({"n": 4}), body);
    assert_eq!((state, error), (RunState::Succeeded, None));
    assert_eq!(seen["countdown/again/again/again/less"], json!({"n": 1}));
    assert_eq!(seen["countdown/again/again/again/done"], json!({"n": 0}));
    assert_eq!(seen.len(), 5);

    let (state, error, seen) = run_file(file(json!({"maxDepth": 3})), json!({"n": 4}), body);
    assert_eq!(state, RunState::Failed);
    let error = error.unwrap();
    assert!(error.contains("countdown/again/again/again") && error.contains("more than 3 deep"), "{error}");
    assert_eq!(seen.len(), 3, "{seen:?}");

    for (depth, says) in [(json!({}), "contain one another"), (json!({"maxDepth": 0}), "never run")] {
        let file: PipelineFile = serde_json::from_value(file(depth)).unwrap();
        let error = Plan::new(&file).unwrap_err().to_string();
        assert!(error.contains("countdown") && error.contains(says), "{error}");
    }
}
