//! A pipeline and nothing else: the digits' mean pictures, one task a digit, run from the cache the second time.
//!
//! `cargo run -p examples --bin pipeline`

use std::process::ExitCode;

use examples::digits::{self, Digits, PIXELS};
use examples::progress;
use kf_core::worker::{Workers, run_if_asked};
use kf_pipeline::prelude::*;

/// The mean picture of one digit, as text. Runs in a process of its own.
#[component(executor = "subprocess", retries = 1)]
fn mean(digits: Input<Dataset>, label: u8, picture: Output<Markdown>) -> TaskResult<usize> {
    let digits = Digits::load(digits.path()?)?;
    let rows: Vec<usize> = (0..digits.len()).filter(|&row| digits.labels[row] == label).collect();
    let mut mean = vec![0.0; PIXELS];
    for &row in &rows {
        for (sum, pixel) in mean.iter_mut().zip(digits.image(row)) {
            *sum += pixel / rows.len() as f32;
        }
    }
    let ink = |pixel: &f32| [' ', '·', '+', '#'][((pixel * 4.0) as usize).min(3)];
    let lines: Vec<String> = mean.chunks(8).map(|line| line.iter().map(ink).collect()).collect();
    picture.write(lines.join("\n"))?;
    Ok(rows.len())
}

/// All pictures one below the other, with how many digits each is the mean of.
#[component]
fn album(
    pictures: Vec<Input<Markdown>>,
    counts: Vec<usize>,
    labels: Vec<u8>,
    album: Output<Markdown>,
) -> TaskResult {
    let mut text = String::new();
    for ((picture, count), label) in pictures.iter().zip(counts).zip(labels) {
        text += &format!("{label} ({count} of them)\n{}\n\n", std::fs::read_to_string(picture.path()?)?);
    }
    album.write(text)
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(Components::new().with::<mean>())) {
        return code;
    }
    run().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let pipeline = Pipeline::build("means", |p| {
        let labels = p.param::<Vec<u8>>("labels", vec![0, 3, 8]);
        let raw = p.import::<Dataset>(digits::FILE);
        let means = p.parallel_for(labels, |p, label| p.add(mean(raw, label))).collect();
        p.add(album(means.picture, means.output, labels));
    })?;
    let engine = Engine::open("kf-home").await?;
    let run = engine.start(&pipeline, args! {}).await?;
    progress::watch(&run).await;
    let outcome = run.wait().await?;
    let report = engine.report(run.id()).await?;
    if let Some(digest) = report.task("album").and_then(|task| task.output_artifacts.first()?.artifact.digest)
    {
        println!("{}", String::from_utf8_lossy(&engine.home().artifacts().read(&digest).await?));
    }
    println!(
        "{}: {} tasks ran, {} came from the cache",
        outcome.state, outcome.tasks.succeeded, outcome.tasks.cached
    );
    Ok(if outcome.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
