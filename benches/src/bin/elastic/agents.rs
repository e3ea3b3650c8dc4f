//! Agents in processes of their own.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use benches::{Measured, Table};
use kf_core::worker::Workers;
use kf_train::elastic::{Agent, AgentOptions, QuorumOptions};
use kf_train::{Job, JobEvent, Rank, ranks};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// The variable with an agent's setup.
const AGENT: &str = "KF_BENCH_AGENT";
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setup {
    endpoint: Option<String>,
    nodes: (usize, usize),
    ranks: usize,
    restarts: u64,
    folder: PathBuf,
}

/// A rank that has begun, or an agent that has heard of a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    at: f64,
    pid: u32,
    world: usize,
    round: bool,
}

pub(crate) fn workers() -> Workers {
    Workers::new().with(ranks("hold", hold))
}

/// Says that it has begun, and waits for the end.
fn hold(rank: &Rank, folder: PathBuf) -> kf_train::Result<()> {
    say(&folder, rank.world_size(), false);
    while !folder.join("done").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn say(folder: &Path, world: usize, round: bool) {
    let line = serde_json::json!(Line { at: now(), pid: std::process::id(), world, round });
    let file = File::options().append(true).create(true).open(folder.join("lines"));
    // What is not said is missed by who measures.
    let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let setup = std::env::var(AGENT).ok().filter(|setup| !setup.is_empty())?;
    let setup: Setup = serde_json::from_str(&setup).ok()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().ok()?;
    let folder = setup.folder.clone();
    let mut options = AgentOptions::new(folder.join(format!("agent-{}", std::process::id())));
    options.run_id = "bench".into();
    options.endpoints = setup.endpoint.into_iter().collect();
    options.quorum = QuorumOptions {
        min_nodes: setup.nodes.0,
        max_nodes: setup.nodes.1,
        max_restarts: setup.restarts,
        last_call: Duration::from_millis(200),
        ..QuorumOptions::default()
    };
    let job = Job::ranks("hold", setup.ranks).args(&folder).env(AGENT, "").on_event(move |event| {
        if let JobEvent::Round { nodes, .. } = event {
            say(&folder, *nodes, true);
        }
    });
    match runtime.block_on(Agent::new(options).run::<()>(job)) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// Agents of one job; killed when it is dropped.
struct Fleet {
    setup: Setup,
    agents: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Fleet {
    fn new(nodes: (usize, usize), ranks: usize, meets: bool) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let endpoint = meets.then(|| format!("127.0.0.1:{port}"));
        let setup = Setup { endpoint, nodes, ranks, restarts: 1_000, folder: folder.path().to_owned() };
        Ok(Self { setup, agents: Vec::new(), _folder: folder })
    }

    fn start(&mut self) -> Outcome<()> {
        let program = std::env::current_exe()?;
        let setup = serde_json::to_string(&self.setup)?;
        let agent = Command::new(program).env(AGENT, setup).stdin(Stdio::null()).spawn()?;
        self.agents.push(agent);
        Ok(())
    }

    fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(self.setup.folder.join("lines")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for so many lines of a kind after a moment, and gives them.
    fn after(&self, at: f64, world: usize, round: bool, count: usize) -> Outcome<Vec<Line>> {
        let until = now() + LIMIT.as_secs_f64();
        loop {
            let mut found = self.lines();
            found.retain(|line| line.at > at && line.round == round && line.world == world);
            if found.len() >= count {
                return Ok(found);
            }
            if now() > until {
                return Err(format!("{} of {count} within {LIMIT:?}: {:?}", found.len(), self.lines()).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn kill(pid: u32) -> Outcome<()> {
    match Command::new("kill").args(["-KILL", &pid.to_string()]).status()?.success() {
        true => Ok(()),
        false => Err(format!("process {pid} can't be killed").into()),
    }
}

/// From a moment to the last of these lines, in seconds.
fn took(from: f64, lines: &[Line]) -> f64 {
    lines.iter().map(|line| line.at - from).fold(0.0, f64::max)
}

pub(crate) fn measure(table: &mut Table) -> Outcome<()> {
    let mut launches = Vec::new();
    for _ in 0..5 {
        let mut fleet = Fleet::new((1, 1), 2, false)?;
        let from = now();
        fleet.start()?;
        launches.push(took(from, &fleet.after(from, 2, false, 2)?));
    }
    table.add(Measured::new("launch of 2 ranks to their functions", "s", launches), None, "≤ 1");

    let mut fleet = Fleet::new((1, 1), 2, false)?;
    fleet.start()?;
    let mut ranks = fleet.after(0.0, 2, false, 2)?;
    let mut restarts = Vec::new();
    for _ in 0..50 {
        let from = now();
        kill(ranks.last().map_or(0, |rank| rank.pid))?;
        ranks = fleet.after(from, 2, false, 2)?;
        restarts.push(took(from, &ranks));
    }
    drop(fleet);
    table.add(Measured::new("rank killed to all ranks begun again", "s", restarts), None, "≤ 0.5");

    let (mut joins, mut losses) = (Vec::new(), Vec::new());
    let mut fleet = Fleet::new((1, 3), 1, true)?;
    fleet.start()?;
    fleet.after(0.0, 1, false, 1)?;
    fleet.start()?;
    fleet.after(0.0, 2, false, 2)?;
    for _ in 0..5 {
        let from = now();
        fleet.start()?;
        joins.push(took(from, &fleet.after(from, 3, false, 3)?));
        let from = now();
        let mut last = fleet.agents.pop().ok_or("no agent")?;
        last.kill()?;
        losses.push(took(from, &fleet.after(from, 2, false, 2)?));
        last.wait()?;
    }
    drop(fleet);
    table.add(Measured::new("node started to all ranks begun with it", "s", joins), None, "≤ 1");
    table.add(Measured::new("agent killed to the others' ranks begun again", "s", losses), None, "≤ 1");

    let mut meetings = Vec::new();
    for _ in 0..3 {
        let mut fleet = Fleet::new((64, 64), 1, true)?;
        let from = now();
        for _ in 0..64 {
            fleet.start()?;
        }
        meetings.push(took(from, &fleet.after(from, 64, true, 64)?));
    }
    table.add(Measured::new("64 agents started to all knowing their round", "s", meetings), None, "≤ 3");
    Ok(())
}
