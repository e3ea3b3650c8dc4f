//! What a Python step costs: lightweight components that do nothing, forked from a server that has KFP imported, each
//! end committed; eight sleeps of 2 s in a loop; and reading the IR of 1,000 tasks. Beside `kfp.local`, whose steps are
//! interpreters of their own.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use benches::{Measured, Table};
use kf_core::worker::{Workers, run_if_asked};
use kf_pipeline::{Args, Components, Engine, LocalContainers, Pipeline, Runner};
use serde_json::{Map, Value as Json, json};

const RUNS: usize = 5;
const STEPS: usize = 50;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match run_if_asked(&Workers::new()) {
        Some(code) => Ok(code),
        None => measure().map(|()| ExitCode::SUCCESS),
    }
}

/// A lightweight component as the compiler writes it.
fn lightweight(source: &str) -> Json {
    let install = "python3 -m pip install --quiet 'kfp==2.14.3' '--no-deps' && \"$0\" \"$@\"";
    let run = "program_path=$(mktemp -d)\n\nprintf \"%s\" \"$0\" > \"$program_path/ephemeral_component.py\"\n\
               _KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path \
               \"$program_path/ephemeral_component.py\" \"$@\"\n";
    json!({"container": {
        "image": "python:3.11",
        "command": ["sh", "-c", install, "sh", "-ec", run, format!("import kfp\nfrom kfp.dsl import *\n\n{source}")],
        "args": ["--executor_input", "{{$}}", "--function_to_execute", "f"],
    }})
}

/// So many tasks one after another.
fn chain(tasks: usize) -> String {
    let mut all = Map::new();
    for task in 0..tasks {
        let after: Vec<String> = (0..task).rev().take(1).map(|before| format!("step-{before}")).collect();
        all.insert(
            format!("step-{task}"),
            json!({"componentRef": {"name": "nothing"}, "dependentTasks": after}),
        );
    }
    json!({
        "pipelineInfo": {"name": "steps"},
        "deploymentSpec": {"executors": {"exec": lightweight("def f():\n    pass\n")}},
        "components": {"nothing": {"executorLabel": "exec"}},
        "root": {"dag": {"tasks": all}},
    })
    .to_string()
}

fn sleeps() -> String {
    json!({
        "pipelineInfo": {"name": "sleeps"},
        "deploymentSpec": {"executors": {"exec": lightweight("import time\ndef f(s: float):\n    time.sleep(s)\n")}},
        "components": {"sleep": {"executorLabel": "exec", "inputDefinitions": {"parameters": {
            "s": {"parameterType": "NUMBER_DOUBLE"}}}}},
        "root": {"dag": {"tasks": {"sleep": {
            "componentRef": {"name": "sleep"},
            "parameterIterator": {"itemInput": "s", "items": {"raw": "[2, 2, 2, 2, 2, 2, 2, 2]"}},
        }}}},
    })
    .to_string()
}

/// Seconds of each run, after one that warms up.
async fn seconds(engine: &Engine, text: &str, runs: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let pipeline = Pipeline::from_yaml(text, Components::new())?;
    let mut figures = Vec::new();
    for _ in 0..=runs {
        let began = Instant::now();
        let outcome = engine.start(&pipeline, Args::new()).await?.wait().await?;
        figures.push(began.elapsed().as_secs_f64());
        if let Some(error) = outcome.error {
            return Err(error.into());
        }
    }
    Ok(figures.split_off(1))
}

/// The peer's figures, where there is a Python that has it.
fn kfp_local() -> Option<Json> {
    let python = std::env::var("KF_TEST_PYTHON").ok()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/kfp_local.py");
    let output = std::process::Command::new(python).arg(script).output().ok()?;
    serde_json::from_slice(output.stdout.rsplit(|&byte| byte == b'\n').find(|line| !line.is_empty())?).ok()
}

fn peer(kfp: Option<&Json>, name: &str, unit: &'static str, factor: f64) -> Option<Measured> {
    let seconds = kfp?[name].as_array()?.iter().filter_map(Json::as_f64);
    Some(Measured::new(format!("  kfp.local, {name}"), unit, seconds.map(|one| one * factor).collect()))
}

#[tokio::main]
async fn measure() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let containers = LocalContainers::new().rule("*", Runner::Python);
    let engine = Engine::builder().containers(containers).open(home.path()).await?;
    let mut table = Table::default();
    let kfp = kfp_local();

    let steps = seconds(&engine, &chain(STEPS), RUNS).await?;
    let steps = steps.into_iter().map(|run| run * 1e3 / STEPS as f64).collect();
    table.add(
        Measured::new("no-op Python step, chain of 50", "ms/step", steps),
        peer(kfp.as_ref(), "steps", "ms/step", 1e3),
        "≤ 10",
    );
    let sleeps = seconds(&engine, &sleeps(), RUNS).await?;
    table.add(
        Measured::new("loop of 8 sleeps of 2 s", "s", sleeps),
        peer(kfp.as_ref(), "sleeps", "s", 1.0),
        "≤ 2.1",
    );
    let text = chain(1000);
    let mut read = Vec::new();
    for _ in 0..=RUNS {
        let began = Instant::now();
        Pipeline::from_yaml(&text, Components::new())?;
        read.push(began.elapsed().as_secs_f64() * 1e3);
    }
    table.add(Measured::new("IR of 1,000 tasks read and planned", "ms", read.split_off(1)), None, "≤ 20");
    match &kfp {
        Some(kfp) => table.note(format!(
            "kf-pipeline {}; kfp {} on Python {}, SubprocessRunner without virtual environments",
            env!("CARGO_PKG_VERSION"),
            kfp["kfp"],
            kfp["python"]
        )),
        None => table.note("without kfp.local: no Python at KF_TEST_PYTHON that has it"),
    }
    table.print();
    Ok(())
}
