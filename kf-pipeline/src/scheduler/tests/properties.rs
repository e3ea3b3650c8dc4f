//! What holds for every pipeline, however its tasks end and whenever the engine dies, drains or is asked to cancel.
//! `KF_LONG=1` tries more of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kf_core::metadata::RunState;
use proptest::prelude::*;

use super::pipelines::{Pipeline, pipelines};
use super::world::{Check, Ended, Journal, Script, World};
use crate::TaskState;
use crate::plan::Plan;

/// Cases for each property; there are four.
fn config() -> ProptestConfig {
    let cases = if std::env::var_os("KF_LONG").is_some() { 15_000 } else { 600 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn world(pipeline: &Pipeline, seed: u64, in_flight: usize) -> World {
    let file = pipeline.file();
    let plan = Arc::new(Plan::new(&file).unwrap());
    World { file, plan, seed, in_flight }
}

type Ends = BTreeMap<String, Ended>;

/// A run that nothing interrupts: its state, how its tasks ended, how many records it wrote, how long it took.
fn undisturbed(world: &World) -> Check<(RunState, Ends, usize, i64)> {
    let (mut journal, mut clock) = (Journal::default(), 0);
    let state = world.live(&mut journal, &mut clock, Script::default())?.ok_or("no end")?;
    let records = journal.len();
    Ok((state, journal.ends, records, clock))
}

fn check_exit_handler(pipeline: &Pipeline, journal: &Journal) -> Check {
    if !pipeline.has_exit_handler() {
        return Ok(());
    }
    match journal.ends.get("exit") {
        Some(end) if end.leaf || journal.cancels > 1 => Ok(()),
        found => Err(format!("the exit handler did not run: {found:?}")),
    }
}

fn holds(check: Check) -> Result<(), TestCaseError> {
    check.map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_run_ends(pipeline in pipelines(), seed: u64, in_flight in 1_usize..6) {
        let world = world(&pipeline, seed, in_flight);
        let run = || {
            let (mut journal, mut clock) = (Journal::default(), 0);
            let state = world.live(&mut journal, &mut clock, Script::default())?.ok_or("no end")?;
            check_exit_handler(&pipeline, &journal)?;
            let failed = journal.ends.values().any(|end| end.state == TaskState::Failed);
            if failed != (state == RunState::Failed) {
                return Err(format!("the run is {state:?}, with {:?}", journal.ends));
            }
            Ok(())
        };
        holds(run())?;
    }

    #[test]
    fn a_run_that_was_killed_ends_as_if_it_was_not(
        pipeline in pipelines(), seed: u64, in_flight in 1_usize..6, cuts in prop::collection::vec(any::<u16>(), 1..4),
    ) {
        let world = world(&pipeline, seed, in_flight);
        let run = || {
            let (state, ends, records, _) = undisturbed(&world)?;
            let (mut journal, mut clock) = (Journal::default(), 0);
            let mut found = None;
            for cut in &cuts {
                let left = records.saturating_sub(journal.len());
                // 0 is the moment before the first record.
                let crash_after = if left == 0 { 0 } else { usize::from(*cut) % left };
                if crash_after > 0 {
                    let script = Script { crash_after: Some(crash_after), ..Script::default() };
                    found = world.live(&mut journal, &mut clock, script)?;
                }
                clock += i64::from(*cut % 30);
            }
            if found.is_none() {
                found = world.live(&mut journal, &mut clock, Script::default())?;
            }
            same(&(Some(state), ends), &(found, journal.ends))
        };
        holds(run())?;
    }

    #[test]
    fn a_run_that_was_drained_goes_on(
        pipeline in pipelines(), seed: u64, in_flight in 1_usize..6, at in 0_f64..1.0,
    ) {
        let world = world(&pipeline, seed, in_flight);
        let run = || {
            let (state, ends, _, took) = undisturbed(&world)?;
            let (mut journal, mut clock) = (Journal::default(), 0);
            let pause_at = Some((took as f64 * at) as i64);
            let mut found = world.live(&mut journal, &mut clock, Script { pause_at, ..Script::default() })?;
            if found.is_none() {
                found = world.live(&mut journal, &mut clock, Script::default())?;
            }
            same(&(Some(state), ends), &(found, journal.ends))
        };
        holds(run())?;
    }

    #[test]
    fn a_run_that_was_cancelled_ends_and_stays_so(
        pipeline in pipelines(), seed: u64, in_flight in 1_usize..6, at in 0_f64..1.0, again in option(0_i64..40),
        cut: u16,
    ) {
        let world = world(&pipeline, seed, in_flight);
        let run = || {
            let (_, _, _, took) = undisturbed(&world)?;
            let first = (took as f64 * at) as i64;
            let cancels = [Some(first), again.map(|wait| first + wait)].into_iter().flatten().collect();
            let script = Script { cancels, ..Script::default() };
            let (mut journal, mut clock) = (Journal::default(), 0);
            let state = world.live(&mut journal, &mut clock, script.clone())?.ok_or("no end")?;
            check_exit_handler(&pipeline, &journal)?;
            if (journal.cancels > 0) != (state == RunState::Canceled) && !killed(&journal) {
                return Err(format!("the run is {state:?}, cancelled {} times", journal.cancels));
            }
            let (records, ends) = (journal.len(), journal.ends);

            // The same with a death after the cancellation.
            let (mut journal, mut clock) = (Journal::default(), 0);
            let crash_after = Some(1 + usize::from(cut) % records.max(1));
            let script = Script { crash_after, ..script };
            let mut found = world.live(&mut journal, &mut clock, script)?;
            let (asked, before) = (journal.cancels, journal.ends.clone());
            if found.is_none() {
                found = world.live(&mut journal, &mut clock, Script::default())?;
            }
            check_exit_handler(&pipeline, &journal)?;
            if asked > 0 && found != Some(RunState::Canceled) {
                return Err(format!("cancelled {asked} times, the restarted run is {found:?}"));
            }
            for (task, end) in &before {
                if journal.ends.get(task) != Some(end) {
                    return Err(format!("{task} was {end:?} and is {:?}", journal.ends.get(task)));
                }
            }
            // What ended by itself, both times, ended alike; what an exit handler was told may differ.
            let own = |ends: &Ends, task: &str| {
                ends.get(task).filter(|end| end.leaf && end.state != TaskState::Canceled).map(|end| end.state)
            };
            for task in ends.keys().filter(|_| asked > 0 && again.is_none()) {
                if let (Some(one), Some(other)) = (own(&ends, task), own(&journal.ends, task))
                    && one != other
                {
                    return Err(format!("{task} was {one:?} and is {other:?}"));
                }
            }
            Ok(())
        };
        holds(run())?;
    }
}

fn option(values: impl Strategy<Value = i64>) -> impl Strategy<Value = Option<i64>> {
    prop::option::of(values)
}

fn killed(journal: &Journal) -> bool {
    journal.ends.values().any(|end| end.state == TaskState::Canceled)
}

fn same(expected: &(Option<RunState>, Ends), found: &(Option<RunState>, Ends)) -> Check {
    if expected.0 != found.0 {
        return Err(format!("expected the run to be {:?}, found {:?}", expected.0, found.0));
    }
    for (task, end) in &expected.1 {
        if found.1.get(task) != Some(end) {
            return Err(format!("{task}: expected {end:?}, found {:?}", found.1.get(task)));
        }
    }
    match found.1.keys().find(|task| !expected.1.contains_key(*task)) {
        Some(task) => Err(format!("{task} is too many: {:?}", found.1[task])),
        None => Ok(()),
    }
}
