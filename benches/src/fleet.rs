//! Agents in processes of their own, and what their ranks tell.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kf_train::elastic::{Agent, AgentOptions, QuorumOptions};
use kf_train::{Job, JobEvent};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The variable with an agent's setup.
const AGENT: &str = "KF_BENCH_AGENT";
const LIMIT: Duration = Duration::from_secs(60);

/// What a line tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A rank has begun.
    Begun,
    /// A rank has done a step.
    Step,
    /// An agent has heard of a round.
    Round,
}

/// What a process has told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// When, in seconds since 1970.
    pub at: f64,
    /// The process.
    pub pid: u32,
    /// How many ranks there were, or nodes.
    pub world: usize,
    /// Of what.
    pub what: What,
}

/// Now, in seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Adds a line to those of a folder.
pub fn say(folder: &Path, what: What, world: usize) {
    let line = serde_json::json!(Line { at: now(), pid: std::process::id(), world, what });
    let file = File::options().append(true).create(true).open(folder.join("lines"));
    // What is not said is missed by who measures.
    let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

/// The lines of a folder.
#[derive(Debug)]
pub struct Lines {
    file: File,
    read: RefCell<(String, Vec<Line>)>,
}

impl Lines {
    /// Those of this folder, which none has written yet.
    ///
    /// # Errors
    /// That the file can't be made.
    pub fn of(folder: &Path) -> Outcome<Self> {
        let file = File::options().append(true).create(true).read(true).open(folder.join("lines"))?;
        Ok(Self { file, read: RefCell::default() })
    }

    /// All lines so far.
    ///
    /// # Errors
    /// That the file can't be read.
    pub fn all(&self) -> Outcome<Vec<Line>> {
        self.seen(|lines| lines.to_vec())
    }

    fn seen<T>(&self, look: impl FnOnce(&[Line]) -> T) -> Outcome<T> {
        let (text, lines) = &mut *self.read.borrow_mut();
        (&self.file).read_to_string(text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            lines.push(serde_json::from_str(line)?);
        }
        text.drain(..whole);
        Ok(look(lines))
    }

    /// Waits for lines of a kind after a moment, of so many processes, and gives the first of each.
    ///
    /// # Errors
    /// That they do not come.
    pub fn after(&self, at: f64, what: What, world: usize, count: usize) -> Outcome<Vec<Line>> {
        let until = now() + LIMIT.as_secs_f64();
        loop {
            let mut found: Vec<Line> = Vec::new();
            self.seen(|lines| {
                for line in
                    lines.iter().filter(|line| line.at > at && line.what == what && line.world == world)
                {
                    if found.iter().all(|other| other.pid != line.pid) {
                        found.push(line.clone());
                    }
                }
            })?;
            if found.len() >= count {
                return Ok(found);
            }
            if now() > until {
                return Err(format!("{} of {count} {what:?} within {LIMIT:?}: {found:?}", found.len()).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// From a moment to the last of these lines, in seconds.
pub fn took(from: f64, lines: &[Line]) -> f64 {
    lines.iter().map(|line| line.at - from).fold(0.0, f64::max)
}

/// Kills a process.
///
/// # Errors
/// That there is none.
pub fn kill(pid: u32) -> Outcome<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("no process has this number")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// How the agents of a job are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// What its ranks run; the function gets the folder.
    pub entry: String,
    /// Least and most nodes.
    pub nodes: (usize, usize),
    /// Ranks of each node.
    pub ranks: usize,
    /// Whether agents meet one another.
    pub meets: bool,
    /// Whether ranks outlive rounds.
    pub heal: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Start {
    setup: Setup,
    endpoint: Option<String>,
    folder: PathBuf,
}

/// Is an agent, where the program was started as one.
pub fn run_if_asked() -> Option<ExitCode> {
    let start = std::env::var(AGENT).ok().filter(|start| !start.is_empty())?;
    let Start { setup, endpoint, folder } = serde_json::from_str(&start).ok()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().ok()?;
    let mut options = AgentOptions::new(folder.join(format!("agent-{}", std::process::id())));
    options.run_id = "bench".into();
    options.endpoints = endpoint.into_iter().collect();
    options.heal = setup.heal;
    options.quorum = QuorumOptions {
        min_nodes: setup.nodes.0,
        max_nodes: setup.nodes.1,
        max_restarts: 1_000,
        last_call: Duration::from_millis(200),
        ..QuorumOptions::default()
    };
    let job = Job::ranks(setup.entry, setup.ranks).args(&folder).env(AGENT, "").on_event(move |event| {
        if let JobEvent::Round { nodes, .. } = event {
            say(&folder, What::Round, *nodes);
        }
    });
    match runtime.block_on(Agent::new(options).run::<()>(job)) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("an agent: {error}");
            Some(ExitCode::FAILURE)
        }
    }
}

/// Agents of one job; killed when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// What they tell.
    pub lines: Lines,
    start: Start,
    agents: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// A job without agents.
    ///
    /// # Errors
    /// That its folder can't be made.
    pub fn new(setup: Setup) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let endpoint = setup.meets.then(|| format!("127.0.0.1:{port}"));
        let lines = Lines::of(folder.path())?;
        let start = Start { setup, endpoint, folder: folder.path().to_owned() };
        Ok(Self { lines, start, agents: Vec::new(), _folder: folder })
    }

    /// Starts one more agent.
    ///
    /// # Errors
    /// That it does not start.
    pub fn start(&mut self) -> Outcome<()> {
        let start = serde_json::to_string(&self.start)?;
        let program = std::env::current_exe()?;
        self.agents.push(Command::new(program).env(AGENT, start).stdin(Stdio::null()).spawn()?);
        Ok(())
    }

    /// Kills the agent that was started last.
    ///
    /// # Errors
    /// That there is none.
    pub fn lose(&mut self) -> Outcome<()> {
        let mut last = self.agents.pop().ok_or("no agent")?;
        last.kill()?;
        last.wait()?;
        Ok(())
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
