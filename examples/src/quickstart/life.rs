//! A model's whole life, wherever its tasks and its ranks run.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use kf_core::Home;
use kf_pipeline::EngineBuilder;
use kf_pipeline::prelude::*;
use kf_pipeline::report::Report;
use kf_registry::{Registry, SqliteRegistry};
use kf_serve::{BoxError, ModelRepository, Server, ServerHandle, TorchScript};
use kf_train::Launcher;

use crate::cli::{Options, Summary};
use crate::digits::Digits;
use crate::{progress, query};

/// Runs the pipeline, or goes on with a run that was not finished, and serves and asks the model that came of it.
///
/// # Errors
/// Where the stores can't be had, or the model can't be served. A run that fails is no error: the summary tells.
pub async fn live(
    options: &Options,
    home: &Home,
    engine: EngineBuilder,
    launcher: Arc<dyn Launcher>,
) -> Result<(Summary, Option<ServerHandle>), BoxError> {
    let began = Instant::now();
    let pipeline = super::pipeline()?;
    let registry = Arc::new(SqliteRegistry::open(home.path().join("registry.sqlite")).await?);
    let engine = engine.state(Arc::clone(&registry)).state(launcher).open_home(home.clone()).await?;
    let args = args! { "rates" => options.rates, "seed" => options.seed };
    let run = engine.start_with(&pipeline, args, StartOptions::new().resume_unfinished()).await?;
    eprintln!("run {}", run.id());
    progress::watch(&run).await;
    let outcome = run.wait().await?;

    let report = engine.report(run.id()).await?;
    let file = home.run_dir(run.id()).join("report.html");
    std::fs::write(&file, report.to_html())?;
    let mut summary = Summary::new(began, &outcome, &report, file, super::RANKS);
    let server = match summary.version {
        Some(_) => Some(serve(home, &registry, &report, &mut summary).await?),
        None => None,
    };
    Ok((summary, server))
}

/// Prints what came of it, and serves on where that is wanted.
///
/// # Errors
/// Where the server does not end well.
pub async fn end(
    options: &Options,
    summary: Summary,
    server: Option<ServerHandle>,
) -> Result<ExitCode, BoxError> {
    let code = if summary.succeeded() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match server.filter(|_| options.keep_serving) {
        Some(server) => {
            println!("serving at {} until Ctrl-C; try:\n{}", server.url(), query::curl(&server.url()));
            summary.print(options.json);
            tokio::signal::ctrl_c().await?;
            server.shutdown().await?;
        }
        None => summary.print(options.json),
    }
    Ok(code)
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
