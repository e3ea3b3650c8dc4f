//! What is told of jobs.

use futures::StreamExt;
use kf_core::process::Exit;
use serde_json::Value;

use super::setup::{Setup, Told, status};
use crate::{ConditionType, Error, JobEnd, JobEvent, Progress, RankState};

/// The first reader hears of each rank's start, lines and end, in this order, and last of the job's end.
pub async fn events_tell_the_whole_job(setup: &Setup) {
    let told = setup.start(&setup.script(r#"echo "one of $RANK"; echo two"#, 2)).await.ended().await;
    for wanted in 0..2 {
        let started = told.place(
            "a rank's start",
            |event| matches!(event, JobEvent::RankStarted { rank, .. } if *rank == wanted),
        );
        let line = |text: String| {
            let line = move |event: &JobEvent| matches!(event, JobEvent::Line { rank, line, .. } if *rank == wanted && *line == text);
            told.place("a line", line)
        };
        let ended = told.place("a rank's end", |event| {
            *event == JobEvent::RankEnded { rank: wanted, exit: Exit::Code(0) }
        });
        let (one, two) = (line(format!("one of {wanted}")), line("two".into()));
        assert!(started < ended && one < two && two < ended, "{:#?}", told.0);
    }
    assert_eq!(*told.end(), JobEnd::Succeeded { result: Value::Null });
}

/// Who asks when a job has ended gets its end, and nothing else.
pub async fn a_late_reader_gets_the_end(setup: &Setup) {
    let running = setup.start(&setup.script("exit 3", 1)).await;
    let handle = running.handle.clone();
    let told = running.ended().await;
    for _ in 0..2 {
        let late = setup.within("events of an ended job", setup.launcher().events(&handle)).await.unwrap();
        let late: Vec<_> = setup.within("the end of an ended job", late.collect()).await;
        assert_eq!(late, [JobEvent::Ended(told.end().clone())]);
    }
}

/// Each rank's log is its own, is there while it runs, and afterwards.
pub async fn logs_are_each_ranks_own(setup: &Setup) {
    let running = setup.start(&setup.script(r#"echo "from $RANK."; echo aside >&2; sleep 600"#, 2)).await;
    let whole = |rank: usize, log: &str| {
        log.contains(&format!("from {rank}.")) && log.contains("aside") && log.lines().count() == 2
    };
    for rank in 0..2 {
        setup.until("a rank's log", async || whole(rank, &running.log(rank).await)).await;
    }
    let none = setup.launcher().logs(&running.handle, 2).await;
    assert!(matches!(none, Err(Error::Job { .. })), "the log of a rank that there is not: {none:?}");
    running.cancel().await;
    let handle = running.handle.clone();
    running.ended().await;
    for rank in 0..2 {
        let log = setup.within("a log", setup.launcher().logs(&handle, rank)).await.unwrap();
        assert!(whole(rank, &log), "{log:?}");
    }
}

/// What each rank reports is told, NaN among it.
pub async fn progress_and_metrics_are_told(setup: &Setup) {
    let script = r#"say() { echo "{\"progress\":{\"step\":$1,\"fraction\":$2,\"metrics\":{\"loss\":$3}}}" >> "$KF_TRAIN_PROGRESS"; }
        say 1 0.25 0.5; echo 'no progress' >> "$KF_TRAIN_PROGRESS"; say 2 0.5 NaN"#;
    let running = setup.start(&setup.script(script, 2)).await;
    let handle = running.handle.clone();
    let told = running.ended().await;
    for rank in 0..2 {
        let reports: Vec<_> = told.0.iter().filter_map(|event| of_rank(event, rank)).collect();
        let steps: Vec<_> = reports.iter().map(|report| (report.step, report.fraction)).collect();
        assert_eq!(steps, [(Some(1), Some(0.25)), (Some(2), Some(0.5))], "of rank {rank}");
        let losses: Vec<_> = reports.iter().map(|report| report.metrics["loss"]).collect();
        assert!(losses[0] == 0.5 && losses[1].is_nan(), "{losses:?}");
    }
    let status = status(setup, &handle).await;
    let Some(trainer) = &status.trainer_status else { panic!("{status:?}") };
    assert!(trainer.metrics["loss"].is_nan(), "{trainer:?}");
    assert_eq!(status.ranks[1].progress.as_ref().and_then(|progress| progress.step), Some(2));
}

fn of_rank(event: &JobEvent, of: usize) -> Option<&Progress> {
    match event {
        JobEvent::Progress { rank, progress } if *rank == of => Some(progress),
        _ => None,
    }
}

/// The status tells what was told by events, and how the job goes on and ends.
pub async fn the_status_follows_the_job(setup: &Setup) {
    let script = r#"echo up; echo '{"progress":{"fraction":0.5}}' >> "$KF_TRAIN_PROGRESS"; sleep 600"#;
    let running = setup.start(&setup.script(script, 2)).await;
    let first = running.status().await;
    assert!(first.is(ConditionType::Created) && !first.is_over(), "{first:?}");
    assert_eq!(first.ranks.len(), 2);
    setup.until("the job runs", async || running.status().await.is(ConditionType::Running)).await;
    running.until_all_print(2, "up").await;
    setup
        .until("half of the job is done", async || {
            let status = running.status().await;
            status.trainer_status.is_some_and(|trainer| trainer.progress_percentage == Some(50))
        })
        .await;
    let status = running.status().await;
    let running_ranks = status.ranks.iter().filter(|rank| matches!(rank.state, RankState::Running { .. }));
    assert!(running_ranks.count() == 2 && status.restarts == 0, "{status:?}");
    running.cancel().await;
    let handle = running.handle.clone();
    running.ended().await;
    the_end(setup, &handle, ConditionType::Failed).await;

    let running = setup.start(&setup.script("true", 2)).await;
    let handle = running.handle.clone();
    let Told(events) = running.ended().await;
    let status = the_end(setup, &handle, ConditionType::Complete).await;
    assert!(status.ranks.iter().all(|rank| rank.state == RankState::Succeeded), "{status:?} {events:?}");
}

/// The status of a job that has just told its end.
async fn the_end(setup: &Setup, handle: &crate::JobHandle, kind: ConditionType) -> crate::JobStatus {
    let status = status(setup, handle).await;
    assert!(status.is(kind) && !status.is(ConditionType::Running), "{kind} is expected in {status:?}");
    let condition = status.condition(kind).unwrap();
    assert!(!condition.reason.is_empty() && !condition.message.is_empty(), "{condition:?}");
    status
}
