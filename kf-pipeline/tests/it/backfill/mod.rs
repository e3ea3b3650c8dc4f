//! Backfills: partitions run once each, whoever is killed, and it is told how they stand.

mod child;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kf_core::metadata::RunState;
use kf_core::process::{Command, Exit, Log, Spawner};
use kf_core::testing::{FaultyMetadata, MetadataCall};
use kf_core::worker::{Entry, entry};
use kf_core::{Home, Timestamp};
use kf_pipeline::prelude::*;
use kf_pipeline::{Backfill, BackfillEvent, Error, PartitionState, PartitionTable, Partitions};
use libtest_mimic::Trial;
use tokio::sync::Semaphore;

use crate::kill::Kills;
use crate::{Done, test};
use PartitionState::{Canceled, Failed, Missing, Running, Succeeded};

const KILLS: usize = 25;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("backfill_survives_kills", survives_kills),
        test("backfill_skips_retries_and_reruns", skips_retries_and_reruns),
        test("backfill_refuses_before_anything_runs", refuses),
        test("backfill_by_two_engines_runs_each_once", two_engines),
        test("backfill_is_cancelled", cancelled),
        test("backfill_stops_with_its_engine_and_goes_on", stops_and_goes_on),
        test("backfill_goes_on_with_a_changed_pipeline", changed_pipeline),
        test("backfill_of_many_partitions", many),
    ]
}

/// What the engine's process runs.
pub(crate) fn worker() -> impl Entry {
    entry(child::ENTRY, child::run)
}

async fn survives_kills() -> Done {
    let folder = tempfile::tempdir()?;
    let spawner = Spawner::new()?;
    let (mut kills, mut in_the_middle, mut round, mut when) = (0, 0, 0, Kills::default());
    while kills < KILLS || in_the_middle < KILLS / 2 {
        round += 1;
        assert!(round < 40, "{kills} kills, {in_the_middle} of them in the middle");
        let (home, witness) =
            (folder.path().join(format!("home-{round}")), folder.path().join(format!("{round}")));
        let log = folder.path().join("log");
        let engine = Engine::open(&home).await?;
        let (pipeline, backfill) = (child::pipeline()?, child::backfill()?);
        let (mut done, mut seen) = (BTreeSet::new(), 0);
        loop {
            let order = child::Order { home: home.clone(), witness: witness.clone() };
            let process = spawner.spawn(Command::entry(child::ENTRY, &order)?.log(Log::to(&log))).await?;
            let exit = when.one(&process, &witness, 16).await;
            let text = std::fs::read_to_string(&witness).unwrap_or_default();
            let lines: Vec<&str> = text.lines().skip(seen).collect();
            seen += lines.len();
            for line in &lines {
                let (day, _) = line.split_once(' ').ok_or("a torn line")?;
                assert!(!done.contains(day), "{day} had succeeded and ran again");
            }
            let table = engine.partitions(&pipeline, &backfill).await?;
            let succeeded = |table: &PartitionTable| -> BTreeSet<String> {
                let rows = table.rows().iter().filter(|row| row.state == Succeeded);
                rows.map(|row| row.partition.key().to_owned()).collect()
            };
            assert!(done.is_subset(&succeeded(&table)), "{table}");
            done = succeeded(&table);
            if exit.success() {
                assert!(table.succeeded(), "{table}");
                for row in table.rows() {
                    // A run that was killed goes on as it is; the one that failed had to have a second.
                    let runs = if row.partition.key().ends_with("05") { 2 } else { 1 };
                    assert_eq!(row.attempts, runs, "{table}");
                }
                break;
            }
            assert_eq!(exit, Exit::Signal(9), "{:?}", process.tail(20));
            kills += 1;
            in_the_middle += usize::from(!lines.is_empty());
        }
    }
    println!("{kills} kills in {round} backfills, {in_the_middle} of them after partitions had begun");
    Ok(())
}

/// What bodies do, by key.
#[derive(Clone, Default)]
struct Bodies(Arc<Counts>);

struct Counts {
    ran: AtomicUsize,
    most_at_once: AtomicUsize,
    at_once: AtomicUsize,
    /// What a body of a key with `wait` needs to end.
    gate: Semaphore,
}

impl Default for Counts {
    fn default() -> Self {
        let zero = AtomicUsize::default;
        Self { ran: zero(), most_at_once: zero(), at_once: zero(), gate: Semaphore::new(0) }
    }
}

impl Bodies {
    fn ran(&self) -> usize {
        self.0.ran.load(Ordering::SeqCst)
    }
}

#[component(cache = false)]
async fn body(key: String, fails_before: i64, context: Context, bodies: State<Bodies>) -> TaskResult {
    bodies.0.ran.fetch_add(1, Ordering::SeqCst);
    let now = bodies.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    bodies.0.most_at_once.fetch_max(now, Ordering::SeqCst);
    if key.contains("wait") {
        bodies.0.gate.acquire().await?.forget();
    } else {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bodies.0.at_once.fetch_sub(1, Ordering::SeqCst);
    let attempt: i64 = context.run().as_str().rsplit('-').next().unwrap_or_default().parse()?;
    if key.contains("bad") && attempt < fails_before {
        return Err(TaskError::new(format!("run {attempt} of {key}")));
    }
    Ok(())
}

fn pipeline(tasks: usize) -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("parts", |p| {
        let (key, fails) = (p.required_param::<String>("key"), p.param::<i64>("fails_before", 0));
        for task in 0..tasks {
            p.add(body(key, fails).named(format!("body-{task}")));
        }
    })
}

fn parts(keys: &[&str]) -> kf_pipeline::Result<Backfill> {
    Ok(Backfill::new(Partitions::of_keys(keys.iter().copied())?, "key"))
}

fn states(table: &PartitionTable) -> Vec<(PartitionState, u32)> {
    table.rows().iter().map(|row| (row.state, row.attempts)).collect()
}

async fn engine(home: &tempfile::TempDir, bodies: &Bodies) -> kf_pipeline::Result<Engine> {
    Engine::builder().state(bodies.clone()).open(home.path()).await
}

async fn skips_retries_and_reruns() -> Done {
    let (home, bodies) = (tempfile::tempdir()?, Bodies::default());
    let engine = engine(&home, &bodies).await?;
    let pipeline = pipeline(1)?;
    let backfill = parts(&["a", "bad", "b", "c", "d"])?.args(args! {"fails_before" => 4}).at_once(2);
    assert_eq!(engine.partitions(&pipeline, &backfill).await?.count(Missing), 5);

    // Run 1 fails; asked for again, run 2 and, as a retry, run 3; asked for again, run 4 succeeds.
    let first = engine.backfill(&pipeline, &backfill).await?;
    let events: Vec<_> = first.events().collect().await;
    let table = first.wait().await?;
    let one = (Succeeded, 1);
    assert_eq!(states(&table), [one, (Failed, 1), one, one, one], "{table}");
    assert_eq!(table, engine.partitions(&pipeline, &backfill).await?);
    assert!(table.get("bad").unwrap().error.as_deref().unwrap().contains("run 1 of bad"), "{table}");
    assert!(
        table.to_string().lines().nth(2).unwrap().starts_with("bad        FAILED            1  parts-bad-"),
        "{table}"
    );
    assert_eq!(bodies.0.most_at_once.load(Ordering::SeqCst), 2);
    assert!(
        matches!(events.first(), Some(BackfillEvent::Planned { partitions: 5, to_run: 5 })),
        "{events:?}"
    );
    assert!(matches!(events.last(), Some(BackfillEvent::Ended { ended: 5, of: 5, .. })), "{events:?}");
    assert_eq!(events.iter().filter(|event| matches!(event, BackfillEvent::Started { .. })).count(), 5);

    let second = engine.backfill(&pipeline, &backfill.clone().retries(1)).await?;
    let events: Vec<_> = second.events().collect().await;
    assert!(events.iter().any(|event| matches!(event, BackfillEvent::Retried { key, .. } if key == "bad")));
    assert_eq!(states(&second.wait().await?), [one, (Failed, 3), one, one, one]);
    let third = engine.backfill(&pipeline, &backfill).await?.wait().await?;
    assert_eq!(states(&third), [one, (Succeeded, 4), one, one, one]);
    assert_eq!(bodies.ran(), 8);

    // Nothing is left to do; all again when asked for, once; with other arguments nothing has been done.
    assert!(engine.backfill(&pipeline, &backfill).await?.wait().await?.succeeded());
    assert_eq!(bodies.ran(), 8);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let again = backfill.clone().rerun_succeeded(Timestamp::now());
    for _ in 0..2 {
        let table = engine.backfill(&pipeline, &again).await?.wait().await?;
        assert_eq!(
            states(&table),
            [(Succeeded, 2), (Succeeded, 5), (Succeeded, 2), (Succeeded, 2), (Succeeded, 2)]
        );
        assert_eq!(bodies.ran(), 13);
    }
    let other = backfill.args(args! {"fails_before" => 3});
    assert_eq!(engine.partitions(&pipeline, &other).await?.count(Missing), 5);
    let json = serde_json::to_value(&table)?;
    assert_eq!((&json[1]["key"], &json[1]["state"]), (&"bad".into(), &"FAILED".into()));
    Ok(())
}

async fn refuses() -> Done {
    let (home, bodies) = (tempfile::tempdir()?, Bodies::default());
    let engine = engine(&home, &bodies).await?;
    let pipeline = pipeline(1)?;
    let keys = || Partitions::of_keys(["a"]);
    let days = || Partitions::daily("2026-11-01", "2026-11-02");
    for (backfill, says) in [
        (
            Backfill::new(keys()?, "day"),
            "`day`: pipeline `parts` has no such parameter; it has: fails_before, key",
        ),
        (Backfill::new(keys()?, "fails_before"), "`fails_before`: expected an integer, found \"a\""),
        (Backfill::new(keys()?, "key").args(args! {"key" => "b"}), "comes from the partition"),
        (Backfill::new(keys()?, "key").args(args! {"fails_before" => "b"}), "`fails_before`: expected"),
        (Backfill::new(keys()?, "key").args(args! {"fails_before" => f64::NAN}), "`fails_before`"),
        (Backfill::new(keys()?, "key").times("key", "end"), "parameters of their own"),
        (Backfill::new(keys()?, "key").times("start", "end"), "have no times"),
        (Backfill::new(days()?, "key").times("start", "end"), "has no such parameter"),
    ] {
        let found = engine.backfill(&pipeline, &backfill).await.err().map(|error| error.to_string());
        let found = found.unwrap_or_default();
        assert!(found.contains(says), "{found}, not {says}");
        assert!(engine.partitions(&pipeline, &backfill).await.is_err());
    }
    assert_eq!((engine.runs(&Default::default()).await?.items.len(), bodies.ran()), (0, 0));
    engine.drain().await;
    let drained = engine.backfill(&pipeline, &parts(&["a"])?).await;
    assert!(matches!(drained, Err(Error::Draining)), "{drained:?}");
    Ok(())
}

async fn two_engines() -> Done {
    let (home, bodies) = (tempfile::tempdir()?, Bodies::default());
    let (one, two) = (engine(&home, &bodies).await?, engine(&home, &bodies).await?);
    let pipeline = pipeline(1)?;
    let keys: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let backfill = Backfill::new(Partitions::of_keys(keys)?, "key").at_once(8);
    let (first, second) =
        (one.backfill(&pipeline, &backfill).await?, two.backfill(&pipeline, &backfill).await?);
    let (first, second) = tokio::join!(first.wait(), second.wait());
    let (first, second) = (first?, second?);
    assert!(first.succeeded() && second.succeeded(), "{first}\n{second}");
    assert_eq!(first.rows().iter().map(|row| row.attempts).sum::<u32>(), 30);
    assert_eq!(bodies.ran(), 30);
    Ok(())
}

/// Waits until so many bodies have begun.
async fn begun(bodies: &Bodies, count: usize) -> Done {
    for _ in 0..2000 {
        if bodies.ran() >= count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("{} bodies began, not {count}", bodies.ran()).into())
}

async fn cancelled() -> Done {
    let (home, bodies) = (tempfile::tempdir()?, Bodies::default());
    let engine = engine(&home, &bodies).await?;
    let pipeline = pipeline(1)?;
    let backfill = parts(&["a", "wait 1", "wait 2", "b"])?.at_once(2).retries(3);
    let handle = engine.backfill(&pipeline, &backfill).await?;
    begun(&bodies, 3).await?;
    assert_eq!(engine.partitions(&pipeline, &backfill).await?.count(Running), 2);
    handle.cancel("enough");
    let table = handle.wait().await?;
    assert_eq!(states(&table), [(Succeeded, 1), (Canceled, 1), (Canceled, 1), (Missing, 0)], "{table}");
    assert_eq!(table.get("wait 1").unwrap().error.as_deref(), Some("enough"));
    bodies.0.gate.add_permits(2);
    let table = engine.backfill(&pipeline, &backfill).await?.wait().await?;
    assert_eq!(states(&table), [(Succeeded, 1), (Succeeded, 2), (Succeeded, 2), (Succeeded, 1)], "{table}");
    Ok(())
}

async fn stops_and_goes_on() -> Done {
    let (home, bodies) = (tempfile::tempdir()?, Bodies::default());
    let pipeline = pipeline(1)?;
    let backfill = parts(&["a", "wait", "b"])?.at_once(2);
    let dropped = {
        let engine = engine(&home, &bodies).await?;
        let handle = engine.backfill(&pipeline, &backfill).await?;
        begun(&bodies, 3).await?;
        handle
    };
    let stopped = dropped.wait().await.unwrap_err().to_string();
    assert!(stopped.contains("its engine was dropped") && stopped.contains("go on"), "{stopped}");
    let engine = engine(&home, &bodies).await?;
    let handle = engine.backfill(&pipeline, &backfill).await?;
    let mut events = handle.events();
    assert!(matches!(events.next().await, Some(BackfillEvent::Planned { partitions: 3, .. })));
    bodies.0.gate.add_permits(1);
    let table = handle.wait().await?;
    assert_eq!(states(&table), [(Succeeded, 1); 3], "{table}");
    assert!(bodies.ran() <= 5);

    let other = parts(&["wait", "never"])?.args(args! {"fails_before" => 1}).at_once(1);
    let ran = bodies.ran();
    let handle = engine.backfill(&pipeline, &other).await?;
    begun(&bodies, ran + 1).await?;
    let ends = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bodies.0.gate.add_permits(1);
    };
    tokio::join!(engine.drain(), ends);
    let drained = handle.wait().await.unwrap_err().to_string();
    assert!(drained.contains("its engine was drained"), "{drained}");
    Ok(())
}

async fn changed_pipeline() -> Done {
    let (home, bodies) = (tempfile::tempdir()?, Bodies::default());
    let backfill = parts(&["a", "wait"])?.at_once(1);
    {
        let engine = engine(&home, &bodies).await?;
        engine.backfill(&pipeline(1)?, &backfill).await?;
        begun(&bodies, 2).await?;
    }
    bodies.0.gate.add_permits(9);
    let engine = engine(&home, &bodies).await?;
    let table = engine.backfill(&pipeline(2)?, &backfill).await?.wait().await?;
    assert_eq!(states(&table), [(Succeeded, 1), (Succeeded, 2)], "{table}");
    let new = table.get("wait").unwrap().run.clone().unwrap();
    let old = new.as_str().replace("-2", "-1").parse()?;
    let old = engine.report(&old).await?;
    assert_eq!(old.run.state, RunState::Canceled);
    assert!(old.run.error.as_deref().unwrap().contains("changed since"), "{:?}", old.run.error);
    assert_eq!(engine.report(&new).await?.tasks.len(), 2);
    Ok(())
}

async fn many() -> Done {
    let (home, bodies) = (tempfile::tempdir()?, Bodies::default());
    let engine = engine(&home, &bodies).await?;
    let pipeline = pipeline(1)?;
    let backfill = Backfill::new(Partitions::hourly("2026-01-01", "2027-01-01")?, "key").at_once(64);
    let keys: Vec<String> = backfill.partitions().iter().map(|hour| hour.key().to_owned()).collect();
    let few = Backfill::new(backfill.partitions().clone().only(&keys[1400..1700])?, "key").at_once(64);
    let begin = std::time::Instant::now();
    assert!(engine.backfill(&pipeline, &few).await?.wait().await?.succeeded());
    println!("300 partitions run in {:?}", begin.elapsed());
    let begin = std::time::Instant::now();
    let table = engine.partitions(&pipeline, &backfill).await?;
    println!("{} partitions looked up in {:?}", table.rows().len(), begin.elapsed());
    assert_eq!((table.count(Missing), table.count(Succeeded)), (8460, 300), "a part is the same partitions");
    let home = Home::open(home.path()).await?;
    let counted = Arc::new(FaultyMetadata::new(home.metadata()));
    let other = Engine::builder().metadata(counted.clone()).open_home(home).await?;
    let before = counted.calls(MetadataCall::Read);
    assert_eq!(other.partitions(&pipeline, &backfill).await?, table);
    let asked = counted.calls(MetadataCall::Read) - before;
    assert!(asked < 25, "asked {asked} times for {} partitions", table.rows().len());
    Ok(())
}
