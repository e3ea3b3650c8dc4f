//! Things that are large.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kf_core::metadata::RunState;
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{Components, Pipeline};
use kube::Client;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::runtime::Runtime;

use super::tasks::Fixture;
use super::tasks::components::{chatter, length};
use super::work::{ends, lines, start, until_a_pod};
use super::{Given, trial};

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "large::inputs_go_by_reference", inputs),
        trial(runtime, client, "large::a_pod_that_prints_a_hundred_megabytes", log),
        trial(runtime, client, "large::annotations_of_a_mebibyte_are_refused", annotations),
    ]
}

/// From small ones over some at the limit of what a pod takes along to some MiB: all come as they were given.
async fn inputs(given: Given) {
    let fixture = Fixture::new(&given).await;
    for bytes in [60_000, 64 << 10, (64 << 10) + 1, 300_000, 5 << 20] {
        let text = format!("{}end", "é".repeat((bytes - 3) / 2));
        let expected = format!("{} end", text.len());
        let pipeline = Pipeline::build("length", |p| {
            let told = p.add(length(text));
            p.output("told", told.output);
        });
        let run = start(&fixture, &pipeline.unwrap()).await;
        let pod = until_a_pod(&given, |pod| {
            pod.metadata.labels.as_ref().is_some_and(|labels| labels["kf.dev/run"] == run.id().as_str())
        });
        let size: usize = pod.await.metadata.annotations.unwrap().values().map(String::len).sum();
        assert!(size < 70_000, "{size}");
        let outcome = ends(&run).await;
        assert_eq!(outcome.output::<String>("told").unwrap(), expected, "{outcome:?}");
    }
}

/// Memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Its first and its last lines are kept, and no more of it.
async fn log(given: Given) {
    const LINES: i64 = 100_000;
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("chatter", |p| {
        p.add(chatter(LINES, 1000, 15.0));
    });
    let (before, began) = (resident(), Instant::now());
    let run = start(&fixture, &pipeline.unwrap()).await;
    let mut most = 0;
    let outcome = loop {
        tokio::select! {
            outcome = ends(&run) => break outcome,
            () = tokio::time::sleep(Duration::from_millis(100)) => most = most.max(resident()),
        }
    };
    assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    println!("{:?}, {} MiB more", began.elapsed(), most.saturating_sub(before) >> 20);
    // Other tests run beside this one.
    assert!(most.saturating_sub(before) < 100 << 20, "{before} {most}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let log = lines(fixture.engine.logs(run.id(), "chatter", 1).await.unwrap()).await;
    let size: usize = log.iter().map(String::len).sum();
    assert!(size < 6 << 20, "{size}");
    let number = |line: &String| line.split_once(" x").and_then(|(number, _)| number.parse::<i64>().ok());
    let numbers: Vec<_> = log.iter().filter_map(number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!((numbers[..100].to_vec(), numbers.last()), ((0..100).collect(), Some(&(LINES - 1))));
}

async fn annotations(given: Given) {
    let large = "x".repeat(1 << 20);
    let file: PipelineFile = serde_json::from_value(json!({
        "pipeline_spec": {
            "pipelineInfo": {"name": "large"},
            "schemaVersion": "2.1.0",
            "deploymentSpec": {"executors": {"say": {"container": {
                "image": super::super::image::SHELL, "command": ["/bin/sh", "-c", "echo said"]}}}},
            "components": {"say": {"executorLabel": "say"}},
            "root": {"dag": {"tasks": {"say": {"taskInfo": {"name": "say"}, "componentRef": {"name": "say"}}}}},
        },
        "platform_spec": {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"say": {
            "podMetadata": {"annotations": {"large": large}}}}}}}},
    }))
    .unwrap();
    let pipeline = Pipeline::from_file(file, Components::new()).unwrap();
    let fixture = Fixture::new(&given).await;
    let outcome = ends(&start(&fixture, &pipeline).await).await;
    let error = outcome.error.unwrap();
    assert!(error.contains("refuses pod") && error.contains("annotations: Too long"), "{error}");
}
