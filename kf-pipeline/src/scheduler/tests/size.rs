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
    let limits = Limits { in_flight: IN_FLIGHT, cache: false };
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
