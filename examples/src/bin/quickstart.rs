//! A model's whole life: read, check and split data; fit an MLP on two ranks for each learning rate; pick, evaluate,
//! register and serve the best; write the run report.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use examples::cli::{Options, Summary};
use examples::digits::Digits;
use examples::{progress, query, quickstart};
use kf_core::Home;
use kf_core::worker::run_if_asked;
use kf_pipeline::prelude::*;
use kf_pipeline::report::Report;
use kf_registry::{Registry, SqliteRegistry};
use kf_serve::{BoxError, ModelRepository, Server, ServerHandle, TorchScript};

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&quickstart::workers()) {
        return code;
    }
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run(options: &Options) -> Result<ExitCode, BoxError> {
    let began = Instant::now();
    let pipeline = quickstart::pipeline()?;
    let home = Home::open(&options.home).await?;
    let registry = Arc::new(SqliteRegistry::open(home.path().join("registry.sqlite")).await?);
    let engine = Engine::builder().state(Arc::clone(&registry)).open_home(home.clone()).await?;
    let args = args! { "rates" => options.rates, "seed" => options.seed };
    let run = engine.start_with(&pipeline, args, StartOptions::new().resume_unfinished()).await?;
    eprintln!("run {}", run.id());
    progress::watch(&run).await;
    let outcome = run.wait().await?;

    let report = engine.report(run.id()).await?;
    let file = home.run_dir(run.id()).join("report.html");
    std::fs::write(&file, report.to_html())?;
    let mut summary = Summary::new(began, &outcome, &report, file, quickstart::RANKS);
    let server = match summary.version {
        Some(_) => Some(serve(&home, &registry, &report, &mut summary).await?),
        None => None,
    };
    if let Some(server) = server.filter(|_| options.keep_serving) {
        println!("serving at {} until Ctrl-C; try:\n{}", server.url(), query::curl(&server.url()));
        summary.print(options.json);
        tokio::signal::ctrl_c().await?;
        server.shutdown().await?;
    } else {
        summary.print(options.json);
    }
    Ok(if outcome.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves the champion and asks it what the test digits are.
async fn serve(
    home: &Home,
    registry: &SqliteRegistry,
    report: &Report,
    summary: &mut Summary,
) -> Result<ServerHandle, BoxError> {
    let champion = registry.version_by_alias(&"digits".parse()?, &"champion".parse()?).await?;
    let models = ModelRepository::new();
    let model = TorchScript::load(&home.artifacts().fetch(&champion.digest).await?)?;
    models.insert("digits", &champion.number.to_string(), model)?;
    let server = Server::builder(models).bind("127.0.0.1:0").await?;

    let test = report.task("split").and_then(|split| split.output_artifact("test")?.digest);
    let test = home.artifacts().fetch(&test.ok_or("the split gave no test digits")?).await?;
    summary.answered(query::ask(&server.url(), &Digits::load(test)?).await?);
    Ok(server)
}
