//! A database that goes away in the middle of runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kf_core::RunId;
use kf_core::metadata::{PostgresMetadata, PostgresOptions, RunState};
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use super::{postgres, small};
use crate::kill::judge::{Committed, check};
use crate::kill::witness;
use crate::{Done, test};

pub(super) fn tests() -> Vec<Trial> {
    vec![test("shared_runs_wait_for_a_database_or_stop", runs_wait_for_a_database_or_stop)]
}

async fn runs_wait_for_a_database_or_stop() -> Done {
    let Some(mut server) = tokio::task::block_in_place(postgres) else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let options = PostgresOptions::new(&server.url())?.patience(Duration::from_millis(700));
    let open = async |lease: Duration| -> Result<Engine, Box<dyn std::error::Error>> {
        let metadata = PostgresMetadata::open(options.clone()).await?;
        let engine = Engine::builder().metadata(Arc::new(metadata)).lease(lease);
        Ok(engine.open(folder.path().join("home")).await?)
    };
    let pipeline = small()?;
    let at = |round: i64| folder.path().join(format!("witness-{round}"));
    let start = async |engine: &Engine, round: i64| {
        let options = StartOptions::new().id(id(round));
        engine.start_with(&pipeline, args! {"witness" => at(round).display().to_string()}, options).await
    };
    let begun = async |round: i64| {
        while witness::read(&at(round), 0).is_ok_and(|lines| lines.len() < 6) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };

    // Away for less than the lease: the run waits, and goes on.
    let engine = open(Duration::from_secs(12)).await?;
    let run = start(&engine, 1).await?;
    begun(1).await;
    server.stop();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = Instant::now();
    assert!(engine.run(run.id()).await.is_err_and(|error| error.is_retryable()), "nobody is there to ask");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(tokio::time::timeout(Duration::from_millis(1), run.wait()).await.is_err(), "it waits");
    tokio::task::block_in_place(|| server.resume())?;
    let outcome = tokio::time::timeout(Duration::from_secs(30), run.wait()).await??;
    assert_eq!(outcome.state, RunState::Succeeded);
    let committed = Committed::read(engine.metadata().as_ref(), run.id()).await?;
    assert!(committed.ends.values().all(|ends| *ends == 1), "{committed:?}");

    // Away for longer: the run stops with an error that says why, and goes on when it is started again.
    let hasty = open(Duration::from_secs(2)).await?;
    let run = start(&hasty, 2).await?;
    begun(2).await;
    server.stop();
    let stopped = Instant::now();
    let error = tokio::time::timeout(Duration::from_secs(20), run.wait()).await?.unwrap_err().to_string();
    println!("stopped after {:?}: {error}", stopped.elapsed());
    assert!(stopped.elapsed() < Duration::from_secs(8), "{:?}", stopped.elapsed());
    assert!(error.contains("metadata store") && error.contains("start it again to go on"), "{error}");
    tokio::task::block_in_place(|| server.resume())?;
    let before = Committed::read(hasty.metadata().as_ref(), run.id()).await?;
    assert!(before.ends.len() < 20, "it had ended");
    let seen = witness::read(&at(2), 0)?.len();
    let again = loop {
        match start(&hasty, 2).await {
            Ok(run) => break run,
            // A connection that broke, or the lease of before, which nobody could give back.
            Err(error) => {
                assert!(error.is_retryable() && stopped.elapsed() < Duration::from_secs(30), "{error}")
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(again.wait().await?.state, RunState::Succeeded);
    check(&id(2), &witness::read(&at(2), seen)?, &before);
    let committed = Committed::read(hasty.metadata().as_ref(), run.id()).await?;
    assert!(committed.ends.values().all(|ends| *ends == 1), "{committed:?}");
    Ok(())
}

fn id(round: i64) -> RunId {
    format!("outage-{round}").parse().unwrap()
}
