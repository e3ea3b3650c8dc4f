//! What listeners are told, and what can be asked.

use std::collections::BTreeSet;

use futures::StreamExt;
use kf_core::metadata::{RunQuery, RunState};
use kf_pipeline::prelude::*;
use kf_pipeline::{RunEvent, TaskState};
use libtest_mimic::Trial;

use super::components::{nothing, stand};
use super::{Stage, one};
use crate::components::flaky;
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("listeners_hear_every_end_and_the_runs_last", every_end),
        test("a_slow_listener_is_told_what_it_missed", slow),
        test("runs_can_be_listed", list),
    ]
}

async fn every_end() -> Done {
    let (home, stage) = (tempfile::tempdir()?, Stage::default());
    let engine = Engine::builder().state(stage.clone()).open(home.path()).await?;
    let pipeline = Pipeline::build("heard", |p| {
        let first = p.add(stand("first", "gate"));
        p.add(flaky().after(first));
        let _ = p.parallel_for((0..20).collect::<Vec<i64>>(), |p, item| p.add(nothing(item)));
    })?;
    let run = engine.start(&pipeline, args! {}).await?;
    let events = run.events();
    stage.open("gate");
    let events: Vec<RunEvent> = events.collect().await;
    assert!(matches!(events.last(), Some(RunEvent::RunEnded { state: RunState::Succeeded, error: None })));
    let report = engine.report(run.id()).await?;
    let ended = |state: TaskState| -> BTreeSet<String> {
        let tasks = events.iter().filter_map(|event| match event {
            RunEvent::TaskEnded { task, state: found, .. } if *found == state => Some(task.to_string()),
            _ => None,
        });
        tasks.collect()
    };
    // The loop may have begun before anybody listened; the first task has not ended by then.
    let leaves = |path: &str| !path.contains("for-loop");
    let reported: BTreeSet<String> = report.tasks.iter().map(|task| task.path.clone()).collect();
    let missing: Vec<_> =
        reported.difference(&ended(TaskState::Succeeded)).filter(|path| leaves(path)).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
    let retries = events.iter().filter(|event| matches!(event, RunEvent::AttemptFailed { .. })).count();
    assert_eq!(retries, 2);
    // A run that has ended tells nothing more.
    assert_eq!(run.events().count().await, 0);
    Ok(())
}

async fn slow() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let pipeline = Pipeline::build("many", |p| {
        let _ = p.parallel_for((0..2000).collect::<Vec<i64>>(), |p, item| p.add(nothing(item)));
    })?;
    let run = engine.start(&pipeline, args! {}).await?;
    let events = run.events();
    run.wait().await?;
    let events: Vec<RunEvent> = events.collect().await;
    assert!(matches!(events.first(), Some(RunEvent::Missed(missed)) if *missed > 0), "{:?}", events.first());
    assert!(matches!(events.last(), Some(RunEvent::RunEnded { .. })));
    assert!(events.len() <= 1025, "{}", events.len());
    Ok(())
}

async fn list() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let good = one!(nothing(1))?;
    let bad = Pipeline::build("bad", |p| {
        p.add(crate::components::fail("no way"));
    })?;
    let mut ids = Vec::new();
    for pipeline in [&good, &bad, &good] {
        let run = engine.start(pipeline, args! {}).await?;
        run.wait().await?;
        ids.push(run.id().clone());
    }
    let list = async |query: RunQuery| -> kf_pipeline::Result<Vec<_>> {
        Ok(engine.runs(&query).await?.items.into_iter().map(|run| run.id).collect())
    };
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    assert_eq!(list(RunQuery::default()).await?, newest_first);
    assert_eq!(
        list(RunQuery { pipeline: Some("bad".into()), ..RunQuery::default() }).await?,
        [ids[1].clone()]
    );
    assert_eq!(
        list(RunQuery { state: Some(RunState::Failed), ..RunQuery::default() }).await?,
        [ids[1].clone()]
    );
    let page = engine.runs(&RunQuery { limit: 2, ..RunQuery::default() }).await?;
    assert_eq!(page.items.len(), 2);
    assert_eq!(list(RunQuery { after: page.next, ..RunQuery::default() }).await?, [ids[0].clone()]);
    let run = engine.run(&ids[1]).await?.unwrap();
    assert_eq!((run.pipeline.as_str(), run.state), ("bad", RunState::Failed));
    assert!(engine.run(&"nobody".parse()?).await?.is_none());
    Ok(())
}
