//! Thousands of tasks on simulated nodes, beside a plain loop that makes the same pods: each turn in a process of its own.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::pods::cluster::Namespace;
use benches::{Measured, Table};
use k8s_openapi::api::core::v1::Pod;
use kf_core::artifact::ArtifactStore;
use kf_core::worker::{ENTRY, Entry, REQUEST, Request, WorkerError, entry};
use kf_k8s::tasks::{PodExecutor, TaskOptions};
use kf_k8s::train::PodOptions;
use kf_pipeline::prelude::*;
use kube::api::ListParams;
use kube::client::ClientBuilder;
use kube::{Api, Client, Config};
use serde::{Deserialize, Serialize};

use super::count::{Counter, Counts, writes};
use super::process::Taken;
use super::{Asked, Outcome, bare, simulated};

const NODES: usize = 1000;
const TASKS: usize = 5000;
const TURNS: usize = 3;
/// The reply of a task that gives nothing.
const REPLY: &str = r#"{"here":{"succeeded":{"parameters":{},"artifacts":{}}}}"#;
const NAME: &str = "kf-bench-thousands";
/// More than is ever under way, or sent.
const NO_LIMIT: usize = 1_000_000;

#[component(cache = false)]
async fn take(number: i64) {
    let _ = number;
}

/// What the process of a turn is told.
#[derive(Serialize, Deserialize)]
struct Turn {
    namespace: String,
    tasks: usize,
    /// The pod that the plain loop makes; the engine makes its own.
    bare: Option<Pod>,
}

/// What it measured.
#[derive(Serialize, Deserialize)]
struct Told {
    /// From the start to the end of all.
    seconds: f64,
    /// Of processor time, meanwhile.
    cpu: f64,
    /// By how much memory grew at most, in MB.
    grown: f64,
    /// Until the last pod was gone.
    requests: Counts,
}

/// The process of a turn.
pub(crate) fn worker() -> impl Entry {
    entry(NAME, |request: Request| {
        let turn: Turn = request.parse()?;
        std::thread::spawn(|| {
            // Open as long as whoever has started this is there.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(1);
        });
        let runtime = tokio::runtime::Runtime::new().map_err(WorkerError::failed)?;
        let told = runtime.block_on(turn.take());
        let told = told.and_then(|told| Ok(serde_json::to_string(&told)?)).map_err(WorkerError::failed)?;
        println!("{told}");
        Ok(())
    })
}

fn pod_options() -> PodOptions {
    // Nothing runs on simulated nodes.
    let mut options = PodOptions::new("kf.local/none:1");
    options.service_account = Some("kf-task".into());
    simulated::send(&mut options);
    options
}

async fn engine(client: Client, namespace: &str, home: &Path, keep: Duration) -> Outcome<Engine> {
    let store = ArtifactStore::local(home.join("store"))?;
    let mut options = TaskOptions::new("");
    // Simulated nodes have none.
    options.keep_logs = false;
    options.pod = pod_options();
    options.keep_finished = keep;
    options.writes_per_second = u32::MAX;
    let executor = Arc::new(PodExecutor::new(client, namespace, store.clone(), options));
    let builder = Engine::builder().artifacts(store).default_executor(executor).max_tasks(NO_LIMIT);
    Ok(builder.open(home.join("home")).await?)
}

fn tasks(count: usize) -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("tasks", |p| {
        let numbers: Vec<i64> = (0..count as i64).collect();
        let _ = p.parallel_for(numbers, |p, number| p.add(take(number)));
    })
}

async fn run(engine: &Engine, count: usize) -> Outcome<()> {
    let outcome = engine.start(&tasks(count)?, args! {}).await?.wait().await?;
    match outcome.tasks.succeeded == count as u64 {
        true => Ok(()),
        false => Err(format!("not all tasks succeeded: {outcome:?}").into()),
    }
}

impl Turn {
    async fn take(&self) -> Outcome<Told> {
        let counter = Counter::default();
        let config = Config::infer().await?;
        let client = ClientBuilder::try_from(config)?.with_layer(&counter).build();
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let home = tempfile::tempdir()?;
        let engine = engine(client, &self.namespace, home.path(), Duration::ZERO).await?;
        if self.bare.is_none() {
            // Connections, the watch, the database.
            run(&engine, 1).await?;
        }
        let (before, asked, began) = (Taken::now()?, counter.counts(), Instant::now());
        match &self.bare {
            None => run(&engine, self.tasks).await?,
            Some(template) => bare::many(&pods, template, self.tasks).await?,
        }
        let (seconds, after) = (began.elapsed().as_secs_f64(), Taken::now()?);
        // Looked for by a client of its own, so that this counts for nothing.
        let apart: Api<Pod> = Api::namespaced(Client::try_default().await?, &self.namespace);
        while !apart.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut requests = counter.counts();
        for (what, count) in &mut requests {
            *count -= asked.get(what).copied().unwrap_or(0);
        }
        requests.retain(|_, count| *count > 0);
        Ok(Told { seconds, cpu: after.cpu - before.cpu, grown: after.peak - before.held, requests })
    }

    async fn in_a_process(&self) -> Outcome<Told> {
        let request = tempfile::NamedTempFile::new()?;
        std::fs::write(request.path(), serde_json::to_vec(self)?)?;
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.env(ENTRY, NAME).env(REQUEST, request.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn()?;
        let _open = process.stdin.take();
        let output = process.wait_with_output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).map_err(|error| format!("a turn gave {text:?}: {error}").into())
    }
}

/// The pod that the engine makes of such a task.
async fn template(namespace: &Namespace) -> Outcome<Pod> {
    let home = tempfile::tempdir()?;
    let hour = Duration::from_secs(3600);
    let engine = engine(namespace.client.clone(), &namespace.name, home.path(), hour).await?;
    run(&engine, 1).await?;
    let pods = namespace.pods();
    let made = pods.list(&ListParams::default()).await?.items;
    let template = bare::template(made.first().ok_or("the task left no pod")?);
    pods.delete_collection(&bare::at_once(), &ListParams::default()).await?;
    Ok(template)
}

pub(crate) async fn measure(namespace: &Namespace, asked: &Asked, table: &mut Table) -> Outcome<()> {
    if let Err(why) = simulated::played(&namespace.client).await {
        table.note(format!("without thousands of tasks: {why}"));
        return Ok(());
    }
    namespace.settle().await?;
    simulated::start(&namespace.client, NODES, REPLY).await?;
    Box::pin(turns(namespace, asked, table)).await?;
    simulated::stop(&namespace.client).await
}

async fn turns(namespace: &Namespace, asked: &Asked, table: &mut Table) -> Outcome<()> {
    let template = template(namespace).await?;
    let (most, least) = asked.tasks(TASKS);
    let (mut few, mut many, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..asked.turns(TURNS) {
        let mut sides = [(least, None), (most, None), (most, Some(template.clone()))];
        if turn % 2 == 1 {
            sides.reverse();
        }
        for (tasks, bare) in sides {
            namespace.settle().await?;
            let of = match bare {
                Some(_) => &mut plain,
                None if tasks == least => &mut few,
                None => &mut many,
            };
            of.push(Turn { namespace: namespace.name.clone(), tasks, bare }.in_a_process().await?);
        }
    }
    let each = |turns: &[Told], of: &dyn Fn(&Told) -> f64| turns.iter().map(of).collect::<Vec<_>>();
    let wall = |name: &str, turns: &[Told], tasks: usize| {
        Measured::new(name, "ms/task", each(turns, &|told| told.seconds * 1e3 / tasks as f64))
    };
    let cpu = |name: &str, turns: &[Told], tasks: usize| {
        Measured::new(name, "µs/task", each(turns, &|told| told.cpu * 1e6 / tasks as f64))
    };
    let rate = |name: &str, turns: &[Told]| {
        Measured::new(name, "1/s", each(turns, &|told| most as f64 / told.seconds))
    };
    let written = each(&many, &|told| writes(&told.requests) as f64 / most as f64);
    table.add(
        Measured::new(format!("API writes of {most} tasks on {NODES} nodes"), "1/task", written),
        None,
        "≤ 4",
    );
    table.add(
        rate(&format!("{most} tasks on {NODES} nodes"), &many),
        Some(rate("  a plain loop that makes the same pods", &plain)),
        "",
    );
    let grown = each(&many, &|told| told.grown);
    table.add(
        Measured::new(format!("memory that {most} tasks take in the engine"), "MB", grown),
        None,
        "≤ 100",
    );
    table.add(
        wall(&format!("time of a task, of {most}"), &many, most),
        Some(wall(&format!("  of {least}"), &few, least)),
        "ratio ≤ 1.2",
    );
    table.add(
        cpu(&format!("the engine's processor time of a task, of {most}"), &many, most),
        Some(cpu(&format!("  of {least}"), &few, least)),
        "ratio ≤ 1.2",
    );
    table.add(cpu("the plain loop's processor time of a pod", &plain, most), None, "");
    for (name, turns) in [("engine", &many), ("plain loop", &plain)] {
        if let Some(told) = turns.last() {
            let each: BTreeMap<_, _> = told
                .requests
                .iter()
                .map(|(what, count)| (what, format!("{:.3}", *count as f64 / most as f64)))
                .collect();
            let each: Vec<_> = each.iter().map(|(what, count)| format!("{what} {count}")).collect();
            table.note(format!("requests a task, {name}: {}", each.join(", ")));
        }
    }
    table.note("simulated nodes run nothing: KWOK lets each pod run, and at once end with an empty reply");
    Ok(())
}
