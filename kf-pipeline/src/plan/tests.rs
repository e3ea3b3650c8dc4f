//! Every mistake in a pipeline's data is refused, and its place named.

use serde_json::{Value as Json, json};

use super::Plan;
use crate::Error;
use crate::spec::PipelineFile;

/// `make` gives a dataset and a number; `use` takes both; `loop` goes over a group that uses the item.
fn good() -> Json {
    let number = |source: Json| json!({"parameters": {"number": source}});
    let mut using =
        number(json!({"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "number"}}));
    using["artifacts"] =
        json!({"data": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "data"}}});
    let dataset = json!({"artifactType": {"schemaTitle": "system.Dataset"}});
    let integer = json!({"parameterType": "NUMBER_INTEGER"});
    json!({"pipeline_spec": {
        "pipelineInfo": {"name": "good"},
        "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "a"}}, "exec-b": {"container": {"image": "b"}}}},
        "components": {
            "comp-make": {
                "executorLabel": "exec-a",
                "inputDefinitions": {"parameters": {"number": integer}},
                "outputDefinitions": {"parameters": {"number": integer}, "artifacts": {"data": dataset}},
            },
            "comp-use": {
                "executorLabel": "exec-b",
                "inputDefinitions": {"parameters": {"number": integer}, "artifacts": {"data": dataset}},
            },
            "comp-group": {
                "inputDefinitions": {"parameters": {"item": integer}},
                "outputDefinitions": {"parameters": {"number": integer}, "artifacts": {"data": dataset}},
                "dag": {
                    "tasks": {"inner": {
                        "componentRef": {"name": "comp-make"},
                        "inputs": number(json!({"componentInputParameter": "item"})),
                    }},
                    "outputs": {
                        "parameters": {"number": {"valueFromParameter": {"producerSubtask": "inner", "outputParameterKey": "number"}}},
                        "artifacts": {"data": {"artifactSelectors": [{"producerSubtask": "inner", "outputArtifactKey": "data"}]}},
                    },
                },
            },
        },
        "root": {
            "inputDefinitions": {"parameters": {"start": integer}},
            "dag": {"tasks": {
                "make": {
                    "componentRef": {"name": "comp-make"},
                    "inputs": number(json!({"componentInputParameter": "start"})),
                    "retryPolicy": {"maxRetryCount": 1, "backoffDuration": "1.5s", "backoffMaxDuration": "3600s"},
                    "triggerPolicy": {"condition": "inputs.parameter_values['number'] > 0"},
                },
                "use": {"componentRef": {"name": "comp-use"}, "inputs": using, "dependentTasks": ["loop"]},
                "loop": {
                    "componentRef": {"name": "comp-group"},
                    "parameterIterator": {"items": {"raw": "[1, 2]"}, "itemInput": "item"},
                },
            }},
        },
    }})
}

const TASKS: &str = "/pipeline_spec/root/dag/tasks";

fn plan(file: Json) -> Result<Plan, Error> {
    let file: PipelineFile = serde_json::from_value(file).unwrap();
    Plan::new(&file)
}

/// Sets what lies at `pointer` under the root's tasks, or under the pipeline where it begins with `/pipeline_spec`.
fn refused(pointer: &str, value: Json) -> (String, String) {
    let mut file = good();
    let pointer =
        if pointer.starts_with("/pipeline_spec") { pointer.to_owned() } else { format!("{TASKS}{pointer}") };
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = file.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
    if value.is_null() {
        parent.as_object_mut().unwrap().remove(key).unwrap();
    } else {
        parent[key] = value;
    }
    match plan(file) {
        Err(Error::Plan { place, problem, .. }) => (place, problem),
        other => panic!("{pointer}: expected an error, found {other:?}"),
    }
}

#[track_caller]
fn refuses(pointer: &str, value: Json, place: &str, problem: &str) {
    let found = refused(pointer, value);
    assert!(
        found.0 == place && found.1.contains(problem),
        "expected {place}: {problem}\nfound {}: {}",
        found.0,
        found.1
    );
}

#[test]
fn what_is_right_is_taken() {
    let plan = plan(good()).unwrap();
    assert_eq!(plan.name(), "good");
}

#[test]
fn other_versions_than_2_are_refused() {
    let version = "/pipeline_spec/schemaVersion";
    for unknown in ["3.0.0", "1.0", "20.1", "v2", " 2", "x"] {
        let said = format!("version `{unknown}` of the IR is not known; expected 2.1.0 or another 2.x");
        refuses(version, json!(unknown), "schemaVersion", &said);
    }
    for known in ["2.1.0", "2.0.0", "2.2", "2", ""] {
        let mut file = good();
        file["pipeline_spec"]["schemaVersion"] = json!(known);
        plan(file).unwrap();
    }
}

#[test]
fn what_is_unknown() {
    refuses("/use/componentRef/name", json!("comp-x"), "root/use", "component `comp-x` is not in components");
    refuses(
        "/use/dependentTasks",
        json!(["x"]),
        "root/use",
        "task `x` is not in the DAG `root`, which has: loop, make, use",
    );
    let source = json!({"taskOutputParameter": {"producerTask": "x", "outputParameterKey": "number"}});
    refuses("/use/inputs/parameters/number", source, "root/use", "task `x` is not in the DAG");
    let source = json!({"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "x"}});
    refuses("/use/inputs/parameters/number", source, "root/use", "task `make` has no output parameter `x`");
    let source = json!({"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "x"}});
    refuses("/use/inputs/artifacts/data", source, "root/use", "task `make` has no output artifact `x`");
    let source = json!({"componentInputParameter": "x"});
    refuses("/make/inputs/parameters/number", source, "root/make", "`root` has no input parameter `x`");
    let source = json!({"componentInputArtifact": "x"});
    refuses("/use/inputs/artifacts/data", source, "root/use", "`root` has no input artifact `x`");
    let components = "/pipeline_spec/components";
    refuses(
        &format!("{components}/comp-use/executorLabel"),
        json!("x"),
        "comp-use",
        "executor `x` is not in",
    );
    refuses(
        &format!("{components}/comp-use/executorLabel"),
        Json::Null,
        "comp-use",
        "either `dag` or `executorLabel`",
    );
    let subtask = "comp-group/dag/outputs/parameters/number/valueFromParameter/producerSubtask";
    refuses(
        &format!("{components}/{subtask}"),
        json!("x"),
        "number",
        "task `x` is not in the DAG `comp-group`",
    );
    refuses(
        "/loop/parameterIterator/itemInput",
        json!("x"),
        "root/loop",
        "`comp-group` has no input parameter `x`",
    );
    refuses("/pipeline_spec/root", json!({"executorLabel": "exec-a"}), "root", "not a DAG");
}

#[test]
fn what_waits_for_itself() {
    refuses("/make/dependentTasks", json!(["use"]), "root", "these tasks wait for one another: make, use");
    refuses("/make/dependentTasks", json!(["make"]), "root", "these tasks wait for one another: make");
    let inner = "/pipeline_spec/components/comp-group/dag/tasks/inner/componentRef/name";
    refuses(inner, json!("comp-group"), "comp-group", "contain one another");
    let mut file = good();
    let other = json!({"dag": {"tasks": {"back": {"componentRef": {"name": "comp-group"}}}}});
    file["pipeline_spec"]["components"]["comp-other"] = other;
    file["pipeline_spec"]["components"]["comp-group"]["dag"]["tasks"]["to"] =
        json!({"componentRef": {"name": "comp-other"}});
    let error = plan(file).unwrap_err().to_string();
    assert!(error.contains("`comp-group, comp-other`") && error.contains("would never end"), "{error}");
}

#[test]
fn what_has_the_wrong_type() {
    let constant = |value: Json| json!({"runtimeValue": {"constant": value}});
    let number = "/make/inputs/parameters/number";
    refuses(
        number,
        constant(json!("one")),
        "root/make",
        "input `number` expects an integer, found the constant \"one\"",
    );
    refuses(number, constant(json!(1.5)), "root/make", "expects an integer, found the constant 1.5");
    refuses(
        "/pipeline_spec/root/inputDefinitions/parameters/start/parameterType",
        json!("STRING"),
        "root/make",
        "expects an integer, found a string",
    );
    let components = "/pipeline_spec/components";
    let kind = "artifacts/data/artifactType/schemaTitle";
    refuses(
        &format!("{components}/comp-use/inputDefinitions/{kind}"),
        json!("system.Model"),
        "root/use",
        "input `data` expects system.Model, found system.Dataset",
    );
    refuses(
        &format!("{components}/comp-use/inputDefinitions/artifacts/data/isArtifactList"),
        json!(true),
        "root/use",
        "input `data` expects a list of artifacts, found one artifact",
    );
    let source = json!({"taskOutputArtifact": {"producerTask": "loop", "outputArtifactKey": "data"}});
    refuses(
        "/use/inputs/artifacts/data",
        source,
        "root/use",
        "expects one artifact, found a list of artifacts",
    );
    refuses(
        &format!("{components}/comp-group/outputDefinitions/parameters/number/parameterType"),
        json!("BOOLEAN"),
        "comp-group/number",
        "declared as a boolean, found an integer",
    );
    refuses(
        &format!("{components}/comp-group/outputDefinitions/{kind}"),
        json!("system.Model"),
        "comp-group/data",
        "declared as system.Model, found system.Dataset",
    );
}

#[test]
fn what_is_missing() {
    refuses("/make/inputs", Json::Null, "root/make", "input parameter `number` is missing");
    refuses("/use/inputs/artifacts", Json::Null, "root/use", "input artifact `data` is missing");
    refuses("/loop/parameterIterator", Json::Null, "root/loop", "input parameter `item` is missing");
    let items = json!({"items": {"inputParameter": "list"}, "itemInput": "item"});
    refuses(
        "/loop/parameterIterator",
        items,
        "root/loop",
        "the loop goes over input `list`, which is not given",
    );
}

#[test]
fn what_cannot_be_read() {
    refuses("/make/triggerPolicy/condition", json!("1 +"), "root/make", "is not valid CEL");
    let items = "/loop/parameterIterator/items/raw";
    refuses(items, json!("[1,"), "root/loop", "not valid JSON");
    refuses(items, json!("{}"), "root/loop", "not a JSON array");
    refuses(
        items,
        json!("[1, \"two\"]"),
        "root/loop",
        "item 1 of the loop: `item` expects an integer, found \"two\"",
    );
    for duration in ["", "1", "s", "-1s", "NaNs", "infs", "1 minute", "1e400s"] {
        refuses("/make/retryPolicy/backoffDuration", json!(duration), "root/make", "is not a duration");
        refuses("/make/retryPolicy/backoffMaxDuration", json!(duration), "root/make", "is not a duration");
    }
    for name in ["", "a/b", "a[0]"] {
        let task = json!({"componentRef": {"name": "comp-make"}});
        let mut file = good();
        file.pointer_mut(TASKS).unwrap()[name] = task;
        assert!(plan(file).unwrap_err().to_string().contains("a task's name"), "{name}");
    }
    let mut file = good();
    file["platform_spec"] = json!({"platforms": {"kf": {"executors": {"exec-a": {"timeout": "soon"}}}}});
    assert!(plan(file).unwrap_err().to_string().contains("platforms.kf"));
}

#[test]
fn a_long_chain_is_checked_on_a_small_stack() {
    let mut file = good();
    let tasks = file.pointer_mut(TASKS).unwrap();
    for index in 0..20_000 {
        let before = if index == 0 { "make".to_owned() } else { format!("t{}", index - 1) };
        tasks[format!("t{index}")] = json!({
            "componentRef": {"name": "comp-make"},
            "inputs": {"parameters": {"number": {"taskOutputParameter": {"producerTask": before, "outputParameterKey": "number"}}}},
        });
    }
    std::thread::Builder::new().stack_size(512 << 10).spawn(|| plan(file).unwrap()).unwrap().join().unwrap();
}

#[test]
fn a_ratio_asks_for_no_iteration_too_many() {
    use super::MinSuccess::{Count, Ratio};
    for (share, count, least) in
        [(0.55, 100, 55), (0.07, 100, 7), (0.51, 4, 3), (1.0, 7, 7), (0.0, 7, 0), (0.5, 0, 0)]
    {
        assert_eq!(Ratio(share).of(count), least, "{share} of {count}");
    }
    assert_eq!((Count(3).of(2), Count(3).of(9)), (2, 3));
}
