//! The quickstart's command line: its options, and its last line.

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use kf_pipeline::report::Report;
use kf_pipeline::{RunOutcome, TaskCounts};
use serde::Serialize;

use crate::query::Answers;

/// What the quickstart may be told.
#[derive(Debug, Parser)]
pub struct Options {
    /// Learning rates to try.
    #[arg(long, value_delimiter = ',', default_values_t = [0.03, 0.1, 0.3])]
    pub rates: Vec<f64>,
    /// Seed of the split and of the parameters.
    #[arg(long, default_value_t = 0)]
    pub seed: i64,
    /// Folder for everything that is kept.
    #[arg(long, default_value = "kf-home")]
    pub home: PathBuf,
    /// Stay up and serve until Ctrl-C.
    #[arg(long)]
    pub keep_serving: bool,
    /// Print one JSON object as the last line.
    #[arg(long)]
    pub json: bool,
}

/// What a run of the quickstart came to.
#[derive(Debug, Serialize)]
pub struct Summary {
    run_id: String,
    state: String,
    tasks: TaskCounts,
    ranks: usize,
    accuracy: Option<f64>,
    endpoint_accuracy: Option<f64>,
    /// The registered version.
    pub version: Option<u32>,
    p50_us: Option<u128>,
    p99_us: Option<u128>,
    report: PathBuf,
    seconds: f64,
    #[serde(skip)]
    began: Instant,
    #[serde(skip)]
    error: Option<String>,
}

impl Summary {
    /// The summary of a run that has ended, its report written to `file`, each model trained by so many ranks.
    pub fn new(began: Instant, outcome: &RunOutcome, report: &Report, file: PathBuf, ranks: usize) -> Self {
        Self {
            run_id: outcome.run.to_string(),
            state: outcome.state.to_string(),
            tasks: outcome.tasks,
            ranks,
            accuracy: report.task("evaluate").and_then(|task| task.output("Output").ok()),
            endpoint_accuracy: None,
            version: report.task("register").and_then(|task| task.output("Output").ok()),
            p50_us: None,
            p99_us: None,
            report: file,
            seconds: 0.0,
            began,
            error: outcome.error.clone(),
        }
    }

    /// Adds what the served model answered.
    pub fn answered(&mut self, answers: Answers) {
        eprintln!("the champion over HTTP: {answers}");
        self.endpoint_accuracy = Some(answers.accuracy);
        self.p50_us = Some(answers.p50.as_micros());
        self.p99_us = Some(answers.p99.as_micros());
    }

    /// Whether the run has succeeded.
    pub fn succeeded(&self) -> bool {
        self.error.is_none()
    }

    /// As JSON, with the time until now.
    pub fn json(&mut self) -> String {
        self.seconds = self.began.elapsed().as_secs_f64();
        serde_json::json!(self).to_string()
    }

    /// Prints what happened to standard error, and as JSON to standard output where that is wanted.
    pub fn print(mut self, json: bool) {
        let text = self.json();
        if let Some(error) = &self.error {
            eprintln!("error: {error}");
        }
        eprintln!("{} in {:.1} s; report: {}", self.state, self.seconds, self.report.display());
        if json {
            println!("{text}");
        }
    }
}
