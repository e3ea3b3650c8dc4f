//! How jobs begin.

use serde_json::Value;

use super::setup::{Setup, attempt_id, nothing_runs};
use crate::contract::Framework;
use crate::{Error, Job, JobEnd, JobEvent, JobHandle};

/// The same attempt id is the same job, for the same spec, and refused for another; its handle can be stored.
pub async fn submitting_again_is_the_same_job(setup: &Setup) {
    let job = setup.script("while :; do echo tick; sleep 0.1; done", 2);
    let running = setup.start(&job).await;
    let spec = job.spec().unwrap().clone();
    let again = setup.launcher().submit(spec.clone(), &running.handle.attempt_id);
    let again = setup.within("a job is submitted again", again).await.unwrap();
    assert_eq!(again, running.handle);
    let stored = serde_json::to_string(&again).unwrap();
    let found: JobHandle = serde_json::from_str(&stored).unwrap();
    setup.within("a job is found again", setup.launcher().attach(&found)).await.unwrap();

    let other = setup.script("while :; do echo tock; sleep 0.1; done", 2);
    let other = other.spec().unwrap().clone();
    let conflict = setup.launcher().submit(other, &found.attempt_id);
    let conflict = setup.within("another job is submitted", conflict).await;
    assert!(matches!(conflict, Err(Error::Conflict { .. })), "{conflict:?}");

    running.until_all_print(2, "tick").await;
    running.cancel().await;
    let told = running.ended().await;
    let started = told.count(|event| matches!(event, JobEvent::RankStarted { .. }));
    assert_eq!(started, 2, "ranks started for two ranks that were submitted twice");
    // It is the same job still, and is not run again.
    let again = setup.launcher().submit(spec, &found.attempt_id);
    let again = setup.within("an ended job is submitted again", again).await.unwrap();
    assert_eq!(again, found);
    nothing_runs(setup, &found, &told).await;
}

/// What is asked of a job that nobody submitted is [`Error::Unknown`].
pub async fn what_is_unknown_is_told(setup: &Setup) {
    let running = setup.start(&setup.script("true", 1)).await;
    let unknown = JobHandle::new(running.handle.launcher.clone(), attempt_id());
    running.ended().await;
    let launcher = setup.launcher();
    let answers = [
        ("attach", launcher.attach(&unknown).await.err()),
        ("events", launcher.events(&unknown).await.err()),
        ("status", launcher.status(&unknown).await.err()),
        ("logs", launcher.logs(&unknown, 0).await.err()),
        ("cancel", launcher.cancel(&unknown).await.err()),
    ];
    for (call, answer) in answers {
        assert!(matches!(answer, Some(Error::Unknown { .. })), "{call} of an unknown job: {answer:?}");
    }
}

/// What can't be started is [`Error::Job`], and leaves no job.
pub async fn jobs_that_are_wrong_are_refused(setup: &Setup) {
    let right = setup.script("true", 1).spec().unwrap().clone();
    let none = crate::JobSpec { ranks_per_node: 0, ..right.clone() };
    let unnamed = crate::JobSpec { env: [("A=B".to_owned(), String::new())].into(), ..right };
    for wrong in [none, unnamed] {
        let id = attempt_id();
        let refused = setup.within("a wrong job is submitted", setup.launcher().submit(wrong, &id)).await;
        assert!(matches!(refused, Err(Error::Job { .. })), "{refused:?}");
    }
}

/// A rank finds its framework's environment, and the job's own variables.
pub async fn the_environment_is_the_frameworks(setup: &Setup) {
    let script = r#"test -n "$MASTER_ADDR" && test "$MASTER_PORT" -gt 0 && echo "$RANK/$WORLD_SIZE $LOCAL_RANK $MINE""#;
    let job = setup.script(script, 2).env("MINE", "a b").env("RANK", "77");
    let told = setup.start(&job).await.ended().await;
    assert_eq!((told.lines(0), told.lines(1)), (vec!["0/2 0 a b"], vec!["1/2 1 a b"]), "{:?}", told.end());

    let script = r#"echo "$JAX_PROCESS_ID/$JAX_NUM_PROCESSES"; test -n "$JAX_COORDINATOR_ADDRESS""#;
    let told = setup.start(&setup.script(script, 2).framework(Framework::Jax)).await.ended().await;
    assert_eq!((told.lines(0), told.lines(1)), (vec!["0/2"], vec!["1/2"]), "{:?}", told.end());
    assert!(matches!(told.end(), JobEnd::Succeeded { .. }), "{:?}", told.end());
}

/// Two jobs run at the same time, and what is done to one does nothing to the other.
pub async fn jobs_run_side_by_side(setup: &Setup) {
    let job = |name: &str| setup.script(&format!("while :; do echo {name}; sleep 0.1; done"), 2);
    let (first, second) = (job("first"), job("second"));
    let (first, second) = tokio::join!(setup.start(&first), setup.start(&second));
    assert_ne!(first.handle, second.handle);
    for (running, text) in [(&first, "first"), (&second, "second")] {
        running.until_all_print(2, text).await;
    }
    let first_handle = first.handle.clone();
    first.cancel().await;
    let told = first.ended().await;
    nothing_runs(setup, &first_handle, &told).await;
    let printed = second.log(1).await.len();
    setup.until("the other job goes on", async || second.log(1).await.len() > printed).await;
    assert!(!second.status().await.is_over());
    assert!(!second.log(1).await.contains("first") && !told.lines(0).contains(&"second"));
    second.cancel().await;
    assert_eq!(*second.ended().await.end(), JobEnd::Canceled);
}

/// A function of the program returns its result, where the setup [has one](method@Setup::entry).
pub async fn an_entry_returns_its_result(setup: &Setup) {
    let Some((job, expected)) = setup.entry.clone() else { return };
    let run = crate::run::<Value>(setup.launcher(), Job::of(job.spec().unwrap().clone()));
    assert_eq!(setup.within("an entry's result", run).await.unwrap(), expected);
}
