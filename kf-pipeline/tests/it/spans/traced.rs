//! The process of an engine whose spans are looked at.

use std::path::PathBuf;
use std::time::Instant;

use kf_core::telemetry::TraceContext;
use kf_core::worker::{Entry, Request, WorkerError, entry};
use kf_pipeline::prelude::*;
use serde::{Deserialize, Serialize};

use super::recorded::Recorder;
use crate::containers::{chain, engine, pipeline, python, shell};
use crate::logs::says_its_number;

pub(super) const ENTRY: &str = "traced";

/// What such a process is asked.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) home: PathBuf,
    /// The run's trace parent.
    pub(super) parent: Option<String>,
    /// Whether this process prints its spans.
    pub(super) print: bool,
    /// Whether container steps run too.
    pub(super) containers: bool,
}

/// Makes a span, and an event in it.
#[component(cache = false)]
pub(crate) async fn emits() {
    let _inside = tracing::info_span!("in_body").entered();
    tracing::info!("from the body");
}

#[component(cache = false)]
pub(crate) fn panics() {
    let _inside = tracing::info_span!("before_the_panic").entered();
    panic!("as it was asked to");
}

pub(super) fn worker() -> impl Entry {
    entry(ENTRY, |request: Request| {
        let order: Order = request.parse()?;
        let recorder = Recorder::default();
        if order.print {
            recorder.install();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let run = runtime.map_err(WorkerError::failed)?.block_on(run(&order));
        run.map_err(|error| WorkerError::failed(error.to_string()))?;
        for line in recorder.lines() {
            println!("{line}");
        }
        Ok(())
    })
}

async fn run(order: &Order) -> Result<(), Box<dyn std::error::Error>> {
    let engine = engine(&order.home).await?;
    let options = || -> kf_core::Result<StartOptions> {
        let options = StartOptions::new();
        Ok(match &order.parent {
            Some(parent) => options.trace(TraceContext::new(parent.as_str(), Some("kf=1".to_owned()))?),
            None => options,
        })
    };
    let typed = Pipeline::build("typed", |p| {
        p.add(emits());
        p.add(emits().executor("subprocess").named("apart"));
        p.add(says_its_number());
        p.add(panics().executor("subprocess"));
        p.add(panics().named("panics-here"));
    })?;
    let began = Instant::now();
    let typed = engine.start_with(&typed, args! {}, options()?.id("typed".parse()?)).await?;
    println!("typed ended: {:?}", typed.wait().await?.tasks);
    if order.containers {
        let asks = "printf %s \"$TRACEPARENT,$TRACESTATE\" > \"$0\"";
        let mut step = shell(asks);
        let command = step["container"]["command"].as_array_mut().ok_or("a command")?;
        command.push("{{$.outputs.parameters['Output'].output_file}}".into());
        let source = "import os\ndef f() -> str:\n    return os.environ.get('TRACEPARENT', '') + ',' + os.environ.get('TRACESTATE', '')\n";
        let steps = pipeline(&chain(&[step, python("", source)]))?;
        let steps = engine.start_with(&steps, args! {}, options()?.id("steps".parse()?)).await?;
        println!("steps ended: {:?}", steps.wait().await?.tasks);
        let report = engine.report(steps.id()).await?;
        for step in ["step-0", "step-1"] {
            let seen = report.task(step).ok_or("it ran")?.output::<String>("Output")?;
            println!("{step} saw {seen}");
        }
    }
    println!("runs took {} ms", began.elapsed().as_millis());
    engine.drain().await;
    Ok(())
}
