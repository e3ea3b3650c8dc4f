//! An engine that is killed again and again, whose pods go on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kf_core::metadata::RunState;
use kf_core::worker::{ENTRY, Entry, REQUEST, Request, WorkerError, entry};
use kf_pipeline::{Pipeline, StartOptions, args};
use kube::{Client, Config};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::super::Given;
use super::components::{total, witnessed};
use super::witness::Witness;
use super::{store, trial};

const NAME: &str = "pods-engine";
const RUN: &str = "killed-again-and-again";
const TASKS: i64 = 60;
const KILLS: usize = 50;

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![trial(runtime, client, "fifty_kills_of_the_engine_start_nothing_twice", fifty_kills)]
}

/// What the engine's process is told.
#[derive(Serialize, Deserialize)]
struct Told {
    home: PathBuf,
    namespace: String,
    token: PathBuf,
    witness: SocketAddr,
    outcome: PathBuf,
}

pub(super) fn worker() -> impl Entry {
    entry(NAME, |request: Request| {
        let told: Told = request.parse()?;
        let runtime = Runtime::new().map_err(WorkerError::failed)?;
        runtime.block_on(run(told)).map_err(WorkerError::failed)
    })
}

async fn run(told: Told) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut config = Config::infer().await?;
    config.auth_info =
        kube::config::AuthInfo { token_file: Some(told.token.display().to_string()), ..Default::default() };
    let client = Client::try_from(config)?;
    let (builder, _) = super::builder(client, &told.namespace, &told.home, super::task_options());
    let engine = builder.open(&told.home).await?;
    let pipeline = Pipeline::build("killed", |p| {
        let numbers = p.param::<Vec<i64>>("numbers", (0..TASKS).collect::<Vec<_>>());
        let witness = told.witness.to_string();
        let each = p.parallel_for_limited(numbers, 6, |p, number| p.add(witnessed(number, witness, 4.0)));
        let sum = p.add(total(each.collect().output));
        p.output("total", sum.output);
    })?;
    let options = StartOptions::new().id(RUN.parse()?);
    let outcome = engine.start_with(&pipeline, args! {}, options).await?.wait().await?;
    let total = outcome.output::<i64>("total").ok();
    let text = serde_json::to_vec(&(outcome.state, outcome.error, total))?;
    std::fs::write(told.outcome.with_extension("part"), text)?;
    std::fs::rename(told.outcome.with_extension("part"), &told.outcome)?;
    Ok(())
}

async fn fifty_kills(given: Given) {
    store::give_keys(&given).await;
    let folder = tempfile::tempdir().unwrap();
    let witness = Witness::listen(&given).await;
    let token = folder.path().join("token");
    std::fs::write(&token, super::super::cluster::token(&given.admin, &given.namespace, "kf-engine").await)
        .unwrap();
    let told = Told {
        home: folder.path().join("home"),
        namespace: given.namespace.clone(),
        token,
        witness: witness.address(),
        outcome: folder.path().join("outcome"),
    };
    let request = folder.path().join("request.json");
    std::fs::write(&request, serde_json::to_vec(&told).unwrap()).unwrap();
    let start = || -> Child {
        Command::new(std::env::current_exe().unwrap())
            .env(ENTRY, NAME)
            .env(REQUEST, &request)
            .envs(store::env(&given.namespace))
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    };
    let (mut kills, mut under_way) = (0, 0);
    // From hardly begun to well under way.
    for round in 0..KILLS {
        let mut engine = start();
        tokio::time::sleep(Duration::from_millis(150 + 37 * (round as u64 * 7 % 23))).await;
        assert!(engine.try_wait().unwrap().is_none(), "round {round}: the engine has ended by itself");
        let pods = super::runs::pods_of(&given, RUN).await.len();
        engine.kill().unwrap();
        engine.wait().unwrap();
        (kills, under_way) = (kills + 1, under_way + usize::from(pods > 0));
    }
    let mut engine = start();
    let began = Instant::now();
    while engine.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(180), "the run does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let outcome: (RunState, Option<String>, Option<i64>) =
        serde_json::from_slice(&std::fs::read(&told.outcome).unwrap()).unwrap();
    assert_eq!(outcome, (RunState::Succeeded, None, Some((0..TASKS).sum())));
    let seen = witness.seen();
    assert_eq!(seen.len(), usize::try_from(TASKS).unwrap(), "{seen:?}");
    assert!(seen.iter().all(|(attempt, times)| *times == 1 && attempt.ends_with(" 1")), "{seen:?}");
    println!("{kills} kills, {under_way} of them with pods under way");
    assert!(under_way >= kills / 2);
    assert!(super::runs::pods_of(&given, RUN).await.is_empty());
}
