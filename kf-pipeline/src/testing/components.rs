//! What the suite's pipelines are made of. Whoever carries tasks away from this process has these among its workers.

use std::time::{Duration, Instant};

use crate::prelude::*;

/// The components of the suite.
pub fn components() -> Components {
    Components::new()
        .with::<echo>()
        .with::<write>()
        .with::<read>()
        .with::<refuse>()
        .with::<stumble>()
        .with::<burst>()
        .with::<forget>()
        .with::<linger>()
        .with::<tell>()
        .with::<square>()
        .with::<stamp>()
}

/// What it was given.
#[derive(Outputs)]
pub(super) struct Echo {
    pub(super) text: String,
    pub(super) number: i64,
    pub(super) share: f64,
    pub(super) list: Vec<String>,
}

#[component]
pub(super) async fn echo(text: String, number: i64, share: f64, list: Vec<String>) -> Echo {
    Echo { text, number, share, list }
}

/// A file, and a folder of two.
#[component]
pub(super) async fn write(text: String, file: Output<Dataset>, folder: Output<Model>) -> TaskResult {
    file.set_metadata("length", i64::try_from(text.len())?)?;
    file.write(&text)?;
    std::fs::create_dir_all(folder.path().join("inner"))?;
    std::fs::write(folder.path().join("one"), &text)?;
    Ok(std::fs::write(folder.path().join("inner/two"), "2")?)
}

/// What was written, and where.
#[component]
pub(super) fn read(file: Input<Dataset>, folder: Input<Model>) -> TaskResult<String> {
    let folder = folder.path()?;
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path);
    let length = file.metadata().get("length").cloned().unwrap_or_default();
    let text = read(file.path()?.to_owned())?;
    Ok(format!("{text} {length} {} {}", read(folder.join("one"))?, read(folder.join("inner/two"))?))
}

#[component(retries = 3)]
pub(super) async fn refuse(context: Context) -> TaskResult {
    Err(TaskError::permanent(format!("attempt {} has no use", context.attempt())))
}

#[component(retries = 2)]
pub(super) async fn stumble(context: Context) -> TaskResult<i64> {
    match context.attempt() {
        1 => Err(TaskError::new("the first step is hard")),
        attempt => Ok(attempt.into()),
    }
}

#[component]
#[expect(clippy::panic, reason = "that is what it is for")]
pub(super) async fn burst() -> TaskResult {
    panic!("too full")
}

#[component]
pub(super) async fn forget(out: Output<Dataset>) {
    drop(out);
}

/// Blocks for so many seconds, or until it was asked to end.
#[component]
pub(super) fn linger(seconds: f64, context: Context) {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    context.log("here");
    while Instant::now() < until && !context.cancellation().is_cancelled() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[component]
pub(super) async fn tell(lines: i64, context: Context) {
    for line in 0..lines {
        context.log(format!("line {line}"));
    }
}

#[component]
pub(super) async fn square(number: i64) -> i64 {
    number * number
}

/// What no other attempt gives, after so many seconds.
#[component(cache = false)]
pub(super) fn stamp(seconds: f64) -> TaskResult<String> {
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(format!("{} at {} ns", std::process::id(), began.as_nanos()))
}
