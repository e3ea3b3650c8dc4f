//! Tasks that panic, hang, or give what they should not.

use std::time::Duration;

use kf_core::metadata::RunState;
use kf_core::resources::{Capacity, Resources};
use kf_pipeline::TaskState;
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use super::components::{
    boom, boom_blocking, careless, forgetful, hangs, links_out, not_a_number, stand, wants_state,
};
use super::{Stage, end_of, one, says};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("tasks_that_panic", || async {
            fails(one!(boom()), &["`boom`", "panicked: boom of async"]).await?;
            fails(one!(boom_blocking()), &["boom-blocking", "panicked: boom"]).await
        }),
        test("a_task_that_gives_nan", || {
            fails(one!(not_a_number()), &["not-a-number", "output `Output`", "NaN"])
        }),
        test("a_task_that_gives_no_file", || {
            fails(one!(forgetful()), &["forgetful", "wrote nothing", "output `out`"])
        }),
        test("a_task_that_gives_a_link_to_what_is_not_its_own", || {
            fails(
                one!(links_out()),
                &["links-out", "output `out`", "leads to `/etc/", "outside of the attempt's folder"],
            )
        }),
        test("state_that_nobody_gave", || {
            fails(
                one!(wants_state()),
                &["wants-state", "alloc::vec::Vec<u8>", "add `.state(…)` where the engine is built"],
            )
        }),
        test("a_task_that_hangs_is_ended", hangs_async),
        test("a_task_that_hangs_and_blocks_keeps_its_resources", hangs_blocking),
    ]
}

async fn fails(pipeline: kf_pipeline::Result<Pipeline>, wanted: &[&str]) -> Done {
    let outcome = end_of(&pipeline?).await?;
    assert_eq!((outcome.state, outcome.tasks.failed), (RunState::Failed, 1), "{outcome:?}");
    says(outcome.error.as_deref(), wanted);
    Ok(())
}

async fn hangs_async() -> Done {
    let (home, stage) = (tempfile::tempdir()?, Stage::default());
    let grace = Duration::from_millis(100);
    let engine = Engine::builder().state(stage.clone()).grace(grace).open(home.path()).await?;
    let pipeline = one!(careless("never").timeout(Duration::from_millis(150)))?;
    let outcome = engine.start(&pipeline, args! {}).await?.wait().await?;
    assert_eq!(outcome.state, RunState::Failed);
    says(outcome.error.as_deref(), &["careless", "took longer than its timeout of 150ms"]);
    stage.seen("dropped careless", 1).await;
    Ok(())
}

async fn hangs_blocking() -> Done {
    let (home, stage) = (tempfile::tempdir()?, Stage::default());
    let capacity = Capacity::new(Resources::none().cpu(1.0));
    let engine = Engine::builder().state(stage.clone()).grace(Duration::from_millis(100)).capacity(capacity);
    let engine = engine.open(home.path()).await?;
    let hanging = Pipeline::build("hanging", |p| {
        p.add(hangs("gate").cpu(1.0).timeout(Duration::from_millis(150)));
    })?;
    let run = engine.start(&hanging, args! {}).await?;
    let outcome = run.wait().await?;
    assert_eq!(outcome.state, RunState::Failed);
    says(outcome.error.as_deref(), &["hangs", "took longer than its timeout of 150ms"]);

    // It still runs, and so nobody else gets its core.
    let other = Pipeline::build("other", |p| {
        p.add(stand("other", "gate").cpu(1.0));
    })?;
    let waits = engine.start(&other, args! {}).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((stage.count("end hangs"), stage.count("start other")), (0, 0));
    stage.open("gate");
    assert_eq!(waits.wait().await?.state, RunState::Succeeded);
    assert_eq!((stage.count("end hangs"), stage.count("end other")), (1, 1));
    // What it gave in the end changed nothing.
    let report = engine.report(run.id()).await?;
    assert_eq!(report.run.state, RunState::Failed);
    assert_eq!(report.task("hangs").unwrap().state, TaskState::Failed);
    Ok(())
}
