//! What the engine costs as runs grow: time and memory a task, a run of many tasks opened again; and what a subprocess
//! step costs beside a bare start of the same program.

use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Instant;

use benches::{Measured, Table};
use kf_core::worker::{Workers, run_if_asked};
use kf_pipeline::prelude::*;
use kf_pipeline::{Components, Pipeline, StartOptions};

const RUNS: usize = 5;
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// Steps in a row.
const STEPS: usize = 50;
/// Distinct tasks of an IR file.
const DISTINCT: usize = 10_000;

#[component(cache = false)]
async fn nothing(number: i64) -> i64 {
    number
}

/// For subprocesses: one that is async gets a runtime of its own there, with a thread for each core.
#[component(cache = false)]
fn plain(number: i64) -> i64 {
    number
}

fn components() -> Components {
    Components::new().with::<nothing>().with::<plain>()
}

fn wide(iterations: usize) -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("wide", |p| {
        let items: Vec<i64> = (0..iterations as i64).collect();
        let _ = p.parallel_for(items, |p, item| p.add(nothing(item)));
    })
}

fn async_steps() -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("async-steps", |p| {
        let mut last = p.add(nothing(0).executor("subprocess"));
        for _ in 1..STEPS {
            last = p.add(nothing(last.output).executor("subprocess"));
        }
    })
}

fn plain_steps() -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("plain-steps", |p| {
        let mut last = p.add(plain(0).executor("subprocess"));
        for _ in 1..STEPS {
            last = p.add(plain(last.output).executor("subprocess"));
        }
    })
}

/// IR of distinct tasks, each of a component of its own. Text from the start, so that what is measured is not hidden by
/// what made it.
fn distinct(count: usize) -> String {
    let object = |entry: &dyn Fn(usize) -> String| (0..count).map(entry).collect::<Vec<_>>().join(",");
    let executors = object(&|index| format!(r#""exec-{index}":{{"container":{{"image":"self"}}}}"#));
    let components = object(&|index| {
        format!(
            r#""comp-{index}":{{"executorLabel":"exec-{index}","inputDefinitions":{{"parameters":{{"number":{{"parameterType":"NUMBER_INTEGER"}}}}}},"outputDefinitions":{{"parameters":{{"Output":{{"parameterType":"NUMBER_INTEGER"}}}}}}}}"#
        )
    });
    let tasks = object(&|index| {
        format!(
            r#""task-{index}":{{"componentRef":{{"name":"comp-{index}"}},"inputs":{{"parameters":{{"number":{{"runtimeValue":{{"constant":{index}}}}}}}}},"taskInfo":{{"name":"task-{index}"}}}}"#
        )
    });
    let kf = object(&|index| format!(r#""exec-{index}":{{"component":"nothing"}}"#));
    format!(
        r#"{{"pipeline_spec":{{"pipelineInfo":{{"name":"distinct"}},"deploymentSpec":{{"executors":{{{executors}}}}},"components":{{{components}}},"root":{{"dag":{{"tasks":{{{tasks}}}}}}}}},"platform_spec":{{"platforms":{{"kf":{{"executors":{{{kf}}}}}}}}}}}"#
    )
}

/// Runs a pipeline and gives seconds.
async fn seconds(pipeline: &Pipeline, tasks: usize) -> Result<f64, Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let began = Instant::now();
    let outcome = engine.start(pipeline, args! {}).await?.wait().await?;
    let took = began.elapsed().as_secs_f64();
    match outcome.tasks.succeeded == tasks as u64 {
        true => Ok(took),
        false => Err(format!("not all tasks succeeded: {outcome:?}").into()),
    }
}

/// A field of this process's status, in KiB.
fn status(field: &str) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// What copies of this program print that measure one thing in a process of its own.
#[tokio::main]
async fn alone(what: &str, count: usize) -> Result<f64, Box<dyn Error>> {
    if what == "--wide" {
        seconds(&wide(count)?, count).await?;
        return status("VmHWM:");
    }
    let file = serde_json::from_str(&distinct(count))?;
    let pipeline = Pipeline::from_file(file, components())?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    engine.start(&pipeline, args! {}).await?.wait().await?;
    status("VmHWM:")
}

fn in_a_process(arguments: &[&str]) -> Result<f64, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .map_err(|_| format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// KiB for each of `count`, over what a few take.
fn memory(what: &str, count: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let each = |_| {
        let (few, many) = (in_a_process(&[what, "10"])?, in_a_process(&[what, &count.to_string()])?);
        Ok((many - few) / count as f64)
    };
    (0..RUNS).map(each).collect()
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(components())) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [what] if what == "--bare" => return ExitCode::SUCCESS,
        [what, count] if ["--wide", "--distinct"].contains(&what.as_str()) => count
            .parse()
            .map_err(Into::into)
            .and_then(|count| alone(what, count))
            .map(|kib| println!("{kib}")),
        _ => bench(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn bench() -> Result<(), Box<dyn Error>> {
    let mut table = Table::default();
    let mut first = None;
    for size in SIZES {
        let pipeline = wide(size)?;
        let mut runs = Vec::new();
        for _ in 0..=RUNS {
            runs.push(seconds(&pipeline, size).await? * 1e6 / size as f64);
        }
        // The first run warms up.
        let figures = Measured::new(format!("loop of {size}"), "µs/task", runs.split_off(1));
        let least = first.get_or_insert_with(|| figures.clone()).clone();
        let beside = (size > SIZES[0]).then(|| Measured { name: format!("  loop of {}", SIZES[0]), ..least });
        table.add(figures, beside, if size > SIZES[0] { "ratio ≤ 1.2" } else { "" });
    }
    let kib = |name: &str, runs| Measured::new(name, "KiB", runs);
    table.add(kib("an iteration of a loop of 100,000, peak", memory("--wide", 100_000)?), None, "≤ 1");
    table.add(kib("a distinct task of an IR of 10,000, peak", memory("--distinct", DISTINCT)?), None, "≤ 4");

    // Each step's end is committed to SQLite before the next starts, which waits for no disk.
    let (mut plain, mut with_runtime, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let (plain_steps, async_steps) = (plain_steps()?, async_steps()?);
    let each = 1e3 / STEPS as f64;
    for _ in 0..=RUNS {
        plain.push(seconds(&plain_steps, STEPS).await? * each);
        with_runtime.push(seconds(&async_steps, STEPS).await? * each);
        let began = Instant::now();
        for _ in 0..STEPS {
            Command::new(std::env::current_exe()?).arg("--bare").status()?;
        }
        bare.push(began.elapsed().as_secs_f64() * each);
    }
    let bare = Measured::new("  bare start of the same program", "ms/step", bare.split_off(1));
    for (name, mut runs) in [("a fn", plain), ("an async fn, with a runtime", with_runtime)] {
        let steps =
            Measured::new(format!("subprocess step, {name}, chain of 50"), "ms/step", runs.split_off(1));
        table.add(steps, Some(bare.clone()), "ratio ≤ 1.2");
    }

    let (home, pipeline) = (tempfile::tempdir()?, wide(100_000)?);
    let options = || StartOptions::new().id("finished".parse().expect("a run id"));
    Engine::open(home.path()).await?.start_with(&pipeline, args! {}, options()).await?.wait().await?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        let engine = Engine::open(home.path()).await?;
        let outcome = engine.start_with(&pipeline, args! {}, options()).await?.wait().await?;
        runs.push(began.elapsed().as_secs_f64());
        assert_eq!(outcome.tasks.succeeded, 100_000);
    }
    table.add(Measured::new("a run of 100,000 finished tasks opened again", "s", runs), None, "≤ 1");
    table.note(format!("kf-pipeline {}", env!("CARGO_PKG_VERSION")));
    table.print();
    Ok(())
}
