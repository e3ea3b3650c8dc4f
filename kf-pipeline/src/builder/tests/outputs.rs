//! What a whole pipeline gives.

use serde_json::json;

use super::{file, fit, load, problems, tell};
use crate::prelude::*;

#[test]
fn outputs_of_the_pipeline_come_from_its_tasks() {
    let build = |exit: bool| {
        Pipeline::build("gives", move |p| {
            let loaded = p.add(load(1));
            let fits = p.parallel_for(vec![0.1, 0.2], |p, rate| p.add(fit(loaded.data, rate))).collect();
            let chosen = p.when(loaded.output.gt(3), |p| p.add(load(2)).output);
            let chosen = chosen.otherwise(|p| p.add(load(3)).output);
            p.output("seed", loaded.output);
            p.output("data", loaded.data);
            p.output("models", fits.model);
            p.output("losses", fits.output);
            p.output("chosen", chosen);
            if exit {
                p.on_exit(tell(Some("over".to_owned())));
            }
        })
        .unwrap()
    };
    let plain = serde_json::to_value(&file(&build(false)).pipeline_spec).unwrap();
    let root = &plain["root"];
    let given = &root["dag"]["outputs"];
    let from = |task: &str, output: &str| json!({"producerSubtask": task, "outputParameterKey": output});
    assert_eq!(given["parameters"]["seed"]["valueFromParameter"], from("load", "Output"));
    assert_eq!(root["outputDefinitions"]["parameters"]["losses"]["parameterType"], "LIST");
    assert_eq!(root["outputDefinitions"]["artifacts"]["models"]["isArtifactList"], true);
    assert_eq!(
        root["outputDefinitions"]["artifacts"]["data"]["artifactType"]["schemaTitle"],
        "system.Dataset"
    );
    assert!(given["parameters"]["chosen"].is_object());
    // With a clean-up, they go through the group that it waits for.
    let around = serde_json::to_value(&file(&build(true)).pipeline_spec).unwrap();
    let root = &around["root"];
    assert_eq!(
        root["dag"]["outputs"]["parameters"]["seed"]["valueFromParameter"],
        from("exit-handler-1", "seed")
    );
    assert_eq!(root["outputDefinitions"], plain["root"]["outputDefinitions"]);
    let body = &around["components"]["comp-exit-handler-1"];
    assert_eq!(body["dag"]["outputs"]["parameters"]["seed"]["valueFromParameter"], from("load", "Output"));
    for pipeline in [build(false), build(true)] {
        pipeline.plan();
    }
}

#[test]
fn what_is_no_output_is_refused() {
    let found = problems(Pipeline::build("gives", |p| {
        let seed = p.param::<i64>("seed", 1);
        let loaded = p.add(load(seed));
        p.output("seed", seed);
        p.output("a-b", loaded.output);
        p.output("twice", loaded.output);
        p.output("twice", loaded.data);
        p.nest("inside", |p| p.output("inner", loaded.output));
    }));
    let found: Vec<&str> = found.iter().map(|problem| problem.message.as_str()).collect();
    for problem in [
        "output `seed`: expected what a task gives, found a parameter",
        "output `a-b`: expected letters, digits and _, no digit first",
        "the pipeline has an output `twice` already",
        "output `inner` is the whole pipeline's",
    ] {
        assert!(found.iter().any(|found| found.contains(problem)), "{problem}: {found:?}");
    }
}
