//! Runs a compiled pipeline of Kubeflow Pipelines on this machine, without a cluster and without containers.
//!
//! `cargo run -p examples --bin run_ir -- pipeline.yaml --param message=hello --json`
//!
//! Lightweight Python components run in virtual environments of what they install. Other commands need a rule that says
//! that they may run here as they stand: `--image 'alpine*'`. Ends with 0 where the run succeeded, 1 where it did not
//! and 2 where it could not begin.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use examples::progress;
use kf_core::worker::{Workers, run_if_asked};
use kf_pipeline::prelude::*;
use kf_pipeline::spec::{ParameterType, PipelineFile};
use kf_pipeline::{Args, LocalContainers, RunOutcome, Runner, TaskState};
use serde_json::{Value as Json, json};

/// Runs a compiled pipeline of Kubeflow Pipelines on this machine.
#[derive(Debug, Parser)]
#[command(name = "run_ir")]
struct Options {
    /// The pipeline: YAML or JSON, as the compiler of Kubeflow Pipelines writes it.
    file: PathBuf,
    /// Arguments of the run: text where a text is asked for, else JSON.
    #[arg(long = "param", value_name = "NAME=VALUE", num_args = 1..)]
    params: Vec<Pair>,
    /// Artifacts that the run is given: a URI or a path.
    #[arg(long = "artifact", value_name = "NAME=URI", num_args = 1..)]
    artifacts: Vec<Pair>,
    /// Images whose commands run here as they stand; `*` stands for anything.
    #[arg(long = "image", value_name = "PATTERN")]
    images: Vec<String>,
    /// Further environment variables of this process that steps see; `*` stands for anything.
    #[arg(long = "env", value_name = "PATTERN")]
    env: Vec<String>,
    /// Keys of Kubernetes secrets.
    #[arg(long = "secret", value_name = "SECRET.KEY=VALUE")]
    secrets: Vec<Pair>,
    /// Keys of Kubernetes config maps.
    #[arg(long = "config-map", value_name = "MAP.KEY=VALUE")]
    config_maps: Vec<Pair>,
    /// Folders that stand for persistent volume claims.
    #[arg(long = "claim", value_name = "CLAIM=FOLDER")]
    claims: Vec<Pair>,
    /// Lets final statuses say COMPLETE, as the backend of Kubeflow Pipelines does, and not SUCCEEDED.
    #[arg(long)]
    complete: bool,
    /// Runs every task, whatever was run before.
    #[arg(long)]
    no_cache: bool,
    /// Folder for everything that is kept.
    #[arg(long, default_value = "kf-home")]
    home: PathBuf,
    /// Ends with one line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug)]
struct Pair(String, String);

impl std::str::FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new()) {
        return code;
    }
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            if options.json {
                let error = error.to_string();
                println!(
                    "{}",
                    json!({"state": "INVALID", "run_id": null, "tasks": [], "outputs": {}, "error": error})
                );
            }
            ExitCode::from(2)
        }
    }
}

/// Whether the run succeeded; an error where it did not begin.
#[tokio::main]
async fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let pipeline = Pipeline::open(&options.file, Components::new())?;
    let args = arguments(options, &pipeline.file()?)?;
    let mut builder = Engine::builder().containers(containers(options)?);
    if options.complete {
        builder = builder.final_status_complete();
    }
    let engine = builder.open(&options.home).await?;
    let start = if options.no_cache { StartOptions::new().no_cache() } else { StartOptions::new() };
    let run = engine.start_with(&pipeline, args, start).await?;
    eprintln!("run {}", run.id());
    progress::watch(&run).await;
    let outcome = run.wait().await?;
    let report = engine.report(run.id()).await?;
    if let Some(error) = &outcome.error {
        eprintln!("error: {error}");
    }
    eprintln!("{}", outcome.state);
    if options.json {
        println!("{}", summary(&outcome, &report));
    }
    Ok(outcome.error.is_none())
}

fn arguments(options: &Options, file: &PipelineFile) -> Result<Args, String> {
    let declared = &file.pipeline_spec.root.input_definitions.parameters;
    let mut values = BTreeMap::new();
    for Pair(name, text) in &options.params {
        let value = match declared.get(name).map(|declared| declared.kind()) {
            Some(ParameterType::String) | None => Json::from(text.as_str()),
            Some(_) => serde_json::from_str(text).map_err(|error| format!("--param {name}: {error}"))?,
        };
        values.insert(name.clone(), value);
    }
    let args = Args::from(values);
    Ok(options.artifacts.iter().fold(args, |args, Pair(name, uri)| args.artifact(name, uri)))
}

fn containers(options: &Options) -> Result<LocalContainers, String> {
    let mut containers = LocalContainers::new().rule("*", Runner::Python);
    for image in &options.images {
        containers = containers.rule(image, Runner::Local);
    }
    for name in &options.env {
        containers = containers.env(name);
    }
    let key = |pair: &Pair| {
        let key = pair.0.rsplit_once('.').map(|(name, key)| (name.to_owned(), key.to_owned()));
        key.ok_or_else(|| format!("`{}`: expected NAME.KEY=VALUE", pair.0))
    };
    for pair in &options.secrets {
        let (name, key) = key(pair)?;
        containers = containers.secret(&name, &key, &pair.1);
    }
    for pair in &options.config_maps {
        let (name, key) = key(pair)?;
        containers = containers.config_map(&name, &key, &pair.1);
    }
    for Pair(claim, folder) in &options.claims {
        containers = containers.claim(claim, folder);
    }
    Ok(containers)
}

fn summary(outcome: &RunOutcome, report: &kf_pipeline::report::Report) -> Json {
    let tasks = report.tasks.iter().map(|task| {
        let cached = task.state == TaskState::Cached;
        let state = if cached { TaskState::Succeeded } else { task.state };
        let artifacts = task.output_artifacts.iter().fold(BTreeMap::new(), |mut all, io| {
            all.entry(&io.port).or_insert_with(Vec::new).push(&io.artifact);
            all
        });
        json!({
            "name": task.path,
            "state": state,
            "attempts": task.attempts,
            "cached": cached,
            "outputs": task.outputs,
            "artifacts": artifacts,
            "error": task.error,
        })
    });
    json!({
        "state": outcome.state.to_string(),
        "run_id": outcome.run,
        "tasks": tasks.collect::<Vec<_>>(),
        "outputs": outcome.outputs.parameters,
        "artifacts": outcome.outputs.artifacts,
        "error": outcome.error,
    })
}
