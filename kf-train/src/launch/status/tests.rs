use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(0).after(Duration::from_secs(seconds))
}

fn started(rank: usize) -> JobEvent {
    JobEvent::RankStarted { rank, pid: Some(100) }
}

fn ended(rank: usize, code: i32) -> JobEvent {
    JobEvent::RankEnded { rank, exit: Exit::Code(code) }
}

fn done(fraction: f64) -> JobEvent {
    JobEvent::Progress { rank: 0, progress: Progress::new().fraction(fraction) }
}

fn failure(end: RankEnd) -> Box<Failure> {
    Box::new(Failure {
        rank: 1,
        world_size: 2,
        end,
        message: Some("no memory".into()),
        progress: None,
        last_lines: vec!["a line".into()],
        log: "log".into(),
        stderr_log: None,
    })
}

fn fold(world_size: usize, events: &[(u64, JobEvent)]) -> JobStatus {
    let mut status = JobStatus::new(at(0), world_size);
    events.iter().for_each(|(seconds, event)| status.apply(at(*seconds), event));
    status
}

/// The conditions, as `Running=False RankFailed @3`.
fn conditions(status: &JobStatus) -> Vec<String> {
    let show = |condition: &Condition| {
        let Condition { kind, status, reason, last_transition_time, .. } = condition;
        format!("{kind}={status:?} {reason} @{}", last_transition_time.as_millis() / 1000)
    };
    status.conditions.iter().map(show).collect()
}

#[test]
fn a_rank_that_failed_before_it_started_has_failed() {
    let exit = Exit::Code(128);
    let end = JobEnd::Failed(failure(RankEnd::Exited(exit)));
    let status = fold(2, &[(1, JobEvent::Missed(7)), (2, JobEvent::Ended(end))]);
    assert_eq!(status.ranks[0].state, RankState::Pending);
    assert_eq!(status.ranks[1].state, RankState::Failed { exit: Some(exit) });
}

#[test]
fn ranks_that_were_ended_while_a_job_waits_are_not_started_yet() {
    let waiting = JobEvent::Waiting { reason: "it is suspended".into() };
    let run = [(1, started(0)), (2, started(1)), (3, waiting), (4, ended(0, 143)), (5, ended(1, 143))];
    let mut status = fold(2, &run);
    status.apply(at(6), &started(0));
    let created = "Created=True JobCreated @0";
    assert_eq!(conditions(&status), [created, "Running=False WaitingForNodes @3"]);
    status.apply(at(7), &started(1));
    assert_eq!(conditions(&status), [created, "Running=True RanksStarted @7"]);
    assert_eq!(status.ranks[1].restarts, 1);
}

#[test]
fn conditions_follow_the_jobs_life() {
    let failed = || failure(RankEnd::Exited(Exit::Code(3)));
    let restarting = || JobEvent::Restarting { restarts: 1, failure: failed() };
    let end = |end| (9, JobEvent::Ended(end));
    let run = [(1, started(0)), (2, started(1))];
    let again = [(3, ended(1, 3)), (4, restarting()), (5, started(0)), (6, started(1))];
    let created = "Created=True JobCreated @0";
    for (events, expected) in [
        (vec![], vec![created]),
        (run[..1].to_vec(), vec![created]),
        (run.to_vec(), vec![created, "Running=True RanksStarted @2"]),
        (
            [&run[..], &again[..2]].concat(),
            vec![created, "Running=False RankFailed @4", "Restarting=True RankFailed @4"],
        ),
        (
            [&run[..], &again].concat(),
            vec![created, "Running=True RanksStarted @6", "Restarting=False RanksStarted @6"],
        ),
        (
            [&run[..], &again, &[end(JobEnd::Succeeded { result: Value::Null })]].concat(),
            vec![
                created,
                "Running=False RanksSucceeded @9",
                "Restarting=False RanksStarted @6",
                "Complete=True RanksSucceeded @9",
            ],
        ),
        (
            [&run[..], &[end(JobEnd::Failed(failure(RankEnd::Hung(5.0))))]].concat(),
            vec![created, "Running=False RankHung @9", "Failed=True RankHung @9"],
        ),
        (
            vec![end(JobEnd::TimedOut { after: Duration::from_secs(9) })],
            vec![created, "Failed=True DeadlineExceeded @9"],
        ),
        (
            vec![end(JobEnd::Canceled), (10, started(0)), (11, restarting())],
            vec![created, "Failed=True Canceled @9"],
        ),
    ] {
        assert_eq!(conditions(&fold(2, &events)), expected, "{events:?}");
    }
    let status = fold(2, &[end(JobEnd::Failed(failed()))]);
    let told = &status.condition(ConditionType::Failed).unwrap().message;
    assert_eq!(told, "rank 1 of 2 ended with exit code 3: no memory");
}

#[test]
fn ranks_are_followed() {
    let states = |status: &JobStatus| status.ranks.iter().map(|rank| rank.state).collect::<Vec<_>>();
    let running = RankState::Running { pid: Some(100) };
    let mut status = fold(2, &[(1, started(0)), (2, started(7)), (2, started(usize::MAX))]);
    assert_eq!(states(&status), [running, RankState::Pending]);
    status.apply(at(3), &ended(0, 0));
    status.apply(at(3), &started(1));
    assert_eq!(states(&status), [RankState::Succeeded, running]);
    assert!(status.is(ConditionType::Running), "all were started");
    let failure = failure(RankEnd::NotStarted(1.0));
    status.apply(at(4), &JobEvent::Restarting { restarts: 1, failure });
    assert_eq!(states(&status), [RankState::Pending; 2]);
    status.apply(at(5), &started(0));
    assert_eq!((status.restarts, status.ranks[0].restarts, status.ranks[1].restarts), (1, 1, 0));
    assert_eq!(status.ranks[0].started, Some(at(5)));
    status.apply(at(6), &JobEvent::Ended(JobEnd::Canceled));
    assert_eq!(states(&status), [RankState::Failed { exit: None }, RankState::Pending]);
}

#[test]
fn rounds_of_elastic_jobs_are_followed() {
    let round = |world_size, starts, restarts| JobEvent::Round {
        number: 1,
        nodes: 2,
        world_size,
        restarts,
        starts,
        reason: "they have met".into(),
    };
    let states = |status: &JobStatus| status.ranks.iter().map(|rank| rank.state).collect::<Vec<_>>();
    let (here, elsewhere) = (RankState::Running { pid: Some(100) }, RankState::Running { pid: None });
    let waits = RankState::Pending;
    let created = "Created=True JobCreated @0";
    let mut status = fold(1, &[(1, round(3, 1..3, 0)), (2, started(2))]);
    assert_eq!(states(&status), [elsewhere, waits, here]);
    assert_eq!(conditions(&status), [created]);
    status.apply(at(3), &started(1));
    assert_eq!(conditions(&status), [created, "Running=True RanksStarted @3"]);

    // Too few nodes are left for a while.
    let mut alone = status.clone();
    alone.apply(at(4), &JobEvent::Waiting { reason: "1 of at least 2 nodes is here".into() });
    assert_eq!(conditions(&alone), [created, "Running=False WaitingForNodes @4"]);
    alone.apply(at(5), &round(4, 0..2, 0));
    assert_eq!(conditions(&alone), [created, "Running=False RoundBegan @4"]);

    // A node joins: the ranks of before still end.
    status.apply(at(4), &round(4, 0..2, 0));
    assert_eq!(conditions(&status), [created, "Running=False RoundBegan @4"]);
    for (event, first) in [(ended(1, 1), waits), (started(0), here)] {
        status.apply(at(5), &event);
        assert_eq!(states(&status), [first, waits, elsewhere, elsewhere]);
        assert!(!status.is(ConditionType::Running));
    }
    status.apply(at(6), &started(1));
    assert_eq!(conditions(&status), [created, "Running=True RanksStarted @6"]);

    // A rank has failed.
    status.apply(at(7), &round(2, 0..2, 1));
    assert_eq!((status.restarts, states(&status)), (1, vec![waits; 2]));
    let restarting = [created, "Running=False RoundBegan @7", "Restarting=True RankFailed @7"];
    assert_eq!(conditions(&status), restarting);
    for rank in 0..2 {
        status.apply(at(8), &started(rank));
    }
    let running = [created, "Running=True RanksStarted @8", "Restarting=False RanksStarted @8"];
    assert_eq!(conditions(&status), running);

    // Ranks that outlive rounds run on.
    status.apply(at(9), &round(3, 0..0, 2));
    assert_eq!((status.restarts, states(&status)), (2, vec![elsewhere; 3]));
    assert!(status.is(ConditionType::Running) && !status.is(ConditionType::Restarting));
    status.apply(at(9), &started(2));
    assert_eq!(states(&status), [elsewhere, elsewhere, here]);

    status.apply(at(10), &round(usize::MAX, 0..usize::MAX, 1));
    assert_eq!(status.ranks.len(), MOST_RANKS);
}

#[test]
fn the_time_that_remains_is_estimated() {
    for (events, percentage, seconds) in [
        // Nothing has grown yet.
        (vec![(10, done(0.5))], Some(50), None),
        (vec![(10, done(0.5)), (20, done(0.5))], Some(50), None),
        (vec![(10, done(0.5)), (10, done(0.6))], Some(60), None),
        // 0.1 in 10 s.
        (vec![(10, done(0.5)), (20, done(0.6))], Some(60), Some(40)),
        (vec![(10, done(0.5)), (20, done(0.6)), (25, started(0))], Some(60), None),
        // From where the ranks go on after a restart.
        (
            vec![(10, done(0.5)), (20, done(0.6)), (25, started(0)), (30, done(0.2)), (40, done(0.4))],
            Some(40),
            Some(30),
        ),
        // It falls back with no restart.
        (vec![(10, done(0.5)), (20, done(0.1)), (30, done(0.3))], Some(30), Some(35)),
        (vec![(10, done(0.5)), (20, done(1.0))], Some(100), Some(0)),
        (vec![(10, done(0.999_9))], Some(99), None),
        (vec![(10, done(f64::NAN))], None, None),
        (vec![(10, done(-8.0)), (20, done(8.0))], Some(100), Some(0)),
        // Too slow to say.
        (vec![(10, done(0.0)), (1000, done(1e-300))], Some(0), None),
        // A clock that is set back.
        (vec![(20, done(0.1)), (10, done(0.2))], Some(20), None),
    ] {
        let status = fold(1, &events);
        let trainer = status.trainer_status.unwrap();
        assert_eq!(
            (trainer.progress_percentage, trainer.estimated_remaining_seconds),
            (percentage, seconds),
            "{events:?}"
        );
    }
    let end = JobEvent::Ended(JobEnd::Succeeded { result: Value::Null });
    let trainer = fold(1, &[(1, done(0.5)), (2, end)]).trainer_status.unwrap();
    assert_eq!((trainer.progress_percentage, trainer.estimated_remaining_seconds), (Some(100), Some(0)));
}

#[test]
fn in_json_it_is_as_kubernetes_writes_it() {
    let progress = Progress::new().fraction(0.25).metric("loss", f64::NAN).metric("x", 1e300).metric("", 1.0);
    let end = JobEvent::Ended(JobEnd::Failed(failure(RankEnd::Exited(Exit::Signal(9)))));
    let events = [
        (1, JobEvent::RankStarted { rank: 0, pid: None }),
        (2, JobEvent::Progress { rank: 0, progress }),
        (3, JobEvent::RankEnded { rank: 0, exit: Exit::Signal(9) }),
        (4, end),
    ];
    let json = serde_json::to_value(fold(1, &events)).unwrap();
    assert_eq!(
        json["conditions"][2],
        json!({
            "type": "Failed",
            "status": "True",
            "reason": "RankFailed",
            "message": "rank 1 of 2 ended with signal 9 (SIGKILL): no memory",
            "lastTransitionTime": "1970-01-01T00:00:04.000Z",
        })
    );
    assert_eq!(
        json["trainerStatus"],
        json!({
            "progressPercentage": 25,
            "metrics": [{"name": "loss", "value": "NaN"}, {"name": "x", "value": "1e300"}],
            "lastUpdatedTime": "1970-01-01T00:00:02.000Z",
        })
    );
    assert_eq!(json["ranks"][0]["state"], json!({"failed": {"exit": {"signal": 9}}}));
    assert_eq!(json["ranks"][0]["started"], "1970-01-01T00:00:01.000Z");
    let read: JobStatus = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), json);
}

#[test]
fn it_holds_no_more_than_a_trainjob_does() {
    let mut progress = Progress::new();
    for number in 0..1000 {
        progress = progress.metric(format!("m{number:04}"), 0.5).metric("x".repeat(65 + number), 0.5);
    }
    let long = JobEnd::Broken { reason: "ä".repeat(40_000), retryable: true };
    let status = fold(1, &[(1, JobEvent::Progress { rank: 0, progress }), (2, JobEvent::Ended(long))]);
    assert_eq!(status.trainer_status.as_ref().unwrap().metrics.len(), 256);
    assert_eq!(status.condition(ConditionType::Failed).unwrap().message.len(), 32_768);
    assert_eq!(fold(usize::MAX, &[]).ranks.len(), MOST_RANKS);
}

fn events() -> impl Strategy<Value = JobEvent> {
    let rank = prop_oneof![0..4_usize, Just(usize::MAX)];
    let exit = prop_oneof![Just(Exit::Code(0)), any::<i32>().prop_map(Exit::Code), Just(Exit::Signal(9))];
    // Any number, as one may be set past `Progress::fraction`.
    let progress = (proptest::num::f64::ANY, any::<bool>()).prop_map(|(number, small)| {
        let mut progress = Progress::new().metric("loss", number);
        progress.fraction = Some(if small { (number % 1.0).abs() } else { number });
        progress
    });
    let end = prop_oneof![
        Just(JobEnd::Canceled),
        Just(JobEnd::Succeeded { result: Value::Null }),
        Just(JobEnd::Failed(failure(RankEnd::Hung(1.0)))),
    ];
    prop_oneof![
        4 => (rank.clone(), any::<Option<u32>>()).prop_map(|(rank, pid)| JobEvent::RankStarted { rank, pid }),
        4 => (rank.clone(), exit).prop_map(|(rank, exit)| JobEvent::RankEnded { rank, exit }),
        8 => (rank, progress).prop_map(|(rank, progress)| JobEvent::Progress { rank, progress }),
        1 => any::<u64>().prop_map(|restarts| JobEvent::Restarting { restarts, failure: failure(RankEnd::NotStarted(1.0)) }),
        1 => (0..6_usize, 0..6_usize, any::<u64>()).prop_map(|(world_size, first, restarts)| JobEvent::Round {
            number: 1, nodes: 1, world_size, restarts, starts: first..world_size, reason: String::new(),
        }),
        1 => Just(JobEvent::Waiting { reason: "1 of at least 2 nodes is here".into() }),
        1 => end.prop_map(JobEvent::Ended),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_is_sound(
        world_size in 0..5_usize,
        // The clock may be set back; of the years that have four digits.
        events in proptest::collection::vec((-62_135_596_800_000..253_402_300_800_000_i64, events()), 0..60),
    ) {
        let mut status = JobStatus::new(Timestamp::from_millis(0), world_size);
        for (millis, event) in &events {
            let before = status.clone();
            let now = Timestamp::from_millis(*millis);
            status.apply(now, event);

            let holds = |kind| status.is(kind);
            prop_assert!(!(holds(ConditionType::Complete) && holds(ConditionType::Failed)));
            prop_assert!(!(status.is_over() && (holds(ConditionType::Running) || holds(ConditionType::Restarting))));
            prop_assert!(!(holds(ConditionType::Running) && holds(ConditionType::Restarting)));
            if before.is_over() {
                prop_assert_eq!(json!(&status), json!(&before), "nothing comes after the end");
            }
            prop_assert_eq!(status.is_over(), before.is_over() || matches!(event, JobEvent::Ended(_)));
            for (number, condition) in status.conditions.iter().enumerate() {
                prop_assert!(status.conditions[..number].iter().all(|other| other.kind != condition.kind));
                let old = before.condition(condition.kind);
                let same = old.is_some_and(|old| old.status == condition.status);
                let expected = if same { old.map(|old| old.last_transition_time) } else { Some(now) };
                prop_assert_eq!(Some(condition.last_transition_time), expected);
            }
            if status.is_over() {
                let running = |rank: &RankStatus| matches!(rank.state, RankState::Running { .. });
                prop_assert!(!status.ranks.iter().any(running));
            }
            if let Some(trainer) = &status.trainer_status {
                prop_assert!(trainer.progress_percentage.is_none_or(|percentage| percentage <= 100));
                prop_assert!(trainer.estimated_remaining_seconds.is_none_or(|s| i32::try_from(s).is_ok()));
            }
        }
        let text = serde_json::to_string(&status).unwrap();
        let read: JobStatus = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
