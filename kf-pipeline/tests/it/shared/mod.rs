//! Engines of several processes, with homes of their own, that share PostgreSQL and S3.

mod among;
mod outage;
mod pipeline;
mod servers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kf_core::RunId;
use kf_core::metadata::{MetadataStore, RunState};
use kf_core::process::{Child, Command, Exit, Log, Spawner};
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::kill::is_long;
use crate::kill::judge::{Committed, check, summary};
use crate::kill::program::{Begin, ENTRY, Order, Which};
use crate::kill::rounds::{Rounds, Wanted};
use crate::kill::stores::Stores;
use crate::kill::witness::{self, Line};
use crate::{Done, test};
pub(crate) use pipeline::small;
pub(crate) use servers::Servers;
use servers::postgres;

/// Long enough for a machine that does much else; the stores wait for a quarter of it.
const LEASE: Duration = Duration::from_secs(3);

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

struct Test {
    spawner: Spawner,
    stores: Servers,
    folder: tempfile::TempDir,
}

impl Test {
    /// A test with stores of this name; none where there are no servers.
    fn new(name: &str, lease: Duration) -> Result<Option<Self>, Box<dyn std::error::Error>> {
        let Some(stores) = Servers::new(name, lease)? else { return Ok(None) };
        Ok(Some(Self { spawner: Spawner::new()?, stores, folder: tempfile::tempdir()? }))
    }

    fn witness(&self, run: &RunId) -> PathBuf {
        self.folder.path().join(run.as_str())
    }

    /// Starts an engine's process with a home of its own.
    async fn engine(
        &self,
        name: &str,
        run: &RunId,
        begin: Begin,
    ) -> Result<Child, Box<dyn std::error::Error>> {
        let folder = self.folder.path();
        let order = Order {
            stores: Stores::Servers(self.stores.clone()),
            home: folder.join(format!("home-{name}")),
            witness: self.witness(run),
            run: run.clone(),
            pipeline: Which::Small,
            begin,
            kill: None,
        };
        let log = Log::to(folder.join(format!("log-{name}")));
        Ok(self.spawner.spawn(Command::entry(ENTRY, &order)?.log(log)).await?)
    }

    /// Where the tasks of an engine in this process write.
    fn at(&self, round: i64) -> String {
        self.folder.path().join(format!("witness-{round}")).display().to_string()
    }

    /// What an engine wrote about a run.
    fn lines(&self, engine: &Child, run: &RunId) -> Vec<Line> {
        let mut lines = witness::read(&self.witness(run), 0).unwrap();
        lines.retain(|line| line.pid == engine.pid());
        lines
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
    let Some(servers) = Servers::new("killed", LEASE)? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let wanted = match is_long() {
        true => Wanted { kills: 200, each: 1, lanes: 6 },
        false => Wanted { kills: 10, each: 0, lanes: 3 },
    };
    Rounds::new(Stores::Servers(servers), folder.path(), wanted).await?.all().await
}

async fn an_engine_that_slept_commits_nothing() -> Done {
    let Some(test) = Test::new("slept", LEASE)? else { return Ok(()) };
    for round in 1..=4_usize {
        let run: RunId = format!("slept-{round}").parse()?;
        let asleep = test.engine("a", &run, Begin::Start).await?;
        let began = Instant::now();
        // In the middle of a task, later from round to round.
        while test.lines(&asleep, &run).iter().filter(|line| line.word == "start").count() < 4 * round {
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
        let said = test.lines(&asleep, &run).len();
        assert_eq!(metadata.run(&run).await?.ok_or("no run")?.state, RunState::Running);

        let next = test.engine("b", &run, Begin::StandBy).await?;
        succeeds(&next).await?;
        check(&run, &test.lines(&next, &run), &before);
        let over = outcome(&test, &run).await?;
        let journal = metadata.journal(&run, 0, 10_000).await?.len();

        kill_process(pid, Signal::CONT)?;
        assert!(!ends(&asleep).await?.success(), "it lost its run");
        let end = asleep.tail(20).join(" ");
        assert!(end.contains("taken over by another engine") && end.contains("it goes on there"), "{end}");
        let after = test.lines(&asleep, &run).split_off(said);
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
        let engine = Engine::builder()
            .metadata(std::sync::Arc::new(test.stores.metadata().await?))
            .artifacts(test.stores.artifacts(folder.join(format!("artifacts-{name}")))?)
            .lease(lease);
        Ok(engine.open(folder.join(name)).await?)
    };
    let pipeline = small()?;
    let (one, two) =
        (open("one", Duration::from_secs(30)).await?, open("two", Duration::from_secs(30)).await?);
    let start = async |engine: &Engine, round: i64| {
        let options = StartOptions::new().id(format!("left-{round}").parse::<RunId>()?);
        engine.start_with(&pipeline, args! {"witness" => test.at(round)}, options).await
    };
    let run = match start(&one, 1).await {
        Ok(run) => run,
        Err(error) => return Err(error.into()),
    };
    assert!(two.take_over(&[&pipeline]).await?.is_empty(), "another engine carries it");
    while witness::read(&PathBuf::from(test.at(1)), 0)?.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
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
        args: record.args.replace(&test.at(1), &test.at(2)),
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
