//! Several engines on one home, engines that are dropped, homes that can't be used.

use std::time::Duration;

use kf_core::RunId;
use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use super::components::stand;
use super::{Stage, refused, says};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![test("a_home_from_a_newer_version", newer_home), test("two_engines_on_one_home", two_engines)]
}

async fn newer_home() -> Done {
    let home = tempfile::tempdir()?;
    drop(Engine::open(home.path()).await?);
    std::fs::write(home.path().join("VERSION"), "99\n")?;
    let problem = refused(Engine::open(home.path()).await);
    let path = home.path().canonicalize()?.display().to_string();
    says(Some(&problem), &[&path, "99", "use the newer version"]);
    assert_eq!(std::fs::read_to_string(home.path().join("VERSION"))?, "99\n");
    Ok(())
}

async fn two_engines() -> Done {
    let stage = Stage::default();
    let pipeline = Pipeline::build("two-engines", |p| {
        let first = p.add(stand("first", "open"));
        p.add(stand("second", "gate").named("second").after(first));
    })?;
    let other = Pipeline::build("other", |p| {
        p.add(stand("other", "open"));
    })?;
    let home = tempfile::tempdir()?;
    let open = || Engine::builder().state(stage.clone()).open(home.path());
    let (one, two) = (open().await?, open().await?);
    let id: RunId = "shared".parse()?;
    let options = || StartOptions::new().id(id.clone());
    let run = one.start_with(&pipeline, args! {}, options()).await?;
    stage.open("open");
    stage.seen("start second", 1).await;

    // Another run is nobody's business.
    assert_eq!(two.start(&other, args! {}).await?.wait().await?.state, RunState::Succeeded);
    // This one has its engine.
    let held = two.start_with(&pipeline, args! {}, options()).await.unwrap_err();
    assert!(held.is_retryable());
    let process = std::process::id().to_string();
    says(Some(&held.to_string()), &["run `shared` is held by", &process, "wait for it to end, or stop it"]);
    // The first engine goes; its task goes with it, and the second engine goes on.
    drop(one);
    says(Some(&refused(run.wait().await)), &["`shared`", "its engine was dropped", "start it again"]);
    stage.seen("dropped second", 1).await;
    assert_eq!(stage.count("end second"), 0);
    stage.open("gate");
    let run = tokio::time::timeout(Duration::from_secs(60), two.start_with(&pipeline, args! {}, options()))
        .await??;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.tasks.succeeded), (RunState::Succeeded, 2));
    assert_eq!((stage.count("start first"), stage.count("start second")), (1, 2));
    // Whoever asks for it now finds it ended.
    let again = two.start_with(&pipeline, args! {}, options()).await?.wait().await?;
    assert_eq!(again, outcome);
    Ok(())
}
