//! Rounds: runs that are carried to their end by engines of which one after the other is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use kf_core::RunId;
use kf_core::process::{Child, Command, Exit, Log, Spawner};
use kf_pipeline::prelude::*;

use super::deaths::{Death, Planner, Random};
use super::judge::{Committed, Judge, same};
use super::phase::{PHASES, Phase};
use super::pipeline::SEED;
use super::program::{Begin, ENTRY, Order, Which};
use super::stores::Stores;
use super::witness::{self, Line, is_alive};

type Failure = Box<dyn std::error::Error>;
type Summary = BTreeMap<String, String>;

/// How often engines are killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) kills: usize,
    /// How often at least in every phase.
    pub(crate) each: usize,
    /// How many runs there are at once.
    pub(crate) lanes: usize,
}

pub(crate) struct Rounds {
    spawner: Spawner,
    stores: Stores,
    folder: PathBuf,
    /// Only reads.
    reader: Engine,
    wanted: Wanted,
    planner: Mutex<Planner>,
    next: AtomicUsize,
    tally: Mutex<Tally>,
}

/// What became of kills.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    hits: BTreeMap<Phase, usize>,
}

/// An engine's process.
struct Life {
    child: Child,
    home: PathBuf,
    begin: Begin,
    /// Where it reads how it dies.
    kill: PathBuf,
}

impl Rounds {
    pub(crate) async fn new(stores: Stores, folder: &Path, wanted: Wanted) -> Result<Self, Failure> {
        let seed = 0x5eed ^ u64::from(std::process::id());
        println!("random numbers from {seed:#x}");
        let planner = match stores.is_home() {
            true => Planner { random: Random(seed), ahead: 3, most: 30, commit: 60 },
            // It takes a lease until the next engine has the run.
            false => Planner { random: Random(seed), ahead: PHASES.len(), most: 6, commit: 3_000 },
        };
        std::fs::write(folder.join("seed"), SEED)?;
        let home = if stores.is_home() { "home" } else { "reader" };
        let reader = stores.engine(&folder.join(home), None).await.map_err(|error| error.to_string())?;
        Ok(Self {
            spawner: Spawner::new()?,
            stores,
            folder: folder.to_owned(),
            reader,
            wanted,
            planner: Mutex::new(planner),
            next: AtomicUsize::new(0),
            tally: Mutex::default(),
        })
    }

    /// Kills engines until that was often enough.
    pub(crate) async fn all(self) -> Result<(), Failure> {
        let began = Instant::now();
        // The first fills the cache.
        self.round(0, None).await?;
        let expected = self.round(0, None).await?;
        let lanes = (0..self.wanted.lanes).map(|lane| self.lane(lane, &expected));
        try_join_all(lanes).await?;
        let (runs, tally) = (self.next.into_inner() - 2, self.tally.into_inner()?);
        println!(
            "{} kills in {runs} runs in {:.0} s, {} of them in no phase: {:?}",
            tally.kills,
            began.elapsed().as_secs_f64(),
            tally.kills - tally.hits.values().sum::<usize>(),
            tally.hits
        );
        Ok(())
    }

    /// Runs, one after the other.
    async fn lane(&self, lane: usize, expected: &Summary) -> Result<(), Failure> {
        while !self.is_enough() {
            let runs = self.next.load(Ordering::SeqCst);
            assert!(runs <= self.wanted.kills, "after {runs} runs: {:?}", self.tally.lock().unwrap());
            self.round(lane, Some(expected)).await?;
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        let tally = self.tally.lock().unwrap();
        let hit = |phase| tally.hits.get(phase).copied().unwrap_or_default();
        tally.kills >= self.wanted.kills && PHASES.iter().all(|phase| hit(phase) >= self.wanted.each)
    }

    /// Carries a run to its end, through deaths where it is known what has to become of its tasks, and says that.
    async fn round(&self, lane: usize, expected: Option<&Summary>) -> Result<Summary, Failure> {
        let round = self.next.fetch_add(1, Ordering::SeqCst);
        let run: RunId = format!("round-{round}").parse()?;
        let witness = self.folder.join(format!("witness-{round}"));
        let mut judge = Judge::new(run.clone());
        let (mut seen, mut number) = (0, 0);
        let mut next = Some(self.begin(lane, number, &run, &witness, Begin::Start).await?);
        loop {
            let life = match next.take() {
                Some(life) => life,
                None => self.begin(lane, number, &run, &witness, Begin::Start).await?,
            };
            let death = expected
                .filter(|_| !self.is_enough())
                .and_then(|_| self.planner.lock().unwrap().next(number, judge.ends()));
            number += 1;
            life.is_told(death)?;
            if self.stores.next() != Begin::Start {
                // One at a time, so that it is known who takes over.
                while !self.has_begun(&life, &run, &witness, seen).await? && life.child.exit().is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                next = Some(self.begin(lane, number, &run, &witness, self.stores.next()).await?);
            }
            let exit = life.end(death, &witness, seen).await.map_err(said(&run, &life, death))?;
            let pid = life.child.pid();
            let lines = self.lines(&witness, seen, pid).await.map_err(said(&run, &life, death))?;
            seen += lines.len();
            if let Some(next) = &next {
                let hasty = lines.iter().any(|line| line.pid == next.child.pid());
                let (pid, by) = (life.child.pid(), next.child.pid());
                assert!(!hasty, "{run}: taken from {pid} by {by} while its engine lived: {lines:#?}");
            }
            let now = Committed::read(self.reader.metadata().as_ref(), &run).await?;
            let phases = judge.life(pid, &life.home, &lines, now)?;
            if exit.success() {
                if let Some(next) = next {
                    next.is_told(None)?;
                    next.end(None, &witness, seen).await.map_err(said(&run, &next, None))?;
                }
                break;
            }
            self.count(death, &phases);
        }
        let found = judge.end(&self.reader.report(&run).await?, self.reader.home().artifacts()).await?;
        if let Some(expected) = expected {
            same(&run, &found, expected);
        }
        Ok(found)
    }

    /// Whether an engine has the run, or, of the first, whether there is one that can be taken over.
    async fn has_begun(
        &self,
        life: &Life,
        run: &RunId,
        witness: &Path,
        seen: usize,
    ) -> Result<bool, Failure> {
        let created = life.begin == Begin::Start && self.reader.run(run).await?.is_some();
        Ok(created || !witness::read(witness, seen)?.is_empty())
    }

    /// A kill counts for the phase that it was meant for, or for the first that it was in.
    fn count(&self, death: Option<Death>, phases: &BTreeSet<Phase>) {
        let meant = match death {
            Some(Death::In(kill)) => phases.get(&kill.phase),
            _ => None,
        };
        let mut tally = self.tally.lock().unwrap();
        tally.kills += 1;
        if let Some(phase) = meant.or(phases.first()) {
            *tally.hits.entry(*phase).or_default() += 1;
        }
    }

    /// Starts an engine's process; where it has its stores in its home, in the same one, and else in another than the one
    /// before it.
    async fn begin(
        &self,
        lane: usize,
        number: usize,
        run: &RunId,
        witness: &Path,
        begin: Begin,
    ) -> Result<Life, Failure> {
        let home = match self.stores.is_home() {
            true => "home".to_owned(),
            false => format!("home-{lane}-{}", number % 2),
        };
        let home = self.folder.join(home);
        let kill = witness.with_extension(format!("kill-{number}"));
        let order = Order {
            stores: self.stores.clone(),
            home: home.clone(),
            witness: witness.to_owned(),
            run: run.clone(),
            // A name of its own: who stands by takes over every run of its pipeline.
            pipeline: Which::Richest { name: format!("richest-{lane}"), file: self.folder.join("seed") },
            begin,
            kill: Some(kill.clone()),
        };
        let log = Log::to(self.folder.join(format!("log-{lane}-{}", number % 2)));
        let child = self.spawner.spawn(Command::entry(ENTRY, &order)?.log(log)).await?;
        Ok(Life { child, home, begin, kill })
    }

    /// What a process that has ended wrote, and processes of its own, which have ended with it.
    async fn lines(&self, witness: &Path, skip: usize, pid: u32) -> Result<Vec<Line>, Failure> {
        let began = Instant::now();
        let lives = |line: &&Line| line.pid != pid && line.word == "start" && is_alive(line.pid);
        while let Some(line) = witness::read(witness, skip)?.iter().find(lives) {
            if began.elapsed() > Duration::from_secs(2) {
                return Err(format!("process {} lives on: {line:?}", line.pid).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // What is on its way to a server gets there; a process that was about to begin doesn't.
        tokio::time::sleep(Duration::from_millis(if self.stores.is_home() { 20 } else { 200 })).await;
        let lines = witness::read(witness, skip)?;
        match lines.iter().find(lives) {
            Some(line) => Err(format!("process {} began after its engine's end: {line:?}", line.pid).into()),
            None => Ok(lines),
        }
    }
}

impl Life {
    /// Tells it in which phase it dies.
    fn is_told(&self, death: Option<Death>) -> Result<(), Failure> {
        let kill = if let Some(Death::In(kill)) = death { Some(kill) } else { None };
        let part = self.kill.with_extension("part");
        std::fs::write(&part, serde_json::to_vec(&kill)?)?;
        Ok(std::fs::rename(part, &self.kill)?)
    }

    /// Waits for its end, of whatever kind is meant for it.
    async fn end(&self, death: Option<Death>, witness: &Path, seen: usize) -> Result<Exit, Failure> {
        if let Some(Death::After(time)) = death {
            tokio::time::sleep(time).await;
            self.child.kill();
        }
        let exit = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let exit = exit.map_err(|_| {
            let lines = witness::read(witness, seen).unwrap_or_default();
            format!("it hangs after {lines:#?}")
        })?;
        match exit.success() || (exit == Exit::Signal(9) && death.is_some()) {
            true => Ok(exit),
            false => Err(exit.to_string().into()),
        }
    }
}

fn said<E: Display>(run: &RunId, life: &Life, death: Option<Death>) -> impl FnOnce(E) -> Failure {
    move |error| {
        let (pid, tail) = (life.child.pid(), life.child.tail(20));
        format!("{run}, engine {pid} to die {death:?}: {error}: {tail:?}").into()
    }
}
