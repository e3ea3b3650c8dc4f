//! Cancelled at any moment, a run leaves no process behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{Components, LocalContainers, RunHandle, Runner};
use libtest_mimic::Trial;
use serde_json::json;

use super::end;
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_cancelled_run_of_subprocesses_leaves_no_process", subprocesses),
        test("a_cancelled_run_of_containers_leaves_no_process", containers),
    ]
}

pub(crate) fn with_components(components: Components) -> Components {
    components.with::<forks>()
}

/// What the shells of both tests do: children, grandchildren, one that ignores being asked to end, and one that has left
/// its parent. Each has the marker in its environment.
const SCRIPT: &str = "sleep 300 & (sleep 301 & sleep 302) & sh -c 'trap \"\" TERM; sleep 303; sleep 304' & \
                      (sh -c 'sleep 305 &' &) ; sleep 0.0$N; sleep 306 & wait";

/// Starts processes that start processes.
#[component(cache = false, executor = "subprocess")]
fn forks(marker: String, number: i64) -> TaskResult {
    let status = std::process::Command::new("sh")
        .args(["-c", SCRIPT])
        .env("KF_MARKER", marker)
        .env("N", number.to_string())
        .status()?;
    Err(TaskError::permanent(format!("ended by itself: {status}")))
}

/// How often it is tried.
fn rounds() -> u64 {
    if std::env::var_os("KF_LONG").is_some() { 60 } else { 10 }
}

/// A moment that differs from round to round: in the first milliseconds as often as later.
fn moment(round: u64) -> Duration {
    let spread = [0, 2, 7, 15, 30, 60, 110, 180, 300, 600];
    Duration::from_millis(spread[(round % 10) as usize] + round / 10 * 3)
}

async fn subprocesses() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::builder().grace(Duration::from_millis(200)).open(home.path()).await?;
    let pipeline = Pipeline::build("forks", |p| {
        let marker = p.required_param::<String>("marker");
        let _ = p.parallel_for(p.param::<Vec<i64>>("numbers", vec![1, 2, 3, 4]), |p, number| {
            p.add(forks(marker, number))
        });
    })?;
    let mut seen = 0;
    for round in 0..rounds() {
        let marker = format!("kf-forks-{}-{round}", std::process::id());
        let run = engine.start(&pipeline, args! {"marker" => marker.clone()}).await?;
        seen += canceled(&run, &marker, round).await?;
    }
    println!("{seen} processes were there to be ended");
    assert!(seen > 20, "{seen}");
    Ok(())
}

async fn containers() -> Done {
    let home = tempfile::tempdir()?;
    let rules = LocalContainers::new().rule("*", Runner::Local);
    let engine =
        Engine::builder().containers(rules).grace(Duration::from_millis(200)).open(home.path()).await?;
    let mut seen = 0;
    for round in 0..rounds() {
        let marker = format!("kf-containers-{}-{round}", std::process::id());
        let container = json!({"container": {
            "image": "alpine:3",
            "command": ["sh", "-c", SCRIPT],
            "env": [{"name": "KF_MARKER", "value": marker}, {"name": "N", "value": "1"}],
        }});
        let task = json!({"componentRef": {"name": "comp"}});
        let file = json!({
            "pipelineInfo": {"name": "containers"},
            "deploymentSpec": {"executors": {"exec": container}},
            "components": {"comp": {"executorLabel": "exec"}},
            "root": {"dag": {"tasks": {"a": task, "b": task, "c": task}}},
        });
        let pipeline = Pipeline::from_file(PipelineFile::from_yaml(file.to_string())?, Components::new())?;
        let run = engine.start(&pipeline, args! {}).await?;
        seen += canceled(&run, &marker, round).await?;
    }
    println!("{seen} processes were there to be ended");
    assert!(seen > 20, "{seen}");
    Ok(())
}

/// Cancels a run at this round's moment; gives how many processes were there to be ended, of which none is left.
async fn canceled(run: &RunHandle, marker: &str, round: u64) -> Result<usize, Box<dyn std::error::Error>> {
    tokio::time::sleep(moment(round)).await;
    let seen = marked(marker).len();
    run.cancel("enough").await;
    assert_eq!(end(run).await?.state, RunState::Canceled);
    nothing_left(marker).await;
    Ok(seen)
}

/// That soon no process has this marker.
async fn nothing_left(marker: &str) {
    let began = Instant::now();
    loop {
        let left = marked(marker);
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{marker}: left behind: {left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The processes with this marker in their environment, zombies aside: id and command.
fn marked(marker: &str) -> BTreeSet<(u32, String)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let read = |name: &str| std::fs::read(Path::new(&entry.path()).join(name)).unwrap_or_default();
        let environment = read("environ");
        if environment.windows(marker.len()).any(|part| part == marker.as_bytes()) {
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            found.insert((pid, command));
        }
    }
    found
}
