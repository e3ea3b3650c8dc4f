//! Branches, what they give together, and loops over what others collected.

use serde_json::{Value as Json, json};

use super::{dag, file, fit, load, pick, problem_at, problems, tell, total};
use crate::prelude::*;

#[test]
fn the_branch_that_is_taken_gives_its_handles() {
    let pipeline = Pipeline::build("branches", |p| {
        let seed = p.param::<i64>("seed", 3);
        let raw = p.add(load(seed));
        let (data, number) = p
            .when(raw.output.eq(1), |p| {
                let one = p.add(load(1));
                (one.data, one.output)
            })
            .or_when(raw.output.eq(seed), |p| {
                let two = p.add(load(2));
                (two.data, two.output)
            })
            .otherwise(|p| {
                let three = p.add(load(3));
                (three.data, three.output)
            });
        p.add(fit(data, 0.5));
        p.add(load(number));
    })
    .unwrap();
    // As upstream's compiler writes it.
    let root = dag(&pipeline, "root");
    assert_eq!(
        root["tasks"]["fit"]["inputs"]["artifacts"]["train"]["taskOutputArtifact"]["producerTask"],
        "condition-branches-1"
    );
    let branches = &root["tasks"]["condition-branches-1"];
    assert!(branches.get("triggerPolicy").is_none(), "{branches}");
    assert_eq!(
        branches["inputs"]["parameters"],
        json!({
            "pipelinechannel--load-Output":
                {"taskOutputParameter": {"producerTask": "load", "outputParameterKey": "Output"}},
            "pipelinechannel--seed": {"componentInputParameter": "seed"},
        })
    );
    let branches = dag(&pipeline, "comp-condition-branches-1");
    let (one, two) = (
        "int(inputs.parameter_values['pipelinechannel--load-Output']) == 1",
        "int(inputs.parameter_values['pipelinechannel--load-Output']) == \
         int(inputs.parameter_values['pipelinechannel--seed'])",
    );
    let condition = |task: &str| branches["tasks"][task]["triggerPolicy"]["condition"].clone();
    assert_eq!(condition("condition-1"), one);
    assert_eq!(condition("condition-2"), format!("(!({one})) && ({two})"));
    assert_eq!(condition("condition-3"), format!("(!({one})) && (!({two}))"));
    let selector = |branch: usize, kind: &str, key: &str| {
        let task = if branch == 1 { "load-2".to_owned() } else { format!("load-{}", branch + 1) };
        json!({
            "producerSubtask": format!("condition-{branch}"),
            format!("output{kind}Key"): format!("pipelinechannel--{task}-{key}"),
        })
    };
    let artifacts = branches["outputs"]["artifacts"].as_object().unwrap();
    let all: Vec<Json> = (1..4).map(|branch| selector(branch, "Artifact", "data")).collect();
    assert_eq!(artifacts.values().collect::<Vec<_>>(), [&json!({"artifactSelectors": all})]);
    let parameters = branches["outputs"]["parameters"].as_object().unwrap();
    let all: Vec<Json> = (1..4).map(|branch| selector(branch, "Parameter", "Output")).collect();
    assert_eq!(
        parameters.values().collect::<Vec<_>>(),
        [&json!({"valueFromOneof": {"parameterSelectors": all}})]
    );
}

#[test]
fn branches_nest_and_are_collected() {
    let pipeline = Pipeline::build("nested", |p| {
        let each = p.parallel_for(vec![1_i64, 2, 3], |p, item| {
            let number = p.when(item.gt(2), |p| p.add(load(item))).otherwise(|p| {
                let all = p.parallel_for(vec![1_i64], |p, more| p.add(load(more)).output);
                let sum = p.add(total(all.collect()));
                p.when(sum.output.eq(0), |p| p.add(load(sum.output))).otherwise(|p| p.add(load(7)))
            });
            (number, p.when(item.lt(3), |p| p.add(load(item)).output))
        });
        let (all, some) = each.collect();
        p.add(total(all.output).after(&p.when(p.param("more", true), |_| ())));
        p.add(total(some));
        let _ = p.parallel_for(all.data, |p, data| p.add(fit(data, 0.1))).collect();
    })
    .unwrap();
    let root = dag(&pipeline, "root");
    let over = &root["tasks"]["for-loop-3"];
    let list = "pipelinechannel--for-loop-1--condition-branches-1-oneof-11";
    assert_eq!(over["artifactIterator"]["items"]["inputArtifact"], list);
    assert_eq!(over["artifactIterator"]["itemInput"], "pipelinechannel--for-loop-3-item");
    let spec = serde_json::to_value(&file(&pipeline).pipeline_spec).unwrap();
    let inputs = &spec["components"]["comp-for-loop-3"]["inputDefinitions"]["artifacts"];
    assert_eq!(inputs["pipelinechannel--for-loop-3-item"]["artifactType"]["schemaTitle"], "system.Dataset");
    assert!(inputs.as_object().unwrap().values().any(|input| input["isArtifactList"] == true), "{inputs}");
    let after: Vec<&Json> =
        root["tasks"].as_object().unwrap().values().map(|task| &task["dependentTasks"]).collect();
    assert!(after.contains(&&json!(["condition-6"])), "{after:?}");
}

#[test]
fn loops_over_artifacts_nest_and_collect() {
    let pipeline = Pipeline::build("artifacts", |p| {
        let parts = p.parallel_for(vec![1_i64, 2], |p, seed| p.add(load(seed)).data).collect();
        let fits = p.parallel_for(parts, |p, data| {
            let fits = p.parallel_for_limited(vec![0.1, 0.2], 1, |p, rate| p.add(fit(data, rate))).collect();
            (fits.model, fits.output)
        });
        let (models, rates) = fits.collect();
        let again = p.parallel_for(models, |p, model| {
            p.parallel_for(rates, |p, rates| p.add(pick(models, rates)).output).collect();
            p.add(pick_one(model))
        });
        p.add(pick(models, again.collect().output));
    });
    file(&pipeline.unwrap());
}

#[component]
fn pick_one(model: Input<Model>) -> f64 {
    let _ = model;
    1.0
}

#[test]
fn what_comes_from_outside_of_a_branch_is_not_given_by_it() {
    let line = line!() + 4;
    let built = Pipeline::build("outside", |p| {
        let seed = p.param::<i64>("seed", 1);
        let loaded = p.add(load(seed));
        let data = p.when(seed.gt(1), |p| p.add(load(2)).data).otherwise(|_| loaded.data);
        p.add(fit(data, 0.1));
    });
    let found = problems(built);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].at, format!("{}:{line}", file!()));
    assert!(found[0].message.contains("output `data` of task `load`, which comes from outside"), "{found:?}");

    let built = Pipeline::build("lengths", |p| {
        let seed = p.param::<i64>("seed", 1);
        let all = p
            .when(seed.gt(1), |p| vec![p.add(load(2)).output])
            .otherwise(|p| vec![p.add(load(2)).output, p.add(load(3)).output]);
        for one in all {
            p.add(load(one));
        }
    });
    assert!(problems(built)[0].message.contains("different numbers of handles: 1, 2"));
}

#[test]
fn a_branch_without_handles_may_stand_alone() {
    let pipeline = Pipeline::build("alone", |p| {
        let on = p.param("on", true);
        p.when(on, |p| p.add(tell(None)));
        p.when(!on, |p| {
            p.add(tell(None));
        })
        .or_when(on, |_| ())
        .otherwise(|_| ());
    })
    .unwrap();
    let tasks = dag(&pipeline, "root")["tasks"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(tasks, ["condition-1", "condition-branches-1"]);
    let line = line!() + 3;
    let built = Pipeline::build("nan", |p| {
        let score = p.param("score", 0.5);
        p.when(score.gt(0.1), |_| ()).or_when(score.gt(f64::NAN), |_| ());
    });
    assert!(problem_at(line, built).contains("the condition"));
}

#[test]
fn hundreds_of_branches_are_built_in_linear_time() {
    let build = |count: i64| {
        let began = super::cpu_time();
        let pipeline = Pipeline::build("many", |p| {
            let mut number = p.param::<i64>("number", 1);
            for at in 0..count {
                number = p
                    .when(number.gt(at), |p| p.add(load(number)).output)
                    .otherwise(|p| p.nest("inner", |p| p.add(load(at)).output));
            }
        });
        let tasks = pipeline.unwrap().file().unwrap().pipeline_spec.root.dag.as_ref().unwrap().tasks.len();
        assert_eq!(tasks as i64, count);
        super::cpu_time() - began
    };
    build(10);
    let (small, large) = (build(50), build(500));
    let least = std::time::Duration::from_millis(20);
    assert!(large < 40 * small.max(least), "50 branches: {small:?}, 500: {large:?}");
}
