//! What is refused before anything runs.

use kf_core::RunId;
use kf_core::metadata::{RunQuery, RunState};
use kf_core::resources::{Capacity, Resources};
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use super::components::{nothing, stand};
use super::{Stage, one, refused, says};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("arguments_that_do_not_fit", arguments),
        test("unknown_executor_and_too_many_resources", executor_and_resources),
        test("starting_twice_is_starting_once", twice),
    ]
}

async fn arguments() -> Done {
    let pipeline = Pipeline::build("arguments", |p| {
        let item = p.required_param::<i64>("item");
        p.param::<f64>("rate", 0.5);
        p.add(nothing(item));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    for (args, wanted) in [
        (args! {}, ["`item`", "no default"]),
        (args! {"item" => 1, "itme" => 2}, ["`itme`", "it has: item, rate"]),
        (args! {"item" => "one"}, ["`item`", "found \"one\""]),
        (args! {"item" => 1.5}, ["`item`", "found 1.5"]),
        (args! {"item" => 1, "rate" => f64::NAN}, ["`rate`", "NaN"]),
        (args! {"item" => 1, "rate" => f64::INFINITY}, ["`rate`", "infinit"]),
    ] {
        says(Some(&refused(engine.start(&pipeline, args).await)), &wanted);
    }
    assert_eq!(engine.runs(&RunQuery::default()).await?.items.len(), 0);
    Ok(())
}

async fn executor_and_resources() -> Done {
    let home = tempfile::tempdir()?;
    let capacity = Capacity::new(Resources::none().cpu(2.0));
    let engine = Engine::builder().capacity(capacity).open(home.path()).await?;
    let unknown = one!(nothing(1).executor("moon"))?;
    says(
        Some(&refused(engine.start(&unknown, args! {}).await)),
        &["`nothing`", "executor `moon`", "in-process, subprocess"],
    );
    let greedy = one!(nothing(1).cpu(64.0))?;
    says(Some(&refused(engine.start(&greedy, args! {}).await)), &["`nothing`", "cpu 64", "there is cpu 2"]);
    let greedy = one!(nothing(1).accelerator("nvidia.com/gpu", 1.0))?;
    says(Some(&refused(engine.start(&greedy, args! {}).await)), &["`nothing`", "nvidia.com/gpu 1"]);
    assert_eq!(engine.runs(&RunQuery::default()).await?.items.len(), 0);
    Ok(())
}

async fn twice() -> Done {
    let stage = Stage::default();
    let pipeline = Pipeline::build("twice", |p| {
        let gate = p.param::<String>("gate", "gate");
        p.add(stand("only", gate));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::builder().state(stage.clone()).open(home.path()).await?;
    let id: RunId = "once".parse()?;
    let start = |gate: &'static str| {
        engine.start_with(&pipeline, args! {"gate" => gate}, StartOptions::new().id(id.clone()))
    };
    let runs = futures::future::join_all((0..8).map(|_| start("gate"))).await;
    let runs = runs.into_iter().collect::<Result<Vec<_>, _>>()?;
    stage.seen("start only", 1).await;
    says(
        Some(&refused(start("other").await)),
        &["run `once` exists already", r#"{"gate":"gate"}"#, r#"{"gate":"other"}"#],
    );
    stage.open("gate");
    for run in runs {
        assert_eq!(run.wait().await?.state, RunState::Succeeded);
    }
    // Also when it has ended.
    assert_eq!(start("gate").await?.wait().await?.state, RunState::Succeeded);
    says(Some(&refused(start("other").await)), &["exists already"]);
    assert_eq!(stage.count("start only"), 1);
    Ok(())
}
