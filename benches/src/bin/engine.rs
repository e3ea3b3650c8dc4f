//! What the engine costs a task: tasks that do nothing, in process, cache off, each end committed to SQLite; beside
//! Dask's threaded scheduler, which keeps nothing.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use benches::{Measured, Table};
use kf_pipeline::prelude::*;
use serde_json::Value as Json;

const RUNS: usize = 5;
const TASKS: usize = 10_000;
const ITERATIONS: usize = 100_000;

#[component(cache = false)]
async fn nothing() {}

#[component(cache = false)]
async fn pass(number: i64) -> i64 {
    number
}

fn fan_out() -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("fan-out", |p| {
        for _ in 0..TASKS {
            p.add(nothing());
        }
    })
}

fn chain() -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("chain", |p| {
        let mut last = p.add(pass(0));
        for _ in 1..TASKS {
            last = p.add(pass(last.output));
        }
    })
}

fn wide_loop() -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("wide-loop", |p| {
        let items: Vec<i64> = (0..ITERATIONS as i64).collect();
        let _ = p.parallel_for(items, |p, item| p.add(pass(item)));
    })
}

/// Microseconds a task of each run, the pipeline being built and the engine open.
async fn measure(
    pipeline: &Pipeline,
    tasks: usize,
    eager: bool,
    runs: usize,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let builder = Engine::builder();
    let builder = if eager { builder.start_before_commit() } else { builder };
    let engine = builder.open(home.path()).await?;
    let mut figures = Vec::new();
    for _ in 0..=runs {
        let began = Instant::now();
        let outcome = engine.start(pipeline, args! {}).await?.wait().await?;
        let micros = began.elapsed().as_secs_f64() * 1e6 / tasks as f64;
        if outcome.tasks.succeeded != tasks as u64 {
            return Err(format!("not all tasks succeeded: {outcome:?}").into());
        }
        figures.push(micros);
    }
    // The first run warms up.
    Ok(figures.split_off(1))
}

/// The peer's figures, where there is a Python that has it.
fn dask() -> Option<Json> {
    let python = std::env::var("KF_TEST_PYTHON").ok()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/dask_fanout.py");
    let output = std::process::Command::new(python).arg(script).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn peer(dask: Option<&Json>, shape: &str) -> Option<Measured> {
    let seconds = dask?[shape]["seconds"].as_array()?;
    let micros = seconds.iter().filter_map(Json::as_f64).map(|seconds| seconds * 1e6 / TASKS as f64);
    Some(Measured::new(format!("  Dask threaded, {shape}"), "µs/task", micros.collect()))
}

/// The most memory that this process ever held, in MB.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1000.0)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|argument| argument == "--wide-loop") {
        let micros = measure(&wide_loop()?, ITERATIONS, false, 0).await;
        let _ = micros?;
        println!("{}", peak_memory().ok_or("no /proc/self/status")?);
        return Ok(());
    }
    // A row alone, quickly: those whose names hold what is given, without the peer.
    let only = std::env::args().nth(1);
    let asked = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    let dask = if only.is_some() { None } else { dask() };
    let mut table = Table::default();
    let (wide, long) = (fan_out()?, chain()?);
    let rows = [
        ("fan-out of 10,000, group commit", &wide, false, "fan_out", "≤ 20"),
        ("chain of 10,000, commit before next start", &long, false, "chain", "≤ 150"),
        ("chain of 10,000, start_before_commit", &long, true, "chain", "≤ 20"),
    ];
    for (name, pipeline, eager, shape, target) in rows.into_iter().filter(|(name, ..)| asked(name)) {
        let figures = measure(pipeline, TASKS, eager, RUNS).await?;
        table.add(Measured::new(name, "µs/task", figures), peer(dask.as_ref(), shape), target);
    }
    let name = "loop of 100,000 iterations, peak memory";
    if asked(name) {
        // In a process of its own, so that what ran before doesn't count.
        let mut memory = Vec::new();
        for _ in 0..RUNS {
            let output = std::process::Command::new(std::env::current_exe()?).arg("--wide-loop").output()?;
            memory.push(String::from_utf8_lossy(&output.stdout).trim().parse::<f64>()?);
        }
        table.add(Measured::new(name, "MB", memory), None, "< 200");
    }
    match &dask {
        Some(dask) => table.note(format!(
            "kf-pipeline {}; Dask {} on Python {}, {} workers",
            env!("CARGO_PKG_VERSION"),
            dask["dask"],
            dask["python"],
            dask["workers"]
        )),
        None if only.is_some() => {}
        None => table.note("without Dask: no Python at KF_TEST_PYTHON that has it"),
    }
    table.print();
    Ok(())
}
