//! Upstream's compiled pipelines, run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kf_pipeline::report::Report;
use kf_pipeline::spec::{ParameterType, PipelineFile};
use kf_pipeline::{Args, Components, Engine, LocalContainers, Pipeline, RunOutcome, Runner, TaskState};
use serde_json::Value as Json;

use crate::Done;

/// How many pipelines run at once.
const AT_ONCE: usize = 3;
/// Longer than any of them takes, installing packages included.
const LONGEST: Duration = Duration::from_secs(420);

/// One line of EXPECT.tsv.
struct Row {
    file: String,
    kind: String,
    state: String,
    tasks: String,
    params: Vec<(String, String)>,
    needs: String,
    outputs: Option<Json>,
}

/// Reads the rows that can run here: those of lightweight Python steps, and those of other commands of which is said
/// what comes out where they run with this machine's programs.
fn rows(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [file, kind, state, tasks, params, needs, outputs, ..] = fields.as_slice() else { return None };
        let mapped = tasks.contains("mapped") && tasks.contains("SUCCEEDED");
        // `[[` needs another sh; 600 seconds of sleep say nothing.
        let left_out = ["pipeline_with_concat_placeholder.yaml", "long-running.yaml"].contains(file);
        if !(*kind == "run" || *kind == "container" && mapped && !left_out) {
            return None;
        }
        let params = params.split(';').filter_map(|pair| pair.split_once('='));
        Some(Row {
            file: (*file).to_owned(),
            kind: (*kind).to_owned(),
            state: if *kind == "run" { (*state).to_owned() } else { "SUCCEEDED".to_owned() },
            tasks: (*tasks).to_owned(),
            params: params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            needs: (*needs).to_owned(),
            outputs: serde_json::from_str(outputs).ok(),
        })
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect()
}

/// Runs every row and prints what came out.
pub(super) async fn every_run(folder: &Path) -> Done {
    let rows = rows(&std::fs::read_to_string(folder.join("EXPECT.tsv"))?);
    let homes = tempfile::tempdir()?;
    let (one, other): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| !row.file.contains("notebook"));
    let run = |row: Row| {
        let (folder, homes) = (folder.to_owned(), homes.path().to_owned());
        async move {
            let began = Instant::now();
            let found = tokio::time::timeout(LONGEST, judge(&folder, &homes, &row)).await;
            let found = found.unwrap_or_else(|_| Err(format!("did not end in {LONGEST:?}")));
            (row, found, began.elapsed())
        }
    };
    // These write to one place, and not at once.
    let in_turn = async {
        let mut done = Vec::new();
        for row in other {
            done.push(run(row).await);
        }
        done
    };
    let at_once = stream::iter(one.into_iter().map(run)).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let (mut done, rest) = tokio::join!(at_once, in_turn);
    done.extend(rest);
    done.sort_by(|(a, ..), (b, ..)| a.file.cmp(&b.file));
    let mut wrong = 0;
    for (row, found, took) in &done {
        let word = match found {
            Ok(()) => row.state.clone(),
            Err(problem) => {
                wrong += 1;
                format!("WRONG: {problem}")
            }
        };
        println!("{:<90} {:>6.1} s  {word}", row.file, took.as_secs_f64());
    }
    println!("{} of {} end as they should", done.len() - wrong, done.len());
    match wrong {
        0 if done.len() >= 80 => println!("JUDGE kfp-runs passed"),
        _ => println!("JUDGE kfp-runs failed: {wrong} of {}", done.len()),
    }
    if wrong > 0 || done.len() < 80 {
        return Err(format!("{wrong} of {} did not end as they should", done.len()).into());
    }
    Ok(())
}

async fn judge(folder: &Path, homes: &Path, row: &Row) -> Result<(), String> {
    let home = homes.join(&row.file);
    let own = home.join("tmp");
    std::fs::create_dir_all(&own).map_err(|error| error.to_string())?;
    let text = std::fs::read(folder.join(&row.file)).map_err(|error| error.to_string())?;
    let file = PipelineFile::from_yaml(&text).map_err(|error| error.to_string())?;
    let args = arguments(row, &file, &own)?;
    let pipeline = Pipeline::from_file(file, Components::new()).map_err(|error| error.to_string())?;
    let engine = engine(row, homes, &home.join("kf"), &own).await?;
    let (outcome, report) = run(&engine, &pipeline, args.clone()).await?;
    check(row, &outcome, &report)?;
    if row.tasks.contains("a second run: ") {
        let (second, _) = run(&engine, &pipeline, args).await?;
        let (ran, cached) = (second.tasks.succeeded, second.tasks.cached);
        if (ran, cached) != (0, outcome.tasks.succeeded) {
            return Err(format!("a second run ran {ran} and took {cached} from the cache"));
        }
    }
    Ok(())
}

async fn engine(row: &Row, homes: &Path, home: &Path, own: &Path) -> Result<Engine, String> {
    let mut containers = LocalContainers::new().rule("*", Runner::Python).cache(homes.join("python"));
    if row.kind == "container" {
        containers = containers.rule("*", Runner::Local);
    }
    for need in row.needs.split(';').map(str::trim) {
        // `secret NAME (KEY=VALUE)…`, `pvc NAME, …`
        if let Some((name, rest)) = need.strip_prefix("secret ").and_then(|need| need.split_once(" (")) {
            let pair = rest.split_once(')').and_then(|(pair, _)| pair.split_once('='));
            let (key, value) = pair.ok_or("a secret without a value")?;
            containers = containers.secret(name, key, value);
        }
        if let Some((name, _)) = need.strip_prefix("pvc ").and_then(|need| need.split_once(',')) {
            let folder = own.join("claim");
            std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
            containers = containers.claim(name, folder);
        }
    }
    let mut builder = Engine::builder().containers(containers);
    if row.needs.contains("switch: final state COMPLETE") {
        builder = builder.final_status_complete();
    }
    builder.open(home).await.map_err(|error| error.to_string())
}

fn arguments(row: &Row, file: &PipelineFile, own: &Path) -> Result<Args, String> {
    let declared = &file.pipeline_spec.root.input_definitions;
    let mut values = BTreeMap::new();
    for (name, text) in &row.params {
        let text = text.replace("{tmp}", &own.display().to_string());
        let value = match declared.parameters.get(name).map(|declared| declared.kind()) {
            Some(ParameterType::String) | None => Json::from(text),
            Some(_) => serde_json::from_str(&text).map_err(|error| error.to_string())?,
        };
        values.insert(name.clone(), value);
    }
    let mut args = Args::from(values);
    for need in row.needs.split(';').map(str::trim) {
        // `artifact NAME (a file holding TEXT)`, `artifact NAME (any file)`
        if let Some((name, what)) = need.strip_prefix("artifact ").and_then(|need| need.split_once(" (")) {
            let content = what.strip_prefix("a file holding ").unwrap_or("x").trim_end_matches(')');
            let path = own.join(name);
            std::fs::write(&path, content).map_err(|error| error.to_string())?;
            args = args.artifact(name, path.display().to_string());
        }
    }
    Ok(args)
}

async fn run(engine: &Engine, pipeline: &Pipeline, args: Args) -> Result<(RunOutcome, Report), String> {
    let run = engine.start(pipeline, args).await.map_err(|error| error.to_string())?;
    let outcome = run.wait().await.map_err(|error| error.to_string())?;
    let report = engine.report(run.id()).await.map_err(|error| error.to_string())?;
    Ok((outcome, report))
}

fn check(row: &Row, outcome: &RunOutcome, report: &Report) -> Result<(), String> {
    let state = outcome.state.to_string();
    if state != row.state {
        let error = outcome.error.as_deref().unwrap_or("no error");
        return Err(format!("{state}, expected {}: {error}", row.state));
    }
    let outputs = Json::Object(outcome.outputs.parameters.clone());
    if let Some(expected) = row.outputs.as_ref().filter(|expected| **expected != outputs) {
        return Err(format!("outputs {outputs}, expected {expected}"));
    }
    // What follows these words is about other arguments, or about what was not handed over.
    let ends = ["without", "naming", "a draw of", "tasks on heads"];
    let end = ends.iter().filter_map(|word| row.tasks.find(word)).min().unwrap_or(row.tasks.len());
    let tasks = row.tasks.get(..end).unwrap_or_default();
    let words: Vec<&str> = tasks.split([' ', ';', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
    for pair in words.windows(2) {
        if pair[1].starts_with("task")
            && let Ok(number) = pair[0].parse::<usize>()
        {
            let importers = report.pipeline.pipeline_spec.deployment_spec.executors.keys();
            let importers = importers.filter(|label| label.starts_with("exec-importer")).count();
            let started = report.tasks.iter().filter(|task| task.attempts > 0).count();
            if started != number && started != number + importers {
                return Err(format!("{started} tasks started, expected {number}"));
            }
        }
        let expected = match pair[1] {
            "SUCCEEDED" => TaskState::Succeeded,
            "FAILED" => TaskState::Failed,
            "SKIPPED" => TaskState::Skipped,
            _ => continue,
        };
        let (mut named, mut found) = (false, false);
        for task in &report.tasks {
            let last = task.path.rsplit('/').next().unwrap_or(&task.path);
            if last == pair[0] || last.split('[').next() == Some(pair[0]) {
                named = true;
                found |= task.state == expected;
            }
        }
        if named && !found {
            return Err(format!("{} is not {expected}", pair[0]));
        }
    }
    Ok(())
}

/// Where the rows are; none where they are not at hand, which is said.
pub(super) fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("KF_CONFORMANCE").map(|folder| PathBuf::from(folder).join("kfp"));
    let found = folder.filter(|folder| folder.join("EXPECT.tsv").is_file());
    if found.is_none() {
        println!("JUDGE kfp-runs skipped: KF_CONFORMANCE names no folder with kfp/EXPECT.tsv in it");
    }
    found
}
