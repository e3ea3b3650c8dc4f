//! The conformance suite of executors whose attempts [outlive the engine](Executor::outlives_engine), without an engine: one
//! function per behaviour.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use kf_core::artifact::Metadata;
use kf_core::{CancellationToken, RunId};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use super::PATIENCE;
use super::components::{components, stamp};
use crate::component::ProgressSink;
use crate::component::checkpoint::Origin;
use crate::placeholder::RunNames;
use crate::scheduler::Values;
use crate::{
    Attempt, AttemptEnd, AttemptHandle, AttemptStatus, Executor, ExecutorError, Pipeline, Submission, Work,
};

type Lose = dyn Fn(AttemptHandle) -> BoxFuture<'static, ()> + Send + Sync;

/// What the suite is run over.
pub struct OutlivingSetup {
    executor: Box<dyn Fn() -> Arc<dyn Executor> + Send + Sync>,
    lose: Option<Box<Lose>>,
    folder: TempDir,
}

impl std::fmt::Debug for OutlivingSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutlivingSetup").field("folder", &self.folder.path()).finish_non_exhaustive()
    }
}

impl OutlivingSetup {
    /// `executor` gives another one each time, which knows nothing of those before, as that of a restarted engine does. What
    /// runs its attempts has the suite's [`components`] among its workers.
    ///
    /// # Panics
    /// Where no temporary folder can be made.
    pub fn new(executor: impl Fn() -> Arc<dyn Executor> + Send + Sync + 'static) -> Self {
        Self { executor: Box::new(executor), lose: None, folder: tempfile::tempdir().unwrap() }
    }

    /// And this takes away what carries an attempt.
    #[must_use]
    pub fn lose(
        mut self,
        lose: impl Fn(AttemptHandle) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        self.lose = Some(Box::new(lose));
        self
    }

    fn executor(&self) -> Arc<dyn Executor> {
        (self.executor)()
    }

    /// The first attempt of a run's only task, which lasts so long.
    fn attempt(&self, run: &RunId, seconds: f64) -> Arc<Attempt> {
        let pipeline = Pipeline::build("outliving", |p| {
            p.add(stamp(seconds));
        });
        let pipeline = pipeline.unwrap();
        let executor = pipeline.plan().executors().next().unwrap();
        let (components, task) = (components(), Arc::<str>::from("stamp"));
        let root = self.folder.path().join(run.as_str());
        Arc::new(Attempt {
            run: run.clone(),
            task: Arc::clone(&task),
            number: 1,
            work: Work::Component(Arc::clone(components.get("stamp").unwrap())),
            parameters: vec![(Arc::from("seconds"), Arc::new(json!(seconds)))],
            artifacts: Default::default(),
            outputs: Default::default(),
            resources: Default::default(),
            timeout: None,
            dir: root.join("stamp/1"),
            cancel: CancellationToken::new(),
            trace: None,
            declared: Arc::clone(&executor.outputs),
            names: Arc::new(RunNames {
                resource_name: "outliving-12345".into(),
                uuid: run.to_string(),
                created_at: "2026-01-01T00:00:00Z".into(),
                root: root.display().to_string(),
                workspace: root.join("workspace").display().to_string(),
                succeeded: crate::TaskState::Succeeded.as_str(),
            }),
            scratch: Arc::from("scratch"),
            progress: ProgressSink(Arc::new(|_| {})),
            state: Arc::new(components.state.clone()),
            report: None,
            memory: None,
            checkpoint: Origin {
                run: Arc::from(root.as_path()),
                task,
                inputs: Values::none(),
                epoch: 1,
                attempt: 1,
                in_store: None,
            },
            _permit: Default::default(),
        })
    }
}

/// Runs every behaviour, one after the other, and names each on standard error.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn outliving_conformance(setup: &OutlivingSetup) {
    macro_rules! each {
        ($($behaviour:ident)*) => { $(
            // What a panic below is of.
            eprintln!("executor conformance: {}", stringify!($behaviour));
            Box::pin($behaviour(setup)).await;
        )* };
    }
    assert!(setup.executor().outlives_engine());
    each! {
        an_attempt_submitted_twice_runs_once
        an_attempt_is_found_again_and_tells_its_end_until_released
        nothing_stays_of_a_run_that_is_over
        what_nobody_submitted_is_gone
        what_is_taken_away_is_lost
    }
}

async fn submit(executor: &Arc<dyn Executor>, attempt: &Arc<Attempt>) -> Submission {
    timeout(PATIENCE, executor.submit(Arc::clone(attempt))).await.unwrap().unwrap()
}

async fn end_of(submission: Submission) -> AttemptEnd {
    let told = timeout(PATIENCE, submission.status.collect::<Vec<_>>()).await;
    let told = told.unwrap_or_else(|_| panic!("the attempt has not ended after {PATIENCE:?}"));
    let mut ends = told.into_iter().rev();
    match ends.next() {
        Some(AttemptStatus::Ended(end)) => {
            assert!(!ends.any(|status| matches!(status, AttemptStatus::Ended(_))), "it ended twice");
            end
        }
        last => panic!("the last that was told is no end: {last:?}"),
    }
}

async fn given_by(submission: Submission) -> Metadata {
    match end_of(submission).await {
        AttemptEnd::Succeeded(outputs) => outputs.parameters,
        end => panic!("it did not succeed: {end:?}"),
    }
}

/// Waits until it runs, and leaves it.
async fn runs(submission: &mut Submission) {
    let running = async {
        loop {
            match submission.status.next().await {
                Some(AttemptStatus::Running) => return,
                Some(AttemptStatus::Ended(end)) => panic!("it has ended: {end:?}"),
                Some(_) => {}
                None => panic!("no more is told"),
            }
        }
    };
    timeout(PATIENCE, running).await.unwrap();
}

/// Another executor does not find it any more, by and by.
async fn is_gone(setup: &OutlivingSetup, handle: &AttemptHandle) {
    let until = Instant::now() + PATIENCE;
    loop {
        match setup.executor().attach(handle).await {
            Err(ExecutorError::Gone(gone)) => {
                assert_eq!(&gone, handle);
                return;
            }
            found => assert!(Instant::now() < until, "it is still there: {found:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// By the same executor, and by another.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn an_attempt_submitted_twice_runs_once(setup: &OutlivingSetup) {
    let run = RunId::random();
    let (one, other) = (setup.executor(), setup.executor());
    let attempt = setup.attempt(&run, 2.0);
    let first = submit(&one, &attempt).await;
    let second = submit(&other, &setup.attempt(&run, 2.0)).await;
    assert_eq!((&first.handle, &second.handle), (&attempt.handle(), &attempt.handle()));
    let (first, second) = tokio::join!(given_by(first), given_by(second));
    let again = given_by(submit(&one, &attempt).await).await;
    assert!(first.contains_key("Output"), "{first:?}");
    assert_eq!((&second, &again), (&first, &first));
    one.end_run(&run).await.unwrap();
}

/// While it runs, and when it has ended; where the first executor is gone.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn an_attempt_is_found_again_and_tells_its_end_until_released(setup: &OutlivingSetup) {
    let run = RunId::random();
    let attempt = setup.attempt(&run, 3.0);
    let handle = attempt.handle();
    let first = setup.executor();
    let mut submission = submit(&first, &attempt).await;
    runs(&mut submission).await;
    drop((submission, first));
    let second = setup.executor();
    let given = given_by(second.attach(&handle).await.unwrap()).await;
    drop(second);
    let third = setup.executor();
    assert_eq!(given_by(third.attach(&handle).await.unwrap()).await, given);
    third.release(&handle).await;
    is_gone(setup, &handle).await;
    third.end_run(&run).await.unwrap();
}

/// What still runs of it is ended.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn nothing_stays_of_a_run_that_is_over(setup: &OutlivingSetup) {
    let (run, other) = (RunId::random(), RunId::random());
    let executor = setup.executor();
    let attempt = setup.attempt(&run, 300.0);
    let mut submission = submit(&executor, &attempt).await;
    let untouched = submit(&executor, &setup.attempt(&other, 3.0)).await;
    runs(&mut submission).await;
    drop(submission);
    executor.end_run(&run).await.unwrap();
    is_gone(setup, &attempt.handle()).await;
    // Not those of other runs.
    assert!(given_by(untouched).await.contains_key("Output"));
    executor.end_run(&other).await.unwrap();
}

/// It is an error that names it.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn what_nobody_submitted_is_gone(setup: &OutlivingSetup) {
    let handle = setup.attempt(&RunId::random(), 0.0).handle();
    let found = setup.executor().attach(&handle).await;
    assert!(matches!(&found, Err(ExecutorError::Gone(gone)) if *gone == handle), "{found:?}");
}

/// It is no failure of the task; where the setup knows how to take it away.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn what_is_taken_away_is_lost(setup: &OutlivingSetup) {
    let Some(lose) = &setup.lose else { return };
    let run = RunId::random();
    let executor = setup.executor();
    let attempt = setup.attempt(&run, 300.0);
    let mut submission = submit(&executor, &attempt).await;
    runs(&mut submission).await;
    lose(attempt.handle()).await;
    match end_of(submission).await {
        AttemptEnd::Lost { message } => assert!(!message.is_empty()),
        end => panic!("it was taken away, and is not lost: {end:?}"),
    }
    executor.end_run(&run).await.unwrap();
}
