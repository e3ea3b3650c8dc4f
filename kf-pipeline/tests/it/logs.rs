//! Logs of attempts: followed while they run, read afterwards, of every executor.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kf_core::RunId;
use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::{Error, LogChunk, LogStream, RunHandle, log_lines};
use libtest_mimic::Trial;

use crate::components::{double, flaky, make};
use crate::containers::{chain, engine, pipeline, python, shell};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_task_in_process_is_followed", || steps("in-process")),
        test("a_task_in_a_subprocess_is_followed", || steps("subprocess")),
        test("a_container_is_followed", command),
        test("a_python_step_is_followed", python_step),
        test("a_follower_may_come_before_the_attempt_begins_to_run", waits),
        test("logs_of_400_mb_are_followed_in_bounded_time", flood),
        test("each_attempt_has_a_log", attempts),
        test("a_killed_attempt_ends_its_followers", killed),
        test("logs_that_are_not_there_say_why", not_there),
        test("a_body_in_process_that_logs_much", wraps),
    ]
}

/// Says a line, then one more for each number that is put into the file.
#[component(cache = false, retries = 1)]
pub(crate) fn speak(file: String, context: Context) -> TaskResult {
    context.log("begun");
    for number in 1..=2 {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&number.to_string())) {
            if context.cancellation().is_cancelled() {
                return Err(TaskError::new("canceled"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        context.log(format!("number {number}"));
    }
    Ok(())
}

/// Logs a number in each attempt, and fails in the first.
#[component(cache = false, retries = 1)]
pub(crate) async fn says_its_number(context: Context) -> TaskResult {
    context.log(format!("attempt {}", context.attempt()));
    if context.attempt() == 1 { Err(TaskError::new("the first")) } else { Ok(()) }
}

#[component(cache = false)]
pub(crate) fn floods(megabytes: u64) -> TaskResult {
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let mut out = std::io::stdout().lock();
    for _ in 0..megabytes * 1000 {
        std::io::Write::write_all(&mut out, &line)?;
    }
    Ok(())
}

#[component(cache = false)]
fn logs_much(lines: u32, context: Context) {
    for line in 0..lines {
        context.log(format!("{line:0999}"));
    }
}

async fn text(log: LogStream) -> Vec<String> {
    log_lines(log).map(Result::unwrap).collect().await
}

/// Follows a task that says more only once the follower has heard what came before.
async fn follows(run: &RunHandle, engine: &Engine, task: &str, file: &Path) -> Done {
    let mut lines = log_lines(engine.logs(run.id(), task, None).await?);
    let mut next = async || lines.next().await.ok_or("the log has ended")?.map_err(|error| error.to_string());
    assert_eq!(next().await?, "begun");
    std::fs::write(file, "1")?;
    assert_eq!(next().await?, "number 1");
    let late = engine.logs(run.id(), task, 1).await?;
    std::fs::write(file, "1 2")?;
    assert_eq!(next().await?, "number 2");
    assert!(lines.next().await.is_none());
    let all = ["begun", "number 1", "number 2"];
    assert_eq!(text(late).await, all);
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    assert_eq!(text(engine.logs(run.id(), task, None).await?).await, all, "as the file keeps it");
    Ok(())
}

async fn steps(executor: &'static str) -> Done {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("numbers");
    let name = file.display().to_string();
    let pipeline = Pipeline::build("speaks", |p| {
        p.add(speak(name.as_str()).executor(executor));
    })?;
    let engine = Engine::open(folder.path().join("home")).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    begun(&engine, &run, "speak").await?;
    follows(&run, &engine, "speak", &file).await
}

/// Waits until a task is under way.
async fn begun(engine: &Engine, run: &RunHandle, task: &str) -> Done {
    for _ in 0..1000 {
        if engine.logs(run.id(), task, None).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err("it does not begin".into())
}

async fn command() -> Done {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("numbers");
    let script = format!(
        "echo begun; for n in 1 2; do while ! grep -q $n {0}; do sleep 0.01; done; echo number $n >&2; done",
        file.display()
    );
    std::fs::write(&file, "")?;
    let engine = engine(&folder.path().join("home")).await?;
    let run = engine.start(&pipeline(&chain(&[shell(&script)]))?, args! {}).await?;
    begun(&engine, &run, "step-0").await?;
    follows(&run, &engine, "step-0", &file).await
}

async fn python_step() -> Done {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("numbers");
    let source = format!(
        "import time\ndef f():\n    print('begun', flush=True)\n    for n in '12':\n        \
         while n not in open({:?}).read():\n            time.sleep(0.01)\n        print('number', n, flush=True)\n",
        file.display().to_string()
    );
    std::fs::write(&file, "")?;
    let engine = engine(&folder.path().join("home")).await?;
    let run = engine.start(&pipeline(&chain(&[python("", &source)]))?, args! {}).await?;
    begun(&engine, &run, "step-0").await?;
    // The executor writes a line of its own at the end.
    let mut lines = log_lines(engine.logs(run.id(), "step-0", None).await?);
    let mut heard = Vec::new();
    while let Some(line) = lines.next().await {
        let line = line?;
        match line.as_str() {
            "begun" => std::fs::write(&file, "1")?,
            "number 1" => std::fs::write(&file, "1 2")?,
            _ => {}
        }
        heard.push(line);
    }
    assert_eq!(run.wait().await?.state, RunState::Succeeded);
    assert!(heard.iter().any(|line| line == "number 2"), "{heard:?}");
    assert_eq!(text(engine.logs(run.id(), "step-0", None).await?).await, heard);
    Ok(())
}

async fn waits() -> Done {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("numbers");
    let name = file.display().to_string();
    let pipeline = Pipeline::build("speaks", |p| {
        p.add(speak(name.as_str()).executor("subprocess").named("first"));
        p.add(speak(name.as_str()).executor("subprocess").named("second"));
    })?;
    // There is room for one process: the other attempt is with its executor, and does not run.
    let engine = Engine::builder().max_subprocesses(1).open(folder.path().join("home")).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    begun(&engine, &run, "first").await?;
    begun(&engine, &run, "second").await?;
    let (mut first, mut second) = (
        log_lines(engine.logs(run.id(), "first", None).await?),
        log_lines(engine.logs(run.id(), "second", None).await?),
    );
    let one_speaks = tokio::select! {
        line = first.next() => line,
        line = second.next() => line,
    };
    assert_eq!(one_speaks.ok_or("no line")??, "begun");
    assert!(first.next().now_or_never().is_none() && second.next().now_or_never().is_none());
    std::fs::write(&file, "1 2")?;
    let (first, second) = tokio::join!(first.count(), second.count());
    assert_eq!((first.max(second), first.min(second)), (3, 2), "the rest of one and all of the other");
    assert_eq!(run.wait().await?.state, RunState::Succeeded);
    Ok(())
}

async fn flood() -> Done {
    const MEGABYTES: u64 = 400;
    let folder = tempfile::tempdir()?;
    let pipeline = Pipeline::build("floods", |p| {
        p.add(floods(MEGABYTES).executor("subprocess"));
    })?;
    let engine = Engine::open(folder.path()).await?;
    let began = Instant::now();
    let run = engine.start(&pipeline, args! {}).await?;
    begun(&engine, &run, "floods").await?;
    let mut stalls = engine.logs(run.id(), "floods", None).await?;
    let Some(Ok(LogChunk::Bytes(first))) = stalls.next().await else { return Err("no first bytes".into()) };
    let slow = tokio::spawn(bytes(engine.logs(run.id(), "floods", None).await?, Duration::from_millis(20)));
    let fast = tokio::spawn(bytes(engine.logs(run.id(), "floods", None).await?, Duration::ZERO));
    assert_eq!(run.wait().await?.state, RunState::Succeeded);
    let took = began.elapsed();
    for log in [slow, fast] {
        let (came, missed) = log.await?;
        assert_eq!(came + missed, MEGABYTES * 1_000_000);
    }
    let (came, missed) = bytes(stalls, Duration::ZERO).await;
    let came = came + first.len() as u64;
    assert_eq!((came, came + missed), (5 << 20, MEGABYTES * 1_000_000), "all that is kept");
    assert!(took < Duration::from_secs(60), "{took:?}");
    Ok(())
}

/// How many bytes came, and how many were missed.
async fn bytes(mut log: LogStream, pause: Duration) -> (u64, u64) {
    let (mut came, mut missed) = (0, 0);
    while let Some(chunk) = log.next().await {
        match chunk.unwrap() {
            LogChunk::Bytes(bytes) => came += bytes.len() as u64,
            LogChunk::Missed(bytes) => missed += bytes,
        }
        tokio::time::sleep(pause).await;
    }
    (came, missed)
}

async fn attempts() -> Done {
    let folder = tempfile::tempdir()?;
    let pipeline = Pipeline::build("numbers", |p| {
        p.add(says_its_number());
        p.add(says_its_number().executor("subprocess").named("apart"));
    })?;
    let engine = Engine::open(folder.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    assert_eq!(run.wait().await?.state, RunState::Succeeded);
    for task in ["says-its-number", "apart"] {
        assert_eq!(text(engine.logs(run.id(), task, 1).await?).await, ["attempt 1"], "{task}");
        assert_eq!(text(engine.logs(run.id(), task, 2).await?).await, ["attempt 2"], "{task}");
        assert_eq!(text(engine.logs(run.id(), task, None).await?).await, ["attempt 2"], "{task}");
        refused(&engine, run.id(), task, Some(3), "they count from 1 to 2").await?;
        refused(&engine, run.id(), task, Some(0), "there is no attempt 0").await?;
    }
    Ok(())
}

async fn killed() -> Done {
    let folder = tempfile::tempdir()?;
    let script = "echo begun; sleep 600";
    let engine = engine(folder.path()).await?;
    let run = engine.start(&pipeline(&chain(&[shell(script)]))?, args! {}).await?;
    begun(&engine, &run, "step-0").await?;
    let mut lines = log_lines(engine.logs(run.id(), "step-0", None).await?);
    assert_eq!(lines.next().await.ok_or("no line")??, "begun");
    run.cancel("enough").await;
    assert!(lines.next().await.is_none());
    assert_eq!(run.wait().await?.state, RunState::Canceled);
    assert_eq!(text(engine.logs(run.id(), "step-0", None).await?).await, ["begun"]);
    Ok(())
}

async fn refused(engine: &Engine, run: &RunId, task: &str, attempt: Option<u32>, wanted: &str) -> Done {
    match engine.logs(run, task, attempt).await {
        Err(error @ (Error::Log { .. } | Error::Run { .. })) if error.to_string().contains(wanted) => Ok(()),
        Err(error) => Err(format!("{error:?} instead of `{wanted}`").into()),
        Ok(_) => Err(format!("a log instead of `{wanted}`").into()),
    }
}

async fn not_there() -> Done {
    let folder = tempfile::tempdir()?;
    let pipeline = Pipeline::build("mixed", |p| {
        let made = p.add(make(1));
        let _ = p.parallel_for(vec![1_i64], |p, number| p.add(make(number)));
        p.add(double(made.out).executor("subprocess").cache(false));
        p.when(p.param("never", false).eq(true), |p| {
            p.add(flaky());
        });
    })?;
    let engine = Engine::open(folder.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    let id = run.id();
    refused(&engine, &"no-such-run".parse()?, "make", None, "there is no such run").await?;
    refused(&engine, id, "no-such-task", None, "no such task").await?;
    refused(&engine, id, "../../x", None, "no such task").await?;
    refused(&engine, id, "for-loop-1", None, "a loop or a group").await?;
    refused(&engine, id, "make", Some(2), "there is no attempt 2, only the first").await?;
    refused(&engine, id, "make", None, "ran in the engine's process and wrote no log").await?;
    refused(&engine, id, "double", None, "it printed nothing").await?;
    let again = engine.start(&pipeline, args! {}).await?;
    again.wait().await?;
    refused(&engine, again.id(), "make", None, "those of an earlier execution").await?;
    // What another machine's home holds.
    std::fs::remove_dir_all(engine.home().run_dir(id))?;
    refused(&engine, id, "double", None, "executor `subprocess`").await?;
    refused(&engine, id, "double", None, "another machine").await
}

async fn wraps() -> Done {
    let folder = tempfile::tempdir()?;
    let pipeline = Pipeline::build("much", |p| {
        p.add(logs_much(8000_u32));
    })?;
    let engine = Engine::open(folder.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    begun(&engine, &run, "logs-much").await?;
    let followed = bytes(engine.logs(run.id(), "logs-much", None).await?, Duration::ZERO).await;
    assert_eq!(run.wait().await?.state, RunState::Succeeded);
    assert_eq!(followed.0 + followed.1, 8_000_000);
    let kept = text(engine.logs(run.id(), "logs-much", None).await?).await;
    assert_eq!(kept.first(), Some(&"0".repeat(999)));
    assert_eq!(kept.last(), Some(&format!("{:0999}", 7999)));
    assert!(
        kept.contains(&format!("[… {} bytes left out …]", 8_000_000 - (5 << 20))),
        "{} lines",
        kept.len()
    );
    Ok(())
}
