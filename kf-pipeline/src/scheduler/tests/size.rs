//! A loop costs what its running iterations cost.

use std::collections::VecDeque;
use std::sync::Arc;

use kf_core::Timestamp;
use kf_core::metadata::RunState;
use serde_json::{Value as Json, json};

use super::super::{Command, Event, LeafId, Limits, Outcome, Past, Scheduler, Values};
use crate::plan::Plan;
use crate::spec::PipelineFile;

const ITERATIONS: usize = 100_000;
const IN_FLIGHT: usize = 8;

/// A loop over a leaf, or over a chain of two.
fn plan(chain: bool) -> Arc<Plan> {
    let leaf = json!({"componentRef": {"name": "leaf"}});
    let mut second = leaf.clone();
    second["dependentTasks"] = json!(["a"]);
    let item = json!({"parameters": {"item": {"parameterType": "NUMBER_INTEGER"}}});
    let mut of_leaf = item.clone();
    of_leaf["parameters"]["item"]["isOptional"] = json!(true);
    let file: PipelineFile = serde_json::from_value(json!({"pipeline_spec": {
        "pipelineInfo": {"name": "long"},
        "deploymentSpec": {"executors": {"exec": {"container": {"image": "none"}}}},
        "components": {
            "leaf": {"executorLabel": "exec", "inputDefinitions": of_leaf},
            "chain": {"dag": {"tasks": {"a": leaf, "b": second}}, "inputDefinitions": item},
        },
        "root": {
            "inputDefinitions": {"parameters": {"items": {"parameterType": "LIST"}}},
            "dag": {"tasks": {"loop": {
                "componentRef": {"name": if chain { "chain" } else { "leaf" }},
                "parameterIterator": {"items": {"raw": Json::from_iter(0..ITERATIONS).to_string()}, "itemInput": "item"},
            }}},
        },
    }}))
    .unwrap();
    Arc::new(Plan::new(&file).unwrap())
}

fn goes_through(chain: bool, leaves: usize) {
    let limits = Limits { in_flight: IN_FLIGHT, cache: false, lost: 2 };
    let now = Timestamp::from_millis(0);
    let (mut scheduler, mut commands) =
        Scheduler::start(plan(chain), Arc::default(), Values::default(), Past::default(), limits, now);
    let mut running: VecDeque<LeafId> = VecDeque::new();
    let (mut launched, mut most) = (0, 0);
    let end = loop {
        let mut end = None;
        for command in commands {
            match command {
                Command::Launch(launch) => {
                    launched += 1;
                    running.push_back(launch.leaf);
                }
                Command::Finished { state, .. } => end = Some(state),
                _ => {}
            }
        }
        let size = scheduler.leaves.len()
            + scheduler.frames.len()
            + scheduler.todo.len()
            + scheduler.ready.len()
            + scheduler.loops.len()
            + scheduler.timers.len();
        most = most.max(size);
        if let Some(state) = end {
            break state;
        }
        let leaf = running.pop_front().unwrap();
        let outcome = Outcome::Succeeded(Values::default());
        commands = scheduler.step(now, Event::Ended { leaf, outcome, started_at: now, ended_at: now });
    };
    assert_eq!((end, launched), (RunState::Succeeded, leaves));
    assert!(most <= 3 * IN_FLIGHT, "the scheduler held {most} things at once");
}

#[test]
fn a_long_loop_over_a_leaf_stays_small() {
    goes_through(false, ITERATIONS);
}

#[test]
fn a_long_loop_over_a_group_stays_small() {
    goes_through(true, 2 * ITERATIONS);
}

#[test]
fn outputs_that_nothing_takes_are_not_kept() {
    let gives = json!({"executorLabel": "exec", "outputDefinitions": {"parameters": {"x": {"parameterType": "NUMBER_INTEGER"}}}});
    let mut takes = gives.clone();
    takes["inputDefinitions"] = json!({"parameters": {"x": {"parameterType": "NUMBER_INTEGER"}}});
    let x = json!({"taskOutputParameter": {"producerTask": "a", "outputParameterKey": "x"}});
    let file: PipelineFile = serde_json::from_value(json!({"pipeline_spec": {
        "pipelineInfo": {"name": "p"},
        "deploymentSpec": {"executors": {"exec": {"container": {"image": "i"}}}},
        "components": {"gives": gives, "takes": takes},
        "root": {"dag": {"tasks": {
            "a": {"componentRef": {"name": "gives"}},
            "b": {"componentRef": {"name": "takes"}, "inputs": {"parameters": {"x": x}}},
            "c": {"componentRef": {"name": "gives"}},
        }}},
    }}))
    .unwrap();
    let limits = Limits { in_flight: IN_FLIGHT, cache: false, lost: 2 };
    let now = Timestamp::from_millis(0);
    let plan = Arc::new(Plan::new(&file).unwrap());
    let (mut scheduler, commands) =
        Scheduler::start(plan, Arc::default(), Values::default(), Past::default(), limits, now);
    let mut launched = 0;
    for command in commands {
        if let Command::Launch(launch) = command {
            launched += 1;
            let outcome =
                Outcome::Succeeded(Values::of_parameters([("x".into(), Arc::new(json!(1)))].into_iter()));
            let leaf = launch.leaf;
            scheduler.step(now, Event::Ended { leaf, outcome, started_at: now, ended_at: now });
        }
    }
    let root = scheduler.frames.values().next().unwrap();
    let kept = [0, 2].map(|task| !root.end_of(task).unwrap().outputs.is_empty());
    assert_eq!((launched, kept), (2, [true, false]));
}
