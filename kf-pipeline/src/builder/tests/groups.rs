//! Groups, their clean-up, and what runs though something failed.

use serde_json::json;

use super::{dag, file, fit, load, pick, problem_at, problems, tell, total};
use crate::Handles;
use crate::builder::{Artifact, Scope, Value};
use crate::prelude::*;

#[component]
fn clean(status: FinalStatus, seed: Option<i64>, data: Option<Input<Dataset>>) {
    let _ = (status, seed, data);
}

#[derive(Clone, Copy, Handles)]
struct Prepared<'p> {
    data: Artifact<'p, Dataset>,
    seed: Value<'p, i64>,
}

fn prepare<'p>(p: &Scope<'p>, seed: Value<'p, i64>) -> Prepared<'p> {
    let loaded = p.add(load(seed));
    Prepared { data: loaded.data, seed: loaded.output }
}

#[test]
fn a_group_is_a_dag_of_its_own_that_gives_what_its_closure_returns() {
    let pipeline = Pipeline::build("groups", |p| {
        let seed = p.param::<i64>("seed", 1);
        let one = p.nest("prepare", |p| p.nest("inside", |p| (prepare(p, seed), seed)));
        let two = p.nest("prepare", |p| (prepare(p, one.0.seed), one.1));
        p.add(fit(two.0.data, 0.1));
        p.add(load(two.1).named("same"));
        let each = p.parallel_for(vec![1_i64, 2], |p, seed| p.nest("each", |p| prepare(p, seed)));
        let all = each.collect();
        p.add(total(all.seed).named("all"));
        let _ = p.parallel_for(all.data, |p, data| p.add(fit(data, 0.1)));
        let lists =
            p.nest("lists", |p| p.parallel_for(vec![0.1], |p, rate| p.add(fit(two.0.data, rate))).collect());
        p.add(pick(lists.model, lists.output));
    })
    .unwrap();
    let root = dag(&pipeline, "root");
    let given = |task: &str, kind: &str, input: &str| {
        root["tasks"][task]["inputs"][kind][input].as_object().unwrap().values().next().unwrap().clone()
    };
    assert_eq!(given("fit", "artifacts", "train")["producerTask"], "prepare-2");
    // What a group was given and gives on is what it was given.
    assert_eq!(given("same", "parameters", "seed"), "seed");
    assert_eq!(
        given("prepare-2", "parameters", "pipelinechannel--prepare--inside--load-Output"),
        json!({"producerTask": "prepare", "outputParameterKey": "pipelinechannel--inside--load-Output"})
    );
    assert_eq!(
        dag(&pipeline, "comp-prepare")["outputs"]["parameters"],
        json!({"pipelinechannel--inside--load-Output": {"valueFromParameter":
            {"producerSubtask": "inside", "outputParameterKey": "pipelinechannel--load-Output"}}})
    );
    let spec = serde_json::to_value(&file(&pipeline).pipeline_spec).unwrap();
    let outputs = &spec["components"]["comp-lists"]["outputDefinitions"];
    assert!(
        outputs["artifacts"].as_object().unwrap().values().all(|output| output["isArtifactList"] == true)
    );
    assert!(
        outputs["parameters"].as_object().unwrap().values().all(|output| output["parameterType"] == "LIST")
    );
}

#[test]
fn a_handle_escaped_from_a_group_is_refused_where_it_is_used() {
    let opened = line!() + 4;
    let used = line!() + 5;
    let built = Pipeline::build("escaped", |p| {
        let mut kept = None;
        p.nest("group", |p| kept = Some(p.add(load(1))));
        if let Some(loaded) = kept {
            p.add(fit(loaded.data, 0.1));
        }
    });
    let message = problem_at(used, built);
    assert!(message.contains(&format!("only inside of the group at {}:{opened}", file!())), "{message}");

    let line = line!() + 4;
    let built = Pipeline::build("deep", |p| {
        let mut kept = None;
        // A handle of a branch is none of the group around it either.
        let out = p.nest("group", |p| {
            p.when(p.param("on", true), |p| kept = Some(p.add(load(1)).output));
            kept.unwrap()
        });
        p.add(load(out));
    });
    assert!(problem_at(line, built).contains("where the condition at"));

    let line = line!() + 2;
    let built = Pipeline::build("name", |p| {
        p.nest("a/b", |_| ());
    });
    assert!(problem_at(line, built).contains("task name `a/b`"));
}

#[test]
fn an_exit_group_is_cleaned_up_after() {
    let pipeline = Pipeline::build("exit", |p| {
        let seed = p.param::<i64>("seed", 1);
        let first = p.add(load(seed));
        let number = p.exit_group(
            |status| clean(status, first.output, first.data),
            |p| {
                let each = p.parallel_for(vec![1_i64, 2], |p, item| {
                    p.exit_group(
                        // What comes from further out was there before.
                        |_| load(item).named("again").after(p.add(load(first.output).named("beside"))),
                        |p| p.add(load(item)).output,
                    )
                });
                p.add(total(each.collect())).output
            },
        );
        p.add(load(number).named("last"));
        p.on_exit(clean(p.run_status(), seed, None));
    })
    .unwrap();
    let root = dag(&pipeline, "root");
    let last = &root["tasks"]["clean-2"];
    assert_eq!(
        last["inputs"]["parameters"]["status"],
        json!({"taskFinalStatus": {"producerTask": "exit-handler-1"}})
    );
    let body = dag(&pipeline, "comp-exit-handler-1");
    let clean = &body["tasks"]["clean"];
    assert_eq!(clean["dependentTasks"], json!(["exit-handler-2"]));
    assert_eq!(clean["triggerPolicy"], json!({"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}));
    assert_eq!(
        clean["inputs"]["parameters"]["status"],
        json!({"taskFinalStatus": {"producerTask": "exit-handler-2"}})
    );
    assert_eq!(
        body["tasks"]["last"]["inputs"]["parameters"]["seed"]["taskOutputParameter"]["producerTask"],
        "exit-handler-2"
    );
    let again = &dag(&pipeline, "comp-for-loop-1")["tasks"]["again"];
    assert_eq!(again["dependentTasks"], json!(["beside", "exit-handler-3"]));
    let spec = serde_json::to_value(&file(&pipeline).pipeline_spec).unwrap();
    assert_eq!(
        spec["components"]["comp-clean"]["inputDefinitions"],
        json!({
            "parameters": {
                "seed": {"parameterType": "NUMBER_INTEGER", "isOptional": true},
                "status": {"parameterType": "TASK_FINAL_STATUS", "isOptional": true},
            },
            "artifacts": {"data": {
                "artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"},
                "isOptional": true,
            }},
        })
    );
}

#[test]
fn what_may_be_absent_goes_into_options_alone() {
    let line = line!() + 3;
    let built = Pipeline::build("absent", |p| {
        let loaded = p.add(load(1));
        p.add(load(loaded.output).named("next").even_if_failed());
    });
    let message = problem_at(line, built);
    assert!(message.contains("input `seed`, output `Output` of task `load`, may be absent"), "{message}");

    let line = line!() + 4;
    let built = Pipeline::build("absent", |p| {
        let loaded = p.add(load(1));
        p.exit_group(|_| fit(loaded.data, 0.1), |p| p.add(tell(None)));
    });
    let found = problems(built);
    assert!(found[0].at.ends_with(&format!(":{}", line - 1)) || found[0].at.ends_with(&format!(":{line}")));
    assert!(found[0].message.contains("input `train`"), "{found:?}");
}

#[test]
fn a_final_status_is_for_tasks_beside_it() {
    let line = line!() + 5;
    let built = Pipeline::build("elsewhere", |p| {
        let loaded = p.add(load(1));
        let status = p.status_of(loaded);
        p.add(clean(status, loaded.output, loaded.data));
        p.nest("inside", |p| p.add(clean(status, None, None)));
    });
    assert!(problem_at(line, built).contains("known beside it alone"));

    let line = line!() + 2;
    let built = Pipeline::build("early", |p| {
        p.add(clean(p.run_status(), None, None));
    });
    assert!(problem_at(line, built).contains("what `on_exit` adds"));
}

#[test]
fn a_group_waits_for_what_a_task_in_it_comes_after() {
    let pipeline = Pipeline::build("after", |p| {
        let first = p.add(load(1).named("first"));
        p.nest("group", |p| {
            p.add(load(2).named("inner").after(first));
            p.add(load(3).named("other").after(first));
        });
        let each = p.parallel_for(vec![1_i64], |p, item| p.add(load(item)));
        p.add(load(4).named("last").after(&each));
    })
    .unwrap();
    let root = dag(&pipeline, "root");
    assert_eq!(root["tasks"]["group"]["dependentTasks"], json!(["first"]));
    assert_eq!(root["tasks"]["last"]["dependentTasks"], json!(["for-loop-1"]));

    let line = line!() + 5;
    let built = Pipeline::build("inside", |p| {
        let mut kept = None;
        p.nest("group", |p| kept = Some(p.add(load(1))));
        if let Some(loaded) = kept {
            p.add(load(2).after(loaded));
        }
    });
    assert!(problem_at(line, built).contains("comes `.after` `load`"));
}
