//! A model's whole life: read, check and split data; fit an MLP on two ranks for each learning rate; pick, evaluate,
//! register and serve the best; write the run report.

mod fit;
mod query;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use examples::digits::{self, Digits};
use examples::progress;
use kf_core::Home;
use kf_core::worker::{Workers, run_if_asked};
use kf_pipeline::prelude::*;
use kf_pipeline::report::run_report;
use kf_registry::{Registry, SqliteRegistry};
use kf_serve::{BoxError, ModelRepository, Server, TorchScript};
use serde_json::json;

#[derive(Parser)]
struct Options {
    /// Learning rates to try.
    #[arg(long, value_delimiter = ',', default_values_t = [0.03, 0.1, 0.3])]
    rates: Vec<f64>,
    /// Seed of the split and of the parameters.
    #[arg(long, default_value_t = 0)]
    seed: i64,
    /// Folder for everything that is kept.
    #[arg(long, default_value = "kf-home")]
    home: PathBuf,
    /// Stay up and serve until Ctrl-C.
    #[arg(long)]
    keep_serving: bool,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(kf_train::ranks("fit", fit::fit))) {
        return code;
    }
    run(Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run(options: Options) -> Result<ExitCode, BoxError> {
    let began = Instant::now();
    let pipeline = Pipeline::build("digits", |p| {
        let rates = p.required_param::<Vec<f64>>("rates");
        let seed = p.required_param::<i64>("seed");
        let raw = p.import::<Dataset>(digits::FILE);
        let parts = p.add(steps::split(raw, seed));
        let fits = p.parallel_for(rates, |p, rate| p.add(steps::fit(parts.train, rate, seed).cpu(1.0)));
        let best = p.add(steps::pick_best(fits.collect().model, rates, parts.valid));
        let quality = p.add(steps::evaluate(best.best, parts.test));
        p.when(quality.output.ge(0.95), |p| {
            p.add(steps::register(best.best, parts.train, best.rate, quality.output));
        });
        p.on_exit(run_report());
    })?;

    let home = Home::open(&options.home).await?;
    let registry = Arc::new(SqliteRegistry::open(home.path().join("registry.sqlite")).await?);
    let engine = Engine::builder().state(Arc::clone(&registry)).open(home.path()).await?;
    let args = args! { "rates" => options.rates, "seed" => options.seed };
    let run = engine.start_with(&pipeline, args, StartOptions::new().resume_unfinished()).await?;
    eprintln!("run {}", run.id());
    progress::watch(&run).await;
    let outcome = run.wait().await?;
    let report = engine.report(run.id()).await?;
    let file = engine.home().run_dir(run.id()).join("report.html");
    std::fs::write(&file, report.to_html())?;
    eprintln!("{}: {:?}; report: {}", outcome.state, outcome.tasks, file.display());
    if let Some(error) = &outcome.error {
        eprintln!("error: {error}");
    }

    let task = |name: &str| report.task(&format!("exit-handler-1/{name}"));
    let mut line = json!({
        "run_id": run.id(), "state": outcome.state, "tasks": outcome.tasks, "ranks": steps::RANKS,
        "accuracy": task("evaluate").and_then(|task| task.output::<f64>("Output").ok()),
        "endpoint_accuracy": null, "version": null, "p50_us": null, "p99_us": null, "report": file,
    });
    let registered = task("condition-1/register").and_then(|task| task.output::<u32>("Output").ok());
    if let Some(number) = registered {
        let champion = registry.version_by_alias(&"digits".parse()?, &"champion".parse()?).await?;
        let model = engine.home().artifacts().fetch(&champion.digest).await?;
        let models = ModelRepository::new();
        models.insert("digits", &number.to_string(), TorchScript::load(&model)?)?;
        let server = Server::builder(models).bind("127.0.0.1:0").await?;
        let infer = format!("{}/v2/models/digits/infer", server.url());
        let test = task("split").and_then(|task| task.output_artifacts.iter().find(|io| io.port == "test"));
        let test = test.and_then(|io| io.artifact.digest).ok_or("the split gave no test digits")?;
        let test = Digits::load(engine.home().artifacts().fetch(&test).await?)?;
        let answers = query::ask(&infer, &test).await?;
        eprintln!(
            "digits version {number} at {infer}: accuracy {:.4} over HTTP, p50 {:?}, p99 {:?}",
            answers.accuracy, answers.p50, answers.p99
        );
        line["endpoint_accuracy"] = json!(answers.accuracy);
        line["version"] = json!(number);
        line["p50_us"] = json!(answers.p50.as_micros());
        line["p99_us"] = json!(answers.p99.as_micros());
        if options.keep_serving {
            let data = vec!["0"; digits::PIXELS].join(",");
            println!("serving at {}; try:", server.url());
            println!(
                "curl -d '{{\"inputs\":[{{\"name\":\"pixels\",\"datatype\":\"FP32\",\"shape\":[1,64],\"data\":[{data}]}}]}}' {infer}"
            );
            tokio::signal::ctrl_c().await?;
        }
        server.shutdown().await?;
    }
    line["seconds"] = json!(began.elapsed().as_secs_f64());
    if options.json {
        println!("{line}");
    }
    Ok(if outcome.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
