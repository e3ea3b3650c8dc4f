//! One task, and ten in a row, beside the same pods made bare.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::pods::cluster::Namespace;
use benches::{Measured, Table};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kf_core::testing::servers::S3Server;
use kf_k8s::tasks::{PodExecutor, TaskOptions};
use kf_pipeline::prelude::*;
use kf_pipeline::{RunEvent, TaskState};
use kube::api::ListParams;

use super::{Asked, Outcome, bare, store};

const TURNS: usize = 30;
const CHAIN: usize = 10;
const CHAIN_TURNS: usize = 5;

#[component(cache = false)]
pub(crate) async fn nothing() {}

#[component(cache = false)]
pub(crate) async fn pass(number: i64) -> i64 {
    number
}

fn chain() -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("chain", |p| {
        let mut last = p.add(pass(0));
        for _ in 1..CHAIN {
            last = p.add(pass(last.output));
        }
    })
}

/// An engine whose pods stay for so long.
async fn engine(namespace: &Namespace, server: &S3Server, home: &Path, keep: Duration) -> Outcome<Engine> {
    let store = store::of_the_engine(server, &home.join("fetched"))?;
    let mut options = TaskOptions::new("");
    options.pod = namespace.pod_options();
    options.pod.secrets = vec![store::SECRET.into()];
    options.env = store::env(server);
    options.keep_finished = keep;
    let client = namespace.client.clone();
    let executor = Arc::new(PodExecutor::new(client, &namespace.name, store.clone(), options));
    let builder = Engine::builder().artifacts(store).default_executor(executor);
    Ok(builder.open(home.join("home")).await?)
}

/// From the start of a run's first task to the committed end of its last.
async fn ours(engine: &Engine, pipeline: &Pipeline) -> Outcome<Duration> {
    let run = engine.start(pipeline, args! {}).await?;
    let mut events = run.events();
    let (mut began, mut ended) = (None, None);
    while let Some(event) = events.next().await {
        match event {
            RunEvent::TaskStarted { .. } => _ = began.get_or_insert_with(Instant::now),
            RunEvent::TaskEnded { state: TaskState::Succeeded, .. } => ended = Some(Instant::now()),
            RunEvent::TaskEnded { task, error, .. } => {
                return Err(format!("task `{task}` did not succeed: {error:?}").into());
            }
            _ => {}
        }
    }
    run.wait().await?;
    let (began, ended) = began.zip(ended).ok_or("the run told of no task")?;
    Ok(ended.duration_since(began))
}

/// The pod of a task that does nothing.
async fn pod_of(namespace: &Namespace, server: &S3Server, one: &Pipeline) -> Outcome<Pod> {
    let home = tempfile::tempdir()?;
    let engine = engine(namespace, server, home.path(), Duration::from_secs(3600)).await?;
    ours(&engine, one).await?;
    let pods = namespace.pods();
    let made = pods.list(&ListParams::default().labels("kf.dev/run")).await?.items;
    let pod = made.first().ok_or("the task left no pod")?;
    pods.delete_collection(&bare::at_once(), &ListParams::default()).await?;
    Ok(bare::template(pod))
}

pub(crate) async fn measure(
    namespace: &Namespace,
    server: &S3Server,
    asked: &Asked,
    table: &mut Table,
) -> Outcome<()> {
    let (home, pods) = (tempfile::tempdir()?, namespace.pods());
    let (one, ten) = (Pipeline::build("one", |p| _ = p.add(nothing()))?, chain()?);
    let template = pod_of(namespace, server, &one).await?;
    let engine = engine(namespace, server, home.path(), Duration::ZERO).await?;
    let millis = |took: Duration| took.as_secs_f64() * 1e3;

    let (mut with_engine, mut alone) = (Vec::new(), Vec::new());
    // The first turn warms up.
    for turn in 0..=asked.turns(TURNS) {
        namespace.settle().await?;
        let bare = async || -> Outcome<f64> {
            Ok(millis(bare::to_completion(&pods, &template, format!("one-{turn}")).await?))
        };
        if turn % 2 == 0 {
            with_engine.push(millis(ours(&engine, &one).await?));
            namespace.settle().await?;
            alone.push(bare().await?);
        } else {
            alone.push(bare().await?);
            namespace.settle().await?;
            with_engine.push(millis(ours(&engine, &one).await?));
        }
    }
    let (with_engine, alone) = (with_engine.split_off(1), alone.split_off(1));
    let over = with_engine.iter().zip(&alone).map(|(ours, bare)| ours - bare).collect();
    let task = Measured::new("a task that does nothing, start to commit", "ms", with_engine);
    let pod = Measured::new("  its pod made bare, to its end", "ms", alone);
    let medians = task.median() - pod.median();
    table.add(Measured::new("overhead of a task, of each turn", "ms", over), None, "");
    table.add(Measured::new("overhead of a task, of the medians", "ms", vec![medians]), None, "≤ 100");
    table.add(task, Some(pod), "");

    let (mut chained, mut in_a_row) = (Vec::new(), Vec::new());
    for turn in 0..asked.turns(CHAIN_TURNS) {
        namespace.settle().await?;
        let bare = async || -> Outcome<f64> {
            let began = Instant::now();
            for at in 0..CHAIN {
                bare::to_completion(&pods, &template, format!("chain-{turn}-{at}")).await?;
            }
            Ok(began.elapsed().as_secs_f64())
        };
        if turn % 2 == 0 {
            chained.push(ours(&engine, &ten).await?.as_secs_f64());
            namespace.settle().await?;
            in_a_row.push(bare().await?);
        } else {
            in_a_row.push(bare().await?);
            namespace.settle().await?;
            chained.push(ours(&engine, &ten).await?.as_secs_f64());
        }
    }
    let row = Measured::new("  ten pods made bare, one after another", "s", in_a_row);
    table.add(Measured::new("a chain of ten tasks", "s", chained), Some(row), "ratio ≤ 1.05");
    table.note(
        "bare pods: the same image, command, variables and volumes, made by one request as `kubectl create` does (without \
         its own start), and watched until their container has ended; they go in the background on either side",
    );
    engine.drain().await;
    Ok(())
}
