//! Runs that are cancelled, engines that are drained.

use kf_core::RunId;
use kf_core::metadata::RunState;
use kf_core::resources::{Capacity, Resources};
use kf_pipeline::prelude::*;
use kf_pipeline::{Error, TaskState};
use libtest_mimic::Trial;

use super::components::stand;
use super::{Stage, refused, says};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("cancel_ends_tasks_and_runs_the_exit_handler", cancel),
        test("a_second_cancel_ends_the_exit_handler", cancel_twice),
        test("cancel_of_what_waits_for_resources", cancel_waiting),
        test("drain_starts_nothing_and_loses_nothing", drain),
    ]
}

fn with_exit_handler() -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("cancelled", |p| {
        let body = p.add(stand("body", "never"));
        p.add(stand("after", "never").after(body));
        p.on_exit(stand("exit", "exit").named("exit"));
    })
}

async fn cancel() -> Done {
    let (home, stage) = (tempfile::tempdir()?, Stage::default());
    let engine = Engine::builder().state(stage.clone()).open(home.path()).await?;
    let run = engine.start(&with_exit_handler()?, args! {}).await?;
    stage.seen("start body", 1).await;
    run.cancel("enough").await;
    stage.seen("cancelled body", 1).await;
    stage.seen("start exit", 1).await;
    stage.open("exit");
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.error.as_deref()), (RunState::Canceled, Some("enough")));
    let report = engine.report(run.id()).await?;
    assert_eq!(report.task("exit").unwrap().state, TaskState::Succeeded);
    assert_eq!((stage.count("end exit"), stage.count("start after")), (1, 0));
    Ok(())
}

async fn cancel_twice() -> Done {
    let (home, stage) = (tempfile::tempdir()?, Stage::default());
    let engine = Engine::builder().state(stage.clone()).open(home.path()).await?;
    let run = engine.start(&with_exit_handler()?, args! {}).await?;
    stage.seen("start body", 1).await;
    run.cancel("enough").await;
    stage.seen("start exit", 1).await;
    run.cancel("really").await;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.error.as_deref()), (RunState::Canceled, Some("enough")));
    assert_eq!((stage.count("cancelled exit"), stage.count("end exit")), (1, 0));
    let report = engine.report(run.id()).await?;
    assert_eq!(report.task("exit").unwrap().state, TaskState::Canceled);
    Ok(())
}

fn two_that_take_turns(name: &str) -> kf_pipeline::Result<Pipeline> {
    Pipeline::build(name, |p| {
        p.add(stand("turn", "gate").cpu(1.0));
        p.add(stand("turn", "gate").cpu(1.0).named("other"));
    })
}

fn one_core(stage: &Stage) -> kf_pipeline::EngineBuilder {
    Engine::builder().state(stage.clone()).capacity(Capacity::new(Resources::none().cpu(1.0)))
}

async fn cancel_waiting() -> Done {
    let (home, stage) = (tempfile::tempdir()?, Stage::default());
    let engine = one_core(&stage).open(home.path()).await?;
    let run = engine.start(&two_that_take_turns("waits")?, args! {}).await?;
    stage.seen("start turn", 1).await;
    run.cancel("enough").await;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.tasks.canceled), (RunState::Canceled, 2));
    // The second may have got its turn for a moment, before it was its turn to be cancelled.
    assert_eq!((stage.count("start turn"), stage.count("end turn")), (stage.count("cancelled turn"), 0));
    // The resources are free again.
    stage.open("gate");
    let outcome = engine.start(&two_that_take_turns("again")?, args! {}).await?.wait().await?;
    assert_eq!((outcome.state, outcome.tasks.succeeded), (RunState::Succeeded, 2));
    Ok(())
}

async fn drain() -> Done {
    let (home, stage) = (tempfile::tempdir()?, Stage::default());
    let engine = one_core(&stage).open(home.path()).await?;
    let pipeline = two_that_take_turns("drained")?;
    let id: RunId = "drained".parse()?;
    let run = engine.start_with(&pipeline, args! {}, StartOptions::new().id(id.clone())).await?;
    stage.seen("start turn", 1).await;
    tokio::join!(engine.drain(), async { stage.open("gate") });
    // The one under way has ended, the one that waited has not begun.
    assert_eq!((stage.count("start turn"), stage.count("end turn")), (1, 1));
    says(Some(&refused(run.wait().await)), &["`drained`", "its engine was drained", "start it again"]);
    assert!(matches!(engine.start(&pipeline, args! {}).await, Err(Error::Draining)));
    assert_eq!(engine.run(&id).await?.unwrap().state, RunState::Running);
    let next = one_core(&stage).open(home.path()).await?;
    let outcome = next.start_with(&pipeline, args! {}, StartOptions::new().id(id)).await?.wait().await?;
    assert_eq!((outcome.state, outcome.tasks.succeeded), (RunState::Succeeded, 2));
    assert_eq!(stage.count("start turn"), 2);
    Ok(())
}
