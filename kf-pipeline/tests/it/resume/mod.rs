//! A run goes on where it was, however its engine is killed: 100 kills with -9, and 1,000 with `KF_LONG=1`.

pub(crate) mod child;
pub(crate) mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kf_core::RunId;
use kf_core::metadata::{MetadataStore, RunState};
use kf_core::process::{Command, Exit, Log, Spawner};
use kf_core::worker::{Entry, entry};
use kf_pipeline::prelude::*;
use kf_pipeline::report::Report;
use libtest_mimic::Trial;
use serde_json::Value as Json;

use crate::{Done, test};
pub(crate) use child::{ENTRY, Order};
use child::{EXIT, RETRIED};
use witness::{Kill, Line, Phase};

/// How often engines are killed, and how often at least in every phase.
fn kills() -> (usize, usize) {
    if std::env::var_os("KF_LONG").is_some() { (1_000, 80) } else { (100, 8) }
}

pub(crate) fn tests() -> Vec<Trial> {
    vec![test("a_hundred_kills_lose_nothing", a_hundred_kills_lose_nothing)]
}

/// What the engine's process runs.
pub(crate) fn worker() -> impl Entry {
    entry(ENTRY, child::run)
}

async fn a_hundred_kills_lose_nothing() -> Done {
    let folder = tempfile::tempdir()?;
    let mut test = Test {
        spawner: Spawner::new()?,
        engine: Engine::open(folder.path().join("home")).await?,
        folder: folder.path().to_owned(),
        random: Random(0x5eed ^ u64::from(std::process::id())),
        kills: 0,
        hits: BTreeMap::new(),
    };
    println!("random numbers from {:#x}", test.random.0);
    let expected = test.round(0, Vec::new()).await?;
    assert!(expected.contains_key(EXIT) && expected.contains_key(RETRIED), "{expected:?}");
    let (mut round, (kills, hits)) = (0, kills());
    while test.kills < kills || test.hits.len() < 6 || test.hits.values().any(|found| *found < hits) {
        round += 1;
        assert!(round <= kills as i64 * 2 / 5, "after {} kills: {:?}", test.kills, test.hits);
        let plan = test.plan();
        let found = test.round(round, plan).await?;
        assert_eq!(found, expected, "round {round}");
    }
    println!("{} kills in {round} runs: {:?}", test.kills, test.hits);
    Ok(())
}

struct Test {
    spawner: Spawner,
    /// Only reads.
    engine: Engine,
    folder: PathBuf,
    random: Random,
    kills: usize,
    hits: BTreeMap<Phase, usize>,
}

/// How the process dies: by its own hand in a phase, or by ours some time after its start.
#[derive(Clone, Copy, Debug)]
enum Death {
    In(Kill),
    After(Duration),
}

/// What a run's journal says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Committed {
    /// Ends by task: how many there are of each.
    pub(crate) ends: BTreeMap<String, usize>,
    failed_attempts: BTreeMap<String, u32>,
}

impl Committed {
    pub(crate) async fn read(
        store: &dyn MetadataStore,
        run: &RunId,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut committed = Self::default();
        for entry in store.journal(run, 0, 10_000).await? {
            for event in serde_json::from_str::<Vec<Json>>(&entry.events)? {
                let Some(task) = event["task"].as_str() else { continue };
                match event["event"].as_str() {
                    Some("task" | "group") => *committed.ends.entry(task.to_owned()).or_default() += 1,
                    Some("attempt_failed") => {
                        *committed.failed_attempts.entry(task.to_owned()).or_default() += 1
                    }
                    other => return Err(format!("an event of an unknown kind: {other:?}").into()),
                }
            }
        }
        Ok(committed)
    }
}

impl Test {
    /// The deaths of a round, those that are reached late at the end. A commit is over in less time than a thread needs to
    /// begin, so most deaths that are to be during one come after it.
    fn plan(&mut self) -> Vec<Death> {
        use Phase::{AfterCommit, BeforeCommit, BetweenAttempts, DuringCommit, InExitHandler, InTask};
        let mut early =
            [BeforeCommit, DuringCommit, DuringCommit, AfterCommit, InTask, DuringCommit].repeat(2);
        for at in (1..early.len()).rev() {
            early.swap(at, self.random.below(at as u64 + 1) as usize);
        }
        let late = [BetweenAttempts, BetweenAttempts, InExitHandler, InExitHandler];
        let mut plan = vec![Death::After(Duration::from_millis(20 + self.random.below(150)))];
        for phase in early.into_iter().chain(late) {
            let nth = if late.contains(&phase) { 1 } else { 1 + self.random.below(2) as u32 };
            let delay = match phase {
                BeforeCommit | AfterCommit => 0,
                DuringCommit => 1 + self.random.below(60),
                InTask | InExitHandler => self.random.below(7_000),
                BetweenAttempts => self.random.below(50_000),
            };
            plan.push(Death::In(Kill { phase, nth, delay }));
        }
        plan
    }

    /// Carries a run to its end through all these deaths, and gives what became of its tasks.
    async fn round(
        &mut self,
        round: i64,
        deaths: Vec<Death>,
    ) -> Result<BTreeMap<String, String>, Box<dyn std::error::Error>> {
        let run: RunId = format!("round-{round}").parse()?;
        let witness = self.folder.join(format!("witness-{round}"));
        let mut deaths = deaths.into_iter();
        let (mut seen, mut committed) = (0, Committed::default());
        loop {
            let death = deaths.next();
            let exit = self.process(&run, round, &witness, death).await?;
            let lines = if witness.exists() { witness::read(&witness, seen)? } else { Vec::new() };
            seen += lines.len();
            check(&run, &lines, &committed);
            let now = Committed::read(self.engine.metadata().as_ref(), &run).await?;
            assert!(
                committed.ends.keys().all(|task| now.ends.contains_key(task)),
                "{committed:?} then {now:?}"
            );
            committed = now;
            if exit.success() {
                break;
            }
            self.kills += 1;
            let ended = committed.ends.keys().cloned().collect();
            let phases = witness::phases(&lines, &ended, EXIT);
            let hit = match death {
                Some(Death::In(kill)) => phases.contains(&kill.phase).then_some(kill.phase),
                _ => phases.first().copied(),
            };
            if let Some(phase) = hit {
                *self.hits.entry(phase).or_default() += 1;
            }
        }
        assert!(committed.ends.values().all(|ends| *ends == 1), "{committed:?}");
        let report = self.engine.report(&run).await?;
        assert_eq!(report.run.state, RunState::Succeeded, "{:?}", report.run.error);
        Ok(summary(&report))
    }

    /// Starts an engine's process, and waits for its end, of whatever kind.
    async fn process(
        &self,
        run: &RunId,
        round: i64,
        witness: &Path,
        death: Option<Death>,
    ) -> Result<Exit, Box<dyn std::error::Error>> {
        let kill = if let Some(Death::In(kill)) = death { Some(kill) } else { None };
        let home = self.folder.join("home");
        let order = Order { home, witness: witness.to_owned(), run: run.clone(), round, kill };
        let log = self.folder.join("log");
        let child = self.spawner.spawn(Command::entry(ENTRY, &order)?.log(Log::to(&log))).await?;
        if let Some(Death::After(time)) = death {
            tokio::time::sleep(time).await;
            child.kill();
        }
        let exit = tokio::time::timeout(Duration::from_secs(60), child.wait()).await;
        let exit = exit.map_err(|_| format!("{run} hangs after {death:?}: {:?}", child.tail(20)))?;
        let killed = exit == Exit::Signal(9) && death.is_some();
        if !killed && !exit.success() {
            return Err(format!("{run}, {death:?}: {exit}: {:?}", child.tail(20)).into());
        }
        Ok(exit)
    }
}

/// Compares what a process did with what was committed when it started.
pub(crate) fn check(run: &RunId, lines: &[Line], before: &Committed) {
    let mut started = BTreeSet::new();
    for line in lines.iter().filter(|line| line.word == "start") {
        assert!(!before.ends.contains_key(&line.task), "{run}: `{}` was committed and ran again", line.task);
        assert_eq!(line.key, format!("{run}/{}", line.task), "the key of an attempt");
        if started.insert(&line.task) {
            let failed = before.failed_attempts.get(&line.task).copied().unwrap_or_default();
            assert_eq!(line.attempt, failed + 1, "{run}: the first attempt at `{}` after a start", line.task);
        }
    }
}

/// What became of each task, without times.
pub(crate) fn summary(report: &Report) -> BTreeMap<String, String> {
    let mut tasks = BTreeMap::new();
    for task in &report.tasks {
        let digests = |list: &[kf_core::metadata::Io]| -> Vec<String> {
            list.iter().map(|io| format!("{}[{}] {:?}", io.port, io.index, io.artifact.digest)).collect()
        };
        let mut inputs = task.inputs.clone();
        inputs.remove("round");
        let text = format!(
            "{} {} {:?} {} {inputs:?} {:?} {:?} {:?}",
            task.state,
            task.attempts,
            task.error,
            task.failed_attempts.len(),
            task.outputs,
            digests(&task.input_artifacts),
            digests(&task.output_artifacts),
        );
        assert_eq!(tasks.insert(task.path.clone(), text), None, "`{}` is reported twice", task.path);
    }
    tasks
}

/// Numbers that look random (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
