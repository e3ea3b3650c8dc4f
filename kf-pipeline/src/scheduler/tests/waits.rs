//! Waits between attempts while the clock jumps.

use std::sync::Arc;
use std::time::Duration;

use kf_core::Timestamp;
use serde_json::json;

use super::super::{Command, Event, Failure, JournalEvent, Limits, Outcome, Past, Scheduler, Values};
use crate::plan::Plan;
use crate::spec::PipelineFile;

const HOUR: i64 = 3_600_000;
const WAIT: Duration = Duration::from_secs(10);

fn plan() -> Arc<Plan> {
    let file: PipelineFile = serde_json::from_value(json!({"pipeline_spec": {
        "pipelineInfo": {"name": "waits"},
        "deploymentSpec": {"executors": {"exec": {"container": {"image": "none"}}}},
        "components": {"leaf": {"executorLabel": "exec"}},
        "root": {"dag": {"tasks": {"a": {
            "componentRef": {"name": "leaf"},
            "retryPolicy": {"maxRetryCount": 2, "backoffDuration": "10s"},
        }}}},
    }}))
    .unwrap();
    Arc::new(Plan::new(&file).unwrap())
}

fn start(past: Past, now: Timestamp) -> (Scheduler, Vec<Command>) {
    let limits = Limits { in_flight: 4, cache: false, lost: 2 };
    Scheduler::start(plan(), Arc::default(), Values::default(), past, limits, now)
}

#[test]
fn a_wait_is_from_now_whatever_an_attempt_says_of_its_end() {
    let now = Timestamp::from_millis(2 * HOUR);
    for ended in [HOUR, 2 * HOUR, 3 * HOUR] {
        let (mut scheduler, commands) = start(Past::default(), now);
        let launch = commands.iter().find_map(|command| match command {
            Command::Launch(launch) => Some(launch),
            _ => None,
        });
        let leaf = launch.unwrap().leaf;
        let ended_at = Timestamp::from_millis(ended);
        let outcome = Outcome::Failed(Failure::task("bad luck"));
        scheduler.step(now, Event::Ended { leaf, outcome, started_at: now, ended_at });
        assert_eq!(scheduler.next_tick(), Some(now.after(WAIT)));
    }
}

#[test]
fn after_a_restart_a_wait_is_never_longer_than_from_now() {
    let now = Timestamp::from_millis(2 * HOUR);
    for (ended, waits) in [(HOUR, None), (2 * HOUR - 4_000, Some(6)), (3 * HOUR, Some(10))] {
        let mut past = Past::default();
        let ended_at = Timestamp::from_millis(ended);
        let (task, error) = ("a".into(), "bad luck".into());
        past.add(JournalEvent::AttemptFailed {
            task,
            attempt: 1,
            started_at: ended_at,
            ended_at,
            error,
            lost: false,
            noted: None,
        });
        let (mut scheduler, _) = start(past, now);
        let due = scheduler.next_tick().map(|at| at.since(now).as_secs());
        assert_eq!(due.filter(|seconds| *seconds > 0), waits);
        let at = now.after(Duration::from_secs(waits.unwrap_or(0)));
        let launched = scheduler.step(at, Event::Tick).into_iter().any(|c| matches!(c, Command::Launch(_)));
        assert!(launched || waits.is_none());
    }
}

#[test]
fn lost_attempts_have_a_budget_of_their_own() {
    let now = Timestamp::from_millis(HOUR);
    let launched = |commands: Vec<Command>| {
        commands.into_iter().find_map(|command| match command {
            Command::Launch(launch) => Some((launch.leaf, launch.attempt)),
            _ => None,
        })
    };
    // Two attempts may be lost and two may fail, in whatever order; `x` is lost.
    for (fails, expected) in
        [("ff", 3), ("xfxf", 5), ("ffxx", 5), ("xxx", 3), ("xxff", 5), ("fff", 3), ("xffxf", 5)]
    {
        for restarts in [false, true] {
            let (mut scheduler, commands) = start(Past::default(), now);
            let (mut at, mut next, mut number) = (now, launched(commands), 0);
            let mut records = Vec::new();
            for how in fails.chars() {
                let Some((leaf, attempt)) = next else { break };
                number = attempt;
                let failure = if how == 'x' { Failure::lost("node gone") } else { Failure::task("bad luck") };
                let outcome = Outcome::Failed(failure);
                let ended = Event::Ended { leaf, outcome, started_at: at, ended_at: at };
                for command in scheduler.step(at, ended) {
                    if let Command::Record(record) = command {
                        records.push(JournalEvent::of(&record, None));
                    }
                }
                if restarts && scheduler.next_tick().is_some() {
                    let mut past = Past::default();
                    for record in &records {
                        past.add(serde_json::from_value(json!(record)).unwrap());
                    }
                    scheduler = start(past, at).0;
                }
                let Some(tick) = scheduler.next_tick() else {
                    next = None;
                    break;
                };
                at = tick;
                next = launched(scheduler.step(at, Event::Tick));
            }
            let attempts = next.map_or(number, |(_, attempt)| attempt);
            assert_eq!(attempts, expected, "{fails}, {restarts}");
        }
    }
}
