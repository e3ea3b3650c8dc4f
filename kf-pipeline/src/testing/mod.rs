//! The conformance suite of [`Executor`]: one function per behaviour. Each panics with what it found where the
//! implementation does otherwise.
//!
//! ```
//! use kf_pipeline::Engine;
//! use kf_pipeline::testing::{Setup, executor_conformance};
//!
//! # #[tokio::main]
//! # async fn main() -> kf_pipeline::Result<()> {
//! # let home = tempfile::tempdir().unwrap();
//! let engine = Engine::open(home.path()).await?;
//! executor_conformance(&Setup::new(engine, "in-process")).await;
//! # Ok(()) }
//! ```
//!
//! Where the executor runs attempts in other processes, these have the suite's [`components`] among their workers. One whose
//! attempts outlive the engine has a [second suite](outliving_conformance), which knows no engine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite says by a panic what is wrong")]

mod components;
mod outliving;

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kf_core::metadata::RunState;

pub use self::components::components;
use self::components::{burst, echo, forget, linger, read, refuse, square, stumble, tell, write};
pub use self::outliving::{
    OutlivingSetup, an_attempt_is_found_again_and_tells_its_end_until_released,
    an_attempt_submitted_twice_runs_once, nothing_stays_of_a_run_that_is_over, outliving_conformance,
    what_is_taken_away_is_lost, what_nobody_submitted_is_gone,
};
#[cfg(doc)]
use crate::Executor;
use crate::{Args, Engine, Pipeline, RunEvent, RunHandle, RunOutcome, StartOptions, args, log_lines};

/// How long a run of the suite may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the suite is run over.
#[derive(Debug)]
pub struct Setup {
    engine: Engine,
    executor: String,
}

impl Setup {
    /// Of an engine and the name that it has the executor under.
    pub fn new(engine: Engine, executor: impl Into<String>) -> Self {
        Self { engine, executor: executor.into() }
    }

    async fn start(&self, pipeline: &Pipeline, args: Args) -> RunHandle {
        self.engine.start_with(pipeline, args, StartOptions::new().no_cache()).await.unwrap()
    }

    async fn run(&self, pipeline: &Pipeline, args: Args) -> RunOutcome {
        let run = self.start(pipeline, args).await;
        self.end(&run).await
    }

    async fn end(&self, run: &RunHandle) -> RunOutcome {
        let ended = tokio::time::timeout(PATIENCE, run.wait()).await;
        ended.unwrap_or_else(|_| panic!("the run has not ended after {PATIENCE:?}")).unwrap()
    }

    /// Why a pipeline's run failed, and in how many attempts of its task.
    async fn failure(&self, pipeline: &Pipeline, task: &str) -> (String, u32) {
        let outcome = self.run(pipeline, args! {}).await;
        assert_eq!(outcome.state, RunState::Failed);
        let report = self.engine.report(&outcome.run).await.unwrap();
        let attempts = report.task(task).unwrap().attempts;
        (outcome.error.unwrap(), attempts)
    }
}

/// Runs every behaviour, one after the other, and names each on standard error.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn executor_conformance(setup: &Setup) {
    macro_rules! each {
        ($($behaviour:ident)*) => { $(
            // What a panic below is of.
            eprintln!("executor conformance: {}", stringify!($behaviour));
            Box::pin($behaviour(setup)).await;
        )* };
    }
    each! {
        parameters_come_back_as_they_went
        large_parameters_go_too
        artifacts_flow
        errors_are_told_and_permanent_ones_are_final
        attempts_follow_one_another
        a_panic_is_told
        what_was_promised_must_be_given
        time_runs_out
        cancelling_ends_it
        tasks_run_side_by_side
        logs_are_followed_and_kept
    }
}

/// Texts of any characters, numbers to the last bit, lists.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn parameters_come_back_as_they_went(setup: &Setup) {
    let text = "ä \"quoted\" $(HOME) ${HOME} $$ {{$.inputs}} \n\t\u{1f980} \\";
    let list = vec![String::new(), "a b".to_owned(), "['x']".to_owned()];
    let pipeline = Pipeline::build("echo", |p| {
        let told = p.add(echo(text, i64::MIN + 1, 0.1 + 0.2, list.clone()).executor(&setup.executor));
        p.output("text", told.text);
        p.output("number", told.number);
        p.output("share", told.share);
        p.output("list", told.list);
    })
    .unwrap();
    let outcome = setup.run(&pipeline, args! {}).await;
    assert_eq!((outcome.state, &outcome.error), (RunState::Succeeded, &None));
    assert_eq!(outcome.output::<String>("text").unwrap(), text);
    assert_eq!(outcome.output::<i64>("number").unwrap(), i64::MIN + 1);
    assert_eq!(outcome.output::<f64>("share").unwrap().to_bits(), (0.1_f64 + 0.2).to_bits());
    assert_eq!(outcome.output::<Vec<String>>("list").unwrap(), list);
}

/// A parameter of half a megabyte, in and out.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn large_parameters_go_too(setup: &Setup) {
    let pipeline = Pipeline::build("large", |p| {
        let text = p.required_param::<String>("text");
        let told = p.add(echo(text, 1, 1.0, Vec::<String>::new()).executor(&setup.executor));
        p.output("text", told.text);
    })
    .unwrap();
    let text = "0123456789abcdef".repeat(32 << 10);
    let outcome = setup.run(&pipeline, args! { "text" => text.clone() }).await;
    assert_eq!((outcome.state, &outcome.error), (RunState::Succeeded, &None));
    assert!(outcome.output::<String>("text").unwrap() == text);
}

/// A file with metadata and a folder, from one task to another.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn artifacts_flow(setup: &Setup) {
    let pipeline = Pipeline::build("flow", |p| {
        let written = p.add(write("content").executor(&setup.executor));
        let read = p.add(read(written.file, written.folder).executor(&setup.executor));
        p.output("read", read.output);
    })
    .unwrap();
    let outcome = setup.run(&pipeline, args! {}).await;
    assert_eq!((outcome.state, &outcome.error), (RunState::Succeeded, &None));
    assert_eq!(outcome.output::<String>("read").unwrap(), "content 7 content 2");
    let report = setup.engine.report(&outcome.run).await.unwrap();
    let artifacts = &report.task("write").unwrap().output_artifacts;
    assert_eq!(artifacts.len(), 2);
    for artifact in artifacts {
        let digest = artifact.artifact.digest.unwrap();
        assert!(setup.engine.home().artifacts().contains(&digest).await.unwrap());
    }
}

/// Though more attempts would be allowed.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn errors_are_told_and_permanent_ones_are_final(setup: &Setup) {
    let pipeline = Pipeline::build("refuse", |p| {
        p.add(refuse().executor(&setup.executor));
    });
    let (error, attempts) = setup.failure(&pipeline.unwrap(), "refuse").await;
    assert!(error.contains("attempt 1 has no use"), "{error}");
    assert_eq!(attempts, 1);
}

/// A second attempt knows that it is one.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn attempts_follow_one_another(setup: &Setup) {
    let pipeline = Pipeline::build("stumble", |p| {
        let stumbled = p.add(stumble().executor(&setup.executor));
        p.output("attempt", stumbled.output);
    })
    .unwrap();
    let run = setup.start(&pipeline, args! {}).await;
    let failed = run.events().filter_map(async |event| match event {
        RunEvent::AttemptFailed { error, .. } => Some(error),
        _ => None,
    });
    let failed: Vec<_> = failed.collect().await;
    assert!(failed.len() == 1 && failed[0].contains("the first step is hard"), "{failed:?}");
    assert_eq!(setup.end(&run).await.output::<i64>("attempt").unwrap(), 2);
}

/// It ends the attempt and nothing else.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn a_panic_is_told(setup: &Setup) {
    let pipeline = Pipeline::build("burst", |p| {
        p.add(burst().executor(&setup.executor));
    });
    let (error, _) = setup.failure(&pipeline.unwrap(), "burst").await;
    assert!(error.contains("too full"), "{error}");
}

/// An output that was not written is an error that names it.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn what_was_promised_must_be_given(setup: &Setup) {
    let pipeline = Pipeline::build("forget", |p| {
        p.add(forget().executor(&setup.executor));
    });
    let (error, _) = setup.failure(&pipeline.unwrap(), "forget").await;
    assert!(error.contains("wrote nothing to its output `out`"), "{error}");
}

/// A task past its timeout has failed, long before it would have ended.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn time_runs_out(setup: &Setup) {
    let pipeline = Pipeline::build("late", |p| {
        p.add(linger(60.0).executor(&setup.executor).timeout(Duration::from_secs(2)));
    });
    let began = Instant::now();
    let (error, attempts) = setup.failure(&pipeline.unwrap(), "linger").await;
    assert!(error.contains("longer than its timeout of 2s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(50));
    assert_eq!(attempts, 1);
}

/// Before it would have ended by itself.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn cancelling_ends_it(setup: &Setup) {
    let pipeline = Pipeline::build("cancel", |p| {
        p.add(linger(60.0).executor(&setup.executor));
    });
    let run = setup.start(&pipeline.unwrap(), args! {}).await;
    let mut events = run.events();
    while !matches!(events.next().await, Some(RunEvent::TaskStarted { .. })) {}
    let begun = setup.engine.logs(run.id(), "linger", 1);
    let line = tokio::time::timeout(PATIENCE, async { log_lines(begun.await.unwrap()).next().await });
    assert_eq!(line.await.unwrap().unwrap().unwrap(), "here");
    let began = Instant::now();
    run.cancel("enough").await;
    let outcome = setup.end(&run).await;
    assert_eq!((outcome.state, outcome.tasks.canceled), (RunState::Canceled, 1));
    assert!(began.elapsed() < Duration::from_secs(50));
}

/// Each gets its own back.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn tasks_run_side_by_side(setup: &Setup) {
    let pipeline = Pipeline::build("squares", |p| {
        let numbers = p.param::<Vec<i64>>("numbers", (0..8).collect::<Vec<_>>());
        let each = p.parallel_for(numbers, |p, number| p.add(square(number).executor(&setup.executor)));
        p.output("squares", each.collect().output);
    })
    .unwrap();
    let outcome = setup.run(&pipeline, args! {}).await;
    assert_eq!((outcome.state, &outcome.error), (RunState::Succeeded, &None));
    assert_eq!(outcome.output::<Vec<i64>>("squares").unwrap(), [0, 1, 4, 9, 16, 25, 36, 49]);
}

/// All lines, in order, while they come and afterwards.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn logs_are_followed_and_kept(setup: &Setup) {
    let pipeline = Pipeline::build("tell", |p| {
        p.add(tell(1000).executor(&setup.executor));
    });
    let run = setup.start(&pipeline.unwrap(), args! {}).await;
    setup.end(&run).await;
    let log = setup.engine.logs(run.id(), "tell", 1).await.unwrap();
    let lines: Vec<String> = log_lines(log).try_collect().await.unwrap();
    let expected: Vec<_> = (0..1000).map(|line| format!("line {line}")).collect();
    let told: Vec<_> = lines.into_iter().filter(|line| line.starts_with("line ")).collect();
    assert!(told == expected, "{told:?}");
}
