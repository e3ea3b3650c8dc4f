//! What reports say of failures that something makes up for.

use kf_core::metadata::RunState;

use super::fixtures::{group, ran, report};
use super::{assert_well_formed, data};
use crate::TaskState::{self, *};
use crate::prelude::*;
use crate::report::{Report, TaskReport};

#[component]
async fn fetch(data: Output<Dataset>) -> TaskResult {
    data.write("")
}

#[component]
async fn last_known(data: Output<Dataset>) -> TaskResult {
    data.write("")
}

#[component]
async fn fit(data: Input<Dataset>, rate: f64) -> f64 {
    let _ = data;
    rate
}

fn pipeline() -> Pipeline {
    Pipeline::build("tolerant", |p| {
        let fetched = p.add_or(fetch(), last_known());
        let fits = p.parallel_for(vec![0.1, 0.2, 0.3], |p, rate| p.add(fit(fetched.data, rate)));
        let _ = fits.min_success(2);
    })
    .unwrap()
}

fn failed(path: &str, error: &str) -> TaskReport {
    TaskReport { error: Some(error.to_owned()), ..ran(path, Failed, 0, 10) }
}

fn told(state: RunState, last_known: TaskState, failures: &[i64]) -> Report {
    let whole = |failed: bool| if failed { Failed } else { Succeeded };
    let mut tasks = vec![failed("fetch", "no route to host")];
    tasks.push(ran("last-known", last_known, 10, 20));
    for n in 0..3 {
        let path = format!("for-loop-1[{n}]/fit");
        match failures.contains(&n) {
            true => tasks.push(failed(&path, "it diverged")),
            false => tasks.push(ran(&path, Succeeded, 20, 30)),
        }
        tasks.push(group(&format!("for-loop-1[{n}]"), whole(failures.contains(&n)), 31));
    }
    tasks.push(group("for-loop-1", whole(failures.len() > 1), 32));
    report("tolerant", pipeline().file().unwrap(), state, tasks)
}

#[test]
fn what_is_made_up_for_is_not_alarming_and_says_by_what() {
    let html = told(RunState::Succeeded, Succeeded, &[1]).to_html();
    assert_well_formed(&html);
    let body = html.split_once("<body>").unwrap().1;
    assert!(body.contains("2 failures were tolerated") && !body.contains("class=\"failure s-failed\""));
    assert!(body.contains("<span>no route to host</span> — `last-known` stands for it"));
    assert!(body.contains("<span>it diverged</span> — enough other iterations of `for-loop-1` succeeded"));
    assert!(body.contains("class=\"node s-failed tolerated\"><title>fetch"));
    assert!(body.contains("failed, tolerated · 10 ms"));
    assert_eq!(body.matches("class=\"edge fallback\"").count(), 1, "from fetch to last-known");
    let tasks = &data(&html)["tasks"];
    assert_eq!(tasks[0]["tolerated"], "`last-known` stands for it");
    let rows = data(&html)["rows"].as_array().unwrap().clone();
    let flagged = rows.iter().filter(|row| row[8].as_u64().unwrap() & 8 > 0);
    let flagged: Vec<&str> = flagged.filter_map(|row| row[2].as_str()).collect();
    assert_eq!(flagged, ["fetch", "fit"]);
}

#[test]
fn what_is_not_made_up_for_stays_alarming() {
    let html = told(RunState::Failed, Failed, &[0, 1]).to_html();
    assert_well_formed(&html);
    assert!(html.contains("4 tasks failed") && !html.contains("tolerated</h2>"), "all four");
    let html = told(RunState::Failed, Succeeded, &[0, 2]).to_html();
    assert!(html.contains("2 tasks failed") && html.contains("1 failure was tolerated"));
    // A fallback that has not ended yet may still fail.
    let mut report = told(RunState::Running, Succeeded, &[]);
    report.tasks.truncate(1);
    let html = report.to_html();
    assert!(html.contains("1 task failed") && !html.contains("was tolerated"));
}
