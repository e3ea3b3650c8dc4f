//! How jobs end.

use std::time::Duration;

use kf_core::process::Exit;

use super::setup::{Setup, attempt_id, nothing_runs, status};
use crate::{ConditionType, Error, Failure, Job, JobEnd, JobEvent, RankEnd};

/// Prints for ever.
const TICKS: &str = "while :; do echo tick; sleep 0.1; done";

/// A cancelled job ends, with all its ranks; cancelling it again does nothing.
pub async fn cancelling_leaves_nothing_running(setup: &Setup) {
    let running = setup.start(&setup.script(TICKS, 2)).await;
    running.until_all_print(2, "tick").await;
    running.cancel().await;
    running.cancel().await;
    let handle = running.handle.clone();
    let told = running.ended().await;
    assert_eq!(*told.end(), JobEnd::Canceled);
    nothing_runs(setup, &handle, &told).await;
    setup.within("an ended job is cancelled", setup.launcher().cancel(&handle)).await.unwrap();
}

/// Where nobody waits for a job any more, it is cancelled, unless jobs outlive their callers.
pub async fn a_dropped_run_cancels(setup: &Setup) {
    let launcher = setup.launcher();
    let id = attempt_id();
    let job = setup.script(TICKS, 2).attempt_id(&id);
    let spec = job.spec().unwrap().clone();
    let (told, mut started) = tokio::sync::mpsc::unbounded_channel();
    let job = job.on_event(move |event| {
        if let JobEvent::RankStarted { .. } = event {
            // Who listens may be gone.
            let _ = told.send(());
        }
    });
    tokio::select! {
        result = crate::run::<()>(launcher, job) => panic!("a job without end has ended: {result:?}"),
        () = setup.within("both ranks start", async {
            for _ in 0..2 {
                started.recv().await;
            }
        }) => {}
    }
    // Submitted again, it is the same job.
    let handle = setup.within("the job is submitted again", launcher.submit(spec, &id)).await.unwrap();
    if launcher.jobs_outlive_caller() {
        assert!(!status(setup, &handle).await.is_over(), "a job that outlives its caller has ended with it");
        setup.within("the job is cancelled", launcher.cancel(&handle)).await.unwrap();
    }
    setup.until("the job ends", async || status(setup, &handle).await.is_over()).await;
    let ended = status(setup, &handle).await;
    assert_eq!(ended.condition(ConditionType::Failed).map(|failed| &*failed.reason), Some("Canceled"));
}

/// A failed rank is named, with its exit code, its error file and its last lines, and the others are ended.
pub async fn a_failure_names_the_rank(setup: &Setup) {
    let fails = setup.fails(3);
    let script = format!(
        r#"if [ "$RANK" = 1 ]; then
            echo 'about to fail'
            echo '{{"message": {{"message": "ValueError: too large", "extraInfo": {{}}}}}}' > "$TORCHELASTIC_ERROR_FILE"
            {fails}
        fi; {TICKS}"#
    );
    let running = setup.start(&setup.script(&script, 2)).await;
    let handle = running.handle.clone();
    let told = running.ended().await;
    let failure = failure(told.end());
    assert_eq!((failure.rank, failure.world_size), (1, 2));
    assert_eq!(failure.end, RankEnd::Exited(Exit::Code(3)));
    assert_eq!(failure.message.as_deref(), Some("ValueError: too large"));
    assert!(failure.last_lines.iter().any(|line| line == "about to fail"), "{failure:?}");
    told.place("the failed rank's end", |event| {
        *event == JobEvent::RankEnded { rank: 1, exit: Exit::Code(3) }
    });
    told.place("the other rank's end", |event| matches!(event, JobEvent::RankEnded { rank: 0, .. }));
    nothing_runs(setup, &handle, &told).await;
    let status = status(setup, &handle).await;
    let failed = status.condition(ConditionType::Failed).unwrap();
    assert!(failed.message.contains("rank 1 of 2") && failed.message.contains("too large"), "{failed:?}");

    let error = crate::run::<()>(setup.launcher(), setup.script("exit 4", 1));
    let error = setup.within("a job fails", error).await.unwrap_err();
    assert!(matches!(error, Error::RankFailed { .. }), "{error}");
}

fn failure(end: &JobEnd) -> &Failure {
    match end {
        JobEnd::Failed(failure) => failure,
        other => panic!("a failure is expected: {other:?}"),
    }
}

/// Rank 1 fails until all ranks were started so many times anew.
fn fails_until(setup: &Setup, restarts: u64, max: u64) -> Job {
    let fails = setup.fails(5);
    let script = format!(
        r#"echo "start $TORCHELASTIC_RESTART_COUNT of $TORCHELASTIC_MAX_RESTARTS"
        if [ "$TORCHELASTIC_RESTART_COUNT" -ge {restarts} ]; then exit 0; fi
        if [ "$RANK" = 1 ]; then {fails}; fi; sleep 600"#
    );
    setup.script(&script, 2).max_restarts(max)
}

/// All ranks are started anew when one has failed; each time is told, and counted.
pub async fn restarts_are_counted(setup: &Setup) {
    let running = setup.start(&fails_until(setup, 2, 3)).await;
    let handle = running.handle.clone();
    let told = running.ended().await;
    assert!(matches!(told.end(), JobEnd::Succeeded { .. }), "{:?}", told.end());
    let restarts = told.0.iter().filter_map(|event| match event {
        JobEvent::Restarting { restarts, failure } => Some((*restarts, failure.rank, failure.end)),
        _ => None,
    });
    let five = RankEnd::Exited(Exit::Code(5));
    assert_eq!(restarts.collect::<Vec<_>>(), [(1, 1, five), (2, 1, five)]);
    for of in 0..2 {
        let started = told.count(|event| matches!(event, JobEvent::RankStarted { rank, .. } if *rank == of));
        let ended = told.count(|event| matches!(event, JobEvent::RankEnded { rank, .. } if *rank == of));
        assert_eq!((started, ended), (3, 3), "starts and ends of rank {of}, in {:#?}", told.0);
        assert_eq!(told.lines(of), ["start 0 of 3", "start 1 of 3", "start 2 of 3"]);
    }
    let status = status(setup, &handle).await;
    assert_eq!(status.restarts, 2);
    assert_eq!(status.ranks.iter().map(|rank| rank.restarts).collect::<Vec<_>>(), [2, 2]);
    let restarting = status.condition(ConditionType::Restarting);
    assert!(restarting.is_some() && !status.is(ConditionType::Restarting), "{status:?}");
}

/// When there is no restart left, a failure is the job's.
pub async fn restarts_run_out(setup: &Setup) {
    let told = setup.start(&fails_until(setup, 9, 1)).await.ended().await;
    assert_eq!(told.count(|event| matches!(event, JobEvent::Restarting { .. })), 1);
    assert_eq!(failure(told.end()).end, RankEnd::Exited(Exit::Code(5)));
}

/// A job that is not done in its time is ended, and says so.
pub async fn time_runs_out(setup: &Setup) {
    let after = Duration::from_secs(2);
    let running = setup.start(&setup.script(TICKS, 2).timeout(after)).await;
    let handle = running.handle.clone();
    let told = running.ended().await;
    assert_eq!(*told.end(), JobEnd::TimedOut { after });
    nothing_runs(setup, &handle, &told).await;
    let status = status(setup, &handle).await;
    assert_eq!(status.condition(ConditionType::Failed).unwrap().reason, "DeadlineExceeded");
}

/// A rank that tells no progress for too long has failed, and is named; the restarts are for it, too.
pub async fn silence_ends_a_rank(setup: &Setup) {
    let script = r#"say() { echo "{\"progress\":{\"step\":$1}}" >> "$KF_TRAIN_PROGRESS"; }
        say 7; if [ "$RANK" = 1 ]; then sleep 600; fi
        while :; do say 8; sleep 0.2; done"#;
    let after = Duration::from_secs(3);
    let running = setup.start(&setup.script(script, 2).progress_timeout(after).max_restarts(1)).await;
    let handle = running.handle.clone();
    let told = running.ended().await;
    assert_eq!(told.count(|event| matches!(event, JobEvent::Restarting { .. })), 1);
    let failure = failure(told.end());
    assert_eq!((failure.rank, failure.end), (1, RankEnd::Hung(3.0)), "{failure}");
    assert_eq!(failure.progress.as_ref().and_then(|progress| progress.step), Some(7));
    assert!(
        failure.to_string().starts_with("rank 1 of 2 told no progress for 3 s after step 7"),
        "{failure}"
    );
    nothing_runs(setup, &handle, &told).await;
}
