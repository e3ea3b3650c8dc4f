//! Runs to report on.

use std::collections::BTreeMap;

use kf_core::artifact::{ArtifactKind as _, ArtifactRef, ClassificationMetrics, Metadata};
use kf_core::metadata::{Io, RunRecord, RunState};
use kf_core::process::Usage;
use kf_core::{Digest, Timestamp};
use serde_json::{Value as Json, json};

use crate::AttemptEvent;
use crate::prelude::*;
use crate::report::{CachedFrom, FailedAttempt, LogTail, Report, TaskReport};
use crate::spec::PipelineFile;
use crate::{TaskState, TaskState::*};

#[component]
async fn check(raw: Input<Dataset>, checked: Output<Dataset>) -> TaskResult {
    checked.write(raw.uri())
}

#[derive(Outputs)]
struct Parts {
    rows: i64,
}

#[component]
async fn split(
    digits: Input<Dataset>,
    seed: i64,
    train: Output<Dataset>,
    test: Output<Dataset>,
) -> TaskResult<Parts> {
    let _ = (digits, train, test);
    Ok(Parts { rows: seed })
}

#[derive(Outputs)]
struct Fit {
    accuracy: f64,
    epochs: i64,
}

#[component(retries = 2)]
async fn fit(train: Input<Dataset>, lr: f64, model: Output<Model>) -> TaskResult<Fit> {
    let _ = (train, model);
    Ok(Fit { accuracy: lr, epochs: 8 })
}

#[component]
async fn pick_best(accuracy: Vec<f64>, models: Vec<Input<Model>>, model: Output<Model>) -> TaskResult<Fit> {
    let _ = (models, model);
    Ok(Fit { accuracy: accuracy[0], epochs: 8 })
}

#[component]
async fn evaluate(
    model: Input<Model>,
    test: Input<Dataset>,
    metrics: Output<Metrics>,
    confusion: Output<ClassificationMetrics>,
) -> TaskResult<Fit> {
    let _ = (model, test, metrics, confusion);
    Ok(Fit { accuracy: 0.0, epochs: 8 })
}

#[component]
async fn register(model: Input<Model>, accuracy: f64) -> i64 {
    let _ = (model, accuracy);
    1
}

#[component]
async fn alert(accuracy: f64, note: Output<Html>) -> TaskResult {
    note.write(accuracy.to_string())
}

pub(super) fn digits() -> Pipeline {
    Pipeline::build("digits", |p| {
        let rates = p.param("rates", vec![0.03, 0.1, 0.3]);
        let seed = p.param("seed", 7_i64);
        let raw = p.import::<Dataset>("file:///data/digits.parquet");
        let checked = p.add(check(raw));
        let parts = p.add(split(checked.checked, seed));
        let fits = p.parallel_for(rates, |p, lr| p.add(fit(parts.train, lr)));
        let fits = fits.collect();
        let best = p.add(pick_best(fits.accuracy, fits.model));
        let scored = p.add(evaluate(best.model, parts.test));
        p.when(scored.accuracy.ge(0.95), |p| p.add(register(best.model, scored.accuracy)));
        p.when(scored.accuracy.lt(0.95), |p| p.add(alert(scored.accuracy)));
        p.on_exit(crate::report::run_report());
    })
    .unwrap()
}

pub(super) const START: i64 = 1_795_261_213_000;

pub(super) fn report(pipeline: &str, file: PipelineFile, state: RunState, tasks: Vec<TaskReport>) -> Report {
    let run = RunRecord {
        id: "0193f2b4-6a1c-7d35-9e0b-51c2d6a7f001".parse().unwrap(),
        pipeline: pipeline.to_owned(),
        spec_digest: Digest::of("spec"),
        spec: String::new(),
        args: json!({ "rates": [0.03, 0.1, 0.3], "seed": 7 }).to_string(),
        state,
        error: None,
        created_at: Timestamp::from_millis(START),
        ended_at: state.is_terminal().then(|| Timestamp::from_millis(START + 20_000)),
        epoch: 1,
        seq: 1,
    };
    Report {
        run,
        rerun_of: None,
        waiting: Vec::new(),
        pipeline: file,
        tasks,
        contents: BTreeMap::new(),
        at: Timestamp::from_millis(START + 14_460),
    }
}

/// A task that ran from and until so many milliseconds after the start.
pub(super) fn ran(path: &str, state: TaskState, from: i64, to: i64) -> TaskReport {
    TaskReport {
        path: path.to_owned(),
        component: path.rsplit('/').next().unwrap().to_owned(),
        state,
        attempts: if state == Cached { 0 } else { 1 },
        started_at: Some(Timestamp::from_millis(START + from)),
        ended_at: Timestamp::from_millis(START + to),
        error: None,
        failed_attempts: Vec::new(),
        usage: Usage::default(),
        events: Vec::new(),
        cached_from: None,
        log: None,
        inputs: Metadata::new(),
        outputs: Metadata::new(),
        input_artifacts: Vec::new(),
        output_artifacts: Vec::new(),
    }
}

/// What an attempt used, in milliseconds and bytes.
fn used(wall: u64, cpu: Option<u64>, memory: Option<u64>) -> Usage {
    serde_json::from_value(json!({ "wall_ms": wall, "cpu_ms": cpu, "peak_memory": memory })).unwrap()
}

/// Something told so many milliseconds after the start.
fn event(at: i64, message: &str) -> AttemptEvent {
    serde_json::from_value(json!({ "at": START.saturating_add(at), "message": message })).unwrap()
}

pub(super) fn group(path: &str, state: TaskState, at: i64) -> TaskReport {
    TaskReport { component: String::new(), attempts: 0, started_at: None, ..ran(path, state, at, at) }
}

pub(super) fn object(json: Json) -> Metadata {
    match json {
        Json::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

pub(super) fn io(port: &str, kind: &str, size: u64, metadata: Json) -> Io {
    let digest = Digest::of(format!("{port}{kind}{size}"));
    let artifact = ArtifactRef {
        name: port.to_owned(),
        schema_title: format!("system.{kind}"),
        uri: format!("file:///home/ada/kf-home/artifacts/{}", digest.to_hex()),
        digest: Some(digest),
        size,
        metadata: object(metadata),
    };
    Io { port: port.to_owned(), index: 0, artifact }
}

/// The digits pipeline, as its exit handler sees it.
pub(super) fn digits_report() -> Report {
    let e = "exit-handler-1";
    let raw = io("artifact", "Dataset", 58_204, json!({}));
    let checked = io("checked", "Dataset", 58_204, json!({ "rows": 1797, "columns": 65 }));
    let train = io("train", "Dataset", 46_711, json!({ "rows": 1437 }));
    let test = io("test", "Dataset", 13_377, json!({ "rows": 360 }));
    let mut tasks = Vec::new();
    let mut add = |mut task: TaskReport, inputs: Json, outputs: Json, ins: &[&Io], outs: &[&Io]| {
        task.inputs = object(inputs);
        task.outputs = object(outputs);
        task.input_artifacts = ins.iter().map(|io| (*io).clone()).collect();
        task.output_artifacts = outs.iter().map(|io| (*io).clone()).collect();
        tasks.push(task);
    };
    add(
        ran(&format!("{e}/importer"), Succeeded, 4, 22),
        json!({ "uri": "file:///data/digits.parquet" }),
        json!({}),
        &[],
        &[&raw],
    );
    let mut cached = ran(&format!("{e}/check"), Cached, 31, 33);
    cached.cached_from = Some(CachedFrom {
        run: "0193f2b4-0000-7d35-9e0b-51c2d6a7f001".parse().unwrap(),
        task: "check".to_owned(),
    });
    add(cached, json!({}), json!({}), &[&raw], &[&checked]);
    add(
        ran(&format!("{e}/split"), Succeeded, 41, 388),
        json!({ "seed": 7 }),
        json!({ "rows": 1437 }),
        &[&checked],
        &[&train, &test],
    );
    let mut models = Vec::new();
    for (n, lr, accuracy, from, to) in [
        (1, 0.1, 0.969_444_4, 402, 8_930),
        (0, 0.03, 0.941_666_6, 400, 9_310),
        (2, 0.3, 0.930_555_5, 403, 12_480),
    ] {
        let model = io("model", "Model", 22_616 + n, json!({ "hidden": 64 }));
        let mut task = ran(&format!("{e}/for-loop-1[{n}]/fit"), Succeeded, from, to);
        if n == 2 {
            task.attempts = 2;
            let text: Vec<String> = (0..60)
                .map(|epoch| format!("epoch {epoch}  loss {:.4}", 1.0 / f64::from(epoch + 1)))
                .collect();
            task.log = Some(LogTail {
                text: text.join("\n"),
                path: format!("/home/ada/kf-home/runs/r/{e}/for-loop-1[2]/fit/2/log.txt").into(),
                size: 1_200_000,
            });
            task.failed_attempts = vec![FailedAttempt {
                attempt: 1,
                started_at: Timestamp::from_millis(START + 403),
                ended_at: Timestamp::from_millis(START + 4_120),
                error: "rank 1 was killed by signal 9 (SIGKILL)\nlast lines of rank 1:\n  epoch 3  loss 0.4127\n  epoch 4  loss 0.3310".to_owned(),
                usage: used(3_100, None, None),
                events: vec![event(414, "FailedMount: secret \"keys\" not found")],
            }];
            task.usage = used(8_050, Some(15_220), Some(104_857_600));
            task.events = vec![event(4_204, "no node takes it: 0/1 nodes are available")];
        }
        add(task, json!({ "lr": lr }), json!({ "accuracy": accuracy, "epochs": 8 }), &[&train], &[&model]);
        add(group(&format!("{e}/for-loop-1[{n}]"), Succeeded, to), json!({}), json!({}), &[], &[]);
        models.push(model);
    }
    add(group(&format!("{e}/for-loop-1"), Succeeded, 12_480), json!({}), json!({}), &[], &[]);
    let best = &models[0];
    let all = [&models[1], best, &models[2]];
    add(
        ran(&format!("{e}/pick-best"), Succeeded, 12_490, 12_640),
        json!({ "accuracy": [0.9416666, 0.9694444, 0.9305555] }),
        json!({ "accuracy": 0.969_444_4, "epochs": 8 }),
        &all,
        &[best],
    );
    let metrics = io(
        "metrics",
        "Metrics",
        0,
        json!({ "accuracy": 0.972_222_222, "loss": 0.098_113_4, "samples": 360 }),
    );
    let names: Vec<Json> = (0..10).map(|digit| json!({ "displayName": digit.to_string() })).collect();
    let rows: Vec<Json> = (0..10)
        .map(|digit| {
            let row: Vec<i64> = (0..10)
                .map(|other| if digit == other { 35 } else { i64::from((digit * 3 + other * 7) % 23 == 0) })
                .collect();
            json!({ "row": row })
        })
        .collect();
    let confusion = io(
        "confusion",
        "ClassificationMetrics",
        0,
        json!({ "confusionMatrix": { "annotationSpecs": names, "rows": rows } }),
    );
    add(
        ran(&format!("{e}/evaluate"), Succeeded, 12_650, 12_992),
        json!({}),
        json!({ "accuracy": 0.972_222_222 }),
        &[best, &test],
        &[&metrics, &confusion],
    );
    add(
        ran(&format!("{e}/condition-1/register"), Succeeded, 13_010, 13_380),
        json!({ "accuracy": 0.972_222_222 }),
        json!({ "Output": 4 }),
        &[best],
        &[],
    );
    add(group(&format!("{e}/condition-1"), Succeeded, 13_380), json!({}), json!({}), &[], &[]);
    add(group(&format!("{e}/condition-2"), Skipped, 13_000), json!({}), json!({}), &[], &[]);
    add(group(e, Succeeded, 13_390), json!({}), json!({}), &[], &[]);
    report("digits", digits().file().unwrap(), RunState::Running, tasks)
}

/// A run in which all that others name or write is markup, endless or nonsense.
pub(super) fn hostile_report() -> Report {
    let evil = "</script></style><img src=x onerror=alert(1)>\"'&";
    let text = json!({
        "components": { "c": { "executorLabel": evil } },
        "pipelineInfo": { "name": evil, "description": evil },
        "root": { "dag": { "tasks": {
            evil: { "componentRef": { "name": evil }, "triggerPolicy": { "condition": evil } },
            "a": { "componentRef": { "name": "c" }, "dependentTasks": [evil, "gone"] },
        } } },
    });
    let file =
        PipelineFile { pipeline_spec: serde_json::from_value(text).unwrap(), ..PipelineFile::default() };
    let mut task = ran("a", Failed, 0, 5);
    task.error = Some(evil.repeat(50_000));
    task.component = evil.to_owned();
    task.inputs =
        object(json!({ evil: evil, "huge": "x".repeat(1 << 20), "deep": { "<b>": [null, f64::MAX, -0.0] } }));
    task.failed_attempts = vec![FailedAttempt {
        attempt: 1,
        started_at: Timestamp::from_millis(i64::MAX),
        ended_at: Timestamp::from_millis(i64::MIN),
        error: evil.to_owned(),
        usage: used(u64::MAX, Some(u64::MAX), Some(u64::MAX)),
        events: vec![event(i64::MIN, evil), event(0, &"x".repeat(1 << 20))],
    }];
    let mut page = io("page", "HTML", 3, json!({ evil: evil, "confusionMatrix": evil }));
    page.artifact.uri = evil.to_owned();
    page.artifact.schema_title = Html::SCHEMA_TITLE.to_owned();
    task.output_artifacts = vec![page.clone(), io(evil, evil, u64::MAX, json!({}))];
    let other = TaskReport { path: evil.to_owned(), ..task.clone() };
    let mut report = report(evil, file, RunState::Failed, vec![task, other]);
    report.run.error = Some(evil.to_owned());
    report.run.args = json!({ evil: evil }).to_string();
    report
        .contents
        .insert(page.artifact.digest.unwrap(), "<p onclick=\"x\">hello</p><script>1</script>".to_owned());
    report
}

/// A loop of 5,000 iterations of two tasks, and 300 tasks beside it.
pub(super) fn thousands() -> Report {
    // A loop of 5,000 iterations of two tasks, and 300 tasks beside it.
    let leaf = |after: &[String]| json!({ "componentRef": { "name": "leaf" }, "dependentTasks": after });
    let mut tasks = serde_json::Map::new();
    tasks.insert(
        "loop".to_owned(),
        json!({
            "componentRef": { "name": "body" },
            "parameterIterator": { "items": { "raw": "[1, 2]" }, "itemInput": "item" },
        }),
    );
    for n in 0..300 {
        let after: Vec<String> = (n >= 10).then(|| format!("task-{:03}", n - 10)).into_iter().collect();
        tasks.insert(format!("task-{n:03}"), leaf(&after));
    }
    let spec = json!({
        "components": {
            "leaf": { "executorLabel": "x" },
            "body": { "dag": { "tasks": { "first": leaf(&[]), "second": leaf(&["first".to_owned()]) } } },
        },
        "pipelineInfo": { "name": "many" },
        "root": { "dag": { "tasks": tasks } },
    });
    let file =
        PipelineFile { pipeline_spec: serde_json::from_value(spec).unwrap(), ..PipelineFile::default() };
    let mut reports = Vec::new();
    for n in 0..5_000_i64 {
        for (name, shift) in [("first", 0), ("second", 3)] {
            let state = if n == 4_321 && shift == 3 { Failed } else { Succeeded };
            let mut task = ran(&format!("loop[{n}]/{name}"), state, 2 * n + shift, 2 * n + shift + 3);
            task.inputs = object(json!({ "item": n, "text": "lorem ipsum ".repeat(40) }));
            task.outputs = object(json!({ "score": n as f64 / 7.0 }));
            task.output_artifacts = vec![io("model", "Model", 1_000, json!({ "a": 1 }))];
            reports.push(task);
        }
        reports.push(group(&format!("loop[{n}]"), if n == 4_321 { Failed } else { Succeeded }, 2 * n + 6));
    }
    reports.push(group("loop", Failed, 10_010));
    reports.extend((0..300).map(|n| ran(&format!("task-{n:03}"), Succeeded, n, n + 40)));
    report("many", file, RunState::Failed, reports)
}
