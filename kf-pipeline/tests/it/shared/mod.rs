//! Engines of several processes, with homes of their own, that share PostgreSQL and S3.

mod among;
mod child;
mod outage;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kf_core::RunId;
use kf_core::metadata::{MetadataStore, RunState};
use kf_core::process::{Child, Command, Exit, Log, Spawner};
use kf_core::testing::servers::{PostgresServer, S3Server, judge};
use kf_core::worker::{Entry, entry};
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::resume::witness::{self, Kill, Line, Phase};
use crate::resume::{Committed, check, summary};
use crate::{Done, test};
use child::{Order, Stores, Work};

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = vec![
        test("shared_runs_of_a_killed_engine_are_taken_over", runs_of_a_killed_engine_are_taken_over),
        test("shared_runs_of_an_engine_that_slept_are_lost_to_it", an_engine_that_slept_commits_nothing),
        test("shared_runs_that_are_left_are_taken_over", what_is_left_is_taken_over),
    ];
    tests.extend(among::tests());
    tests.extend(outage::tests());
    tests
}

/// What an engine's process runs.
pub(crate) fn worker() -> impl Entry {
    entry(child::ENTRY, child::run)
}

/// A PostgreSQL server; none where it is missing, which is said.
fn postgres() -> Option<PostgresServer> {
    judge("postgres", PostgresServer::start())
}

/// The servers that these tests share; none where one is missing, which is said.
fn servers() -> Option<&'static (PostgresServer, S3Server)> {
    static SERVERS: OnceLock<Option<(PostgresServer, S3Server)>> = OnceLock::new();
    let both = SERVERS.get_or_init(|| {
        let s3 = judge("s3", S3Server::start())?;
        Some((postgres()?, s3))
    });
    both.as_ref()
}

struct Test {
    spawner: Spawner,
    stores: Stores,
    folder: tempfile::TempDir,
}

impl Test {
    /// A test with stores of this name; none where there are no servers.
    fn new(name: &str, lease: Duration) -> Result<Option<Self>, Box<dyn std::error::Error>> {
        let Some((postgres, s3)) = tokio::task::block_in_place(servers) else { return Ok(None) };
        let bucket = format!("kf-{name}");
        s3.make_bucket(&bucket)?;
        let stores = Stores {
            database: postgres.url(),
            schema: name.to_owned(),
            endpoint: s3.endpoint(),
            bucket: format!("s3://{bucket}/artifacts"),
            lease,
        };
        Ok(Some(Self { spawner: Spawner::new()?, stores, folder: tempfile::tempdir()? }))
    }

    fn witness(&self, engine: &str, run: &RunId) -> PathBuf {
        self.folder.path().join(format!("{engine}-{run}"))
    }

    /// Starts an engine's process with a home of its own.
    async fn engine(&self, name: &str, run: &RunId, work: Work) -> Result<Child, Box<dyn std::error::Error>> {
        let folder = self.folder.path();
        let order = Order {
            stores: self.stores.clone(),
            home: folder.join(format!("home-{name}")),
            witness: self.witness(name, run),
            run: run.clone(),
            work,
        };
        let log = Log::to(folder.join(format!("log-{name}")));
        Ok(self.spawner.spawn(Command::entry(child::ENTRY, &order)?.log(log)).await?)
    }

    fn lines(&self, engine: &str, run: &RunId) -> Vec<Line> {
        let path = self.witness(engine, run);
        if path.exists() { witness::read(&path, 0).unwrap() } else { Vec::new() }
    }
}

async fn ends(child: &Child) -> Result<Exit, String> {
    let exit = tokio::time::timeout(Duration::from_secs(60), child.wait()).await;
    exit.map_err(|_| format!("the engine hangs: {:?}", child.tail(20)))
}

async fn succeeds(child: &Child) -> Result<(), String> {
    let exit = ends(child).await?;
    if exit.success() { Ok(()) } else { Err(format!("{exit}: {:?}", child.tail(20))) }
}

/// What became of a run's tasks, each of which ended once.
async fn outcome(test: &Test, run: &RunId) -> Result<BTreeMap<String, String>, Box<dyn std::error::Error>> {
    let metadata = test.stores.metadata().await?;
    let committed = Committed::read(&metadata, run).await?;
    assert!(committed.ends.values().all(|ends| *ends == 1), "{committed:?}");
    let reader = Engine::builder()
        .metadata(std::sync::Arc::new(metadata))
        .artifacts(test.stores.artifacts(test.folder.path().join("reader-artifacts"))?)
        .open(test.folder.path().join("reader"))
        .await?;
    let report = reader.report(run).await?;
    assert_eq!(report.run.state, RunState::Succeeded, "{:?}", report.run.error);
    for artifact in report.tasks.iter().flat_map(|task| &task.output_artifacts) {
        let digest = artifact.artifact.digest.ok_or("an output without digest")?;
        assert!(artifact.artifact.uri.starts_with(&test.stores.bucket), "{}", artifact.artifact.uri);
        reader.home().artifacts().verify(&digest).await?;
    }
    Ok(summary(&report))
}

async fn runs_of_a_killed_engine_are_taken_over() -> Done {
    // Long enough for a machine that does much else; the stores wait for a quarter of it.
    let lease = Duration::from_millis(3000);
    let Some(test) = Test::new("killed", lease)? else { return Ok(()) };
    let run = |round: i64| format!("shared-{round}").parse::<RunId>();
    let first = test.engine("a", &run(0)?, Work::Carry { round: 0, kill: None }).await?;
    succeeds(&first).await?;
    let expected = outcome(&test, &run(0)?).await?;
    let kills = [
        (Phase::BeforeCommit, 3),
        (Phase::DuringCommit, 4),
        (Phase::AfterCommit, 5),
        (Phase::InTask, 6),
        (Phase::BetweenAttempts, 1),
        (Phase::InExitHandler, 1),
    ];
    // A kill that came in another phase than it was meant for is tried again.
    let mut left = VecDeque::from(kills.map(|(phase, nth)| (phase, nth, 0)));
    let (mut hits, mut round) = (0, 0);
    while let Some((phase, nth, tries)) = left.pop_front() {
        round += 1;
        let run = run(round)?;
        let kill = Some(Kill { phase, nth, delay: 500 });
        let killed = test.engine("a", &run, Work::Carry { round, kill }).await?;
        // It stands by from the start, and gets nothing as long as the other lives.
        let next = test.engine("b", &run, Work::StandBy).await?;
        let exit = ends(&killed).await?;
        let died = Instant::now();
        assert_eq!(exit, Exit::Signal(9), "{phase:?}: {:?}", killed.tail(20));
        assert_eq!(test.lines("b", &run).len(), 0, "{phase:?}: taken while its engine lived");
        let before = Committed::read(&test.stores.metadata().await?, &run).await?;
        let lines = test.lines("a", &run);
        let ended = before.ends.keys().cloned().collect();
        let hit = witness::phases(&lines, &ended, crate::resume::child::EXIT).contains(&phase);
        hits += usize::from(hit);
        if !hit && tries < 2 {
            left.push_back((phase, nth, tries + 1));
        }
        succeeds(&next).await?;
        println!("{phase:?}: over {:.1} s after the kill", died.elapsed().as_secs_f64());
        assert!(died.elapsed() > lease / 2, "{phase:?}: {:?}", died.elapsed());
        let lines = test.lines("b", &run);
        assert!(lines.iter().any(|line| line.word == "committed"), "{phase:?}: the second did nothing");
        check(&run, &lines, &before);
        assert_eq!(outcome(&test, &run).await?, expected, "{phase:?}");
    }
    assert!(hits >= 4, "only {hits} kills came in the phase they were meant for");
    Ok(())
}

async fn an_engine_that_slept_commits_nothing() -> Done {
    let lease = Duration::from_millis(3000);
    let Some(test) = Test::new("slept", lease)? else { return Ok(()) };
    for round in 1..=4_i64 {
        let run: RunId = format!("slept-{round}").parse()?;
        let asleep = test.engine("a", &run, Work::Carry { round, kill: None }).await?;
        let began = Instant::now();
        // In the middle of a task, later from round to round.
        while test.lines("a", &run).iter().filter(|line| line.word == "start").count() < 4 * round as usize {
            assert!(
                asleep.exit().is_none() && began.elapsed() < Duration::from_secs(30),
                "{:?}",
                asleep.tail(9)
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let pid = Pid::from_raw(i32::try_from(asleep.pid())?).ok_or("no process")?;
        kill_process(pid, Signal::STOP)?;
        // What was on its way to the database gets there.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let metadata = test.stores.metadata().await?;
        let before = Committed::read(&metadata, &run).await?;
        let said = test.lines("a", &run).len();
        assert_eq!(metadata.run(&run).await?.ok_or("no run")?.state, RunState::Running);

        let next = test.engine("b", &run, Work::StandBy).await?;
        succeeds(&next).await?;
        check(&run, &test.lines("b", &run), &before);
        let over = outcome(&test, &run).await?;
        let journal = metadata.journal(&run, 0, 10_000).await?.len();

        kill_process(pid, Signal::CONT)?;
        succeeds(&asleep).await?;
        let end = std::fs::read_to_string(test.witness("a", &run).with_extension("end"))?;
        assert!(end.contains("taken over by another engine") && end.contains("it goes on there"), "{end}");
        let after = test.lines("a", &run).split_off(said);
        let count = |word: &str| after.iter().filter(|line| line.word == word).count();
        println!("awake again, it tried {} commits", count("commit"));
        // An answer that it slept through is heard now; what it asks now is refused.
        assert!(count("committed") <= 1 && count("start") <= 2, "{after:?}");
        assert_eq!(metadata.journal(&run, 0, 10_000).await?.len(), journal, "it wrote");
        assert_eq!(outcome(&test, &run).await?, over);
    }
    Ok(())
}

async fn what_is_left_is_taken_over() -> Done {
    let Some(test) = Test::new("left", Duration::from_secs(30))? else { return Ok(()) };
    let open = async |name: &str, lease: Duration| -> Result<Engine, Box<dyn std::error::Error>> {
        let folder = test.folder.path();
        let witness = witness::Witness::open(&folder.join(format!("witness-{name}")), None)?;
        let engine = Engine::builder()
            .metadata(std::sync::Arc::new(test.stores.metadata().await?))
            .artifacts(test.stores.artifacts(folder.join(format!("artifacts-{name}")))?)
            .lease(lease)
            .state(witness);
        Ok(engine.open(folder.join(name)).await?)
    };
    let pipeline = crate::resume::child::pipeline()?;
    let (one, two) =
        (open("one", Duration::from_secs(30)).await?, open("two", Duration::from_secs(30)).await?);
    let start = async |engine: &Engine, round: i64| {
        let options = StartOptions::new().id(format!("left-{round}").parse::<RunId>()?);
        engine.start_with(&pipeline, args! {"round" => round}, options).await
    };
    let run = match start(&one, 1).await {
        Ok(run) => run,
        Err(error) => return Err(error.into()),
    };
    assert!(two.take_over(&[&pipeline]).await?.is_empty(), "another engine carries it");
    one.drain().await;
    assert!(run.wait().await.is_err(), "it was drained before its end");
    // Given back, so that nobody waits for the lease's end.
    let taken = two.take_over(&[&pipeline]).await?;
    assert_eq!(taken.iter().map(|handle| handle.id()).collect::<Vec<_>>(), [run.id()]);
    assert!(two.take_over(&[&pipeline]).await?.is_empty(), "it carries the run already");
    assert_eq!(taken[0].wait().await?.state, RunState::Succeeded);
    outcome(&test, run.id()).await?;

    // Created and not begun: of an engine that died in between, once that is sure.
    let record = two.run(run.id()).await?.ok_or("no run")?;
    let id: RunId = "left-2".parse()?;
    let new = kf_core::metadata::NewRun {
        id: id.clone(),
        pipeline: record.pipeline,
        spec_digest: record.spec_digest,
        spec: record.spec.into(),
        args: record.args.replace("\"round\":1", "\"round\":2"),
        created_at: kf_core::Timestamp::now(),
    };
    two.metadata().create_run(new).await?;
    assert!(two.take_over(&[&pipeline]).await?.is_empty(), "its engine may be about to begin it");
    let hasty = open("three", Duration::from_millis(300)).await?;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let other = Pipeline::build("other", |p| {
        p.param::<i64>("x", 1);
    })?;
    assert!(hasty.take_over(&[&other]).await?.is_empty(), "of another pipeline");
    let taken = hasty.take_over(&[&other, &pipeline]).await?;
    assert_eq!(taken.iter().map(|handle| handle.id()).collect::<Vec<_>>(), [&id]);
    assert_eq!(taken[0].wait().await?.state, RunState::Succeeded);
    outcome(&test, &id).await?;
    Ok(())
}
