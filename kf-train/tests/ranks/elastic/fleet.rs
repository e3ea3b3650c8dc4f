//! Several agents, each in a process of its own, and what their ranks witness.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::agent::{AGENT, Setup};
use super::processes::{FLEET, of_fleet, surplus};
use crate::{lives, until};

/// The arguments of the entry `elastic-steps`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Steps {
    /// Where each rank adds a line when it begins.
    pub(crate) witness: PathBuf,
    /// The ranks succeed when this file is there.
    pub(crate) done: PathBuf,
    /// How long a rank that is to leave still works, in seconds.
    pub(crate) linger: f64,
    /// They don't hear SIGTERM.
    pub(crate) deaf: bool,
}

/// What a rank says when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) node: usize,
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    pub(crate) restarts: u64,
    pub(crate) port: u16,
    pub(crate) pid: u32,
    pub(crate) left: bool,
}

/// Agents of one job. Those that still run are killed when it is dropped.
pub(crate) struct Fleet {
    pub(crate) setup: Setup,
    pub(crate) folder: PathBuf,
    pub(crate) agents: Vec<AgentProcess>,
    /// What an agent of a node is started by, where it is not this machine itself: `ip netns exec NAME`.
    pub(crate) within: Box<dyn Fn(usize) -> Vec<String>>,
}

pub(crate) struct AgentProcess {
    pub(crate) node: usize,
    process: Child,
    log: PathBuf,
}

impl Fleet {
    /// A job of between `min` and `max` nodes of so many ranks that run until [`finish`](Self::finish).
    pub(crate) fn new(folder: &Path, endpoints: &[String], (min, max): (usize, usize), ranks: usize) -> Self {
        let args =
            Steps { witness: folder.join("witness"), done: folder.join("done"), linger: 0.0, deaf: false };
        let setup = Setup {
            run_id: "job".into(),
            endpoints: endpoints.to_vec(),
            min_nodes: min,
            max_nodes: max,
            max_restarts: 0,
            heartbeat_timeout: 2.0,
            last_call: 0.5,
            allow_minority: false,
            heal: false,
            stop_grace: 0.5,
            ranks,
            entry: "elastic-steps".into(),
            args: serde_json::json!(args),
            folder: folder.to_owned(),
        };
        Self { setup, folder: folder.to_owned(), agents: Vec::new(), within: Box::new(|_| Vec::new()) }
    }

    /// Starts the agent of a node.
    pub(crate) fn start(&mut self, node: usize) {
        let name = format!("agent-{}-of-node-{node}", self.agents.len());
        let mut setup = self.setup.clone();
        setup.folder = self.folder.join(&name);
        let log = self.folder.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut line = (self.within)(node);
        line.push(program.to_str().unwrap().to_owned());
        let process = Command::new(&line[0])
            .args(&line[1..])
            .env(AGENT, serde_json::to_string(&setup).unwrap())
            .env("KF_TEST_NODE", node.to_string())
            .env(FLEET, &self.folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        self.agents.push(AgentProcess { node, process, log });
    }

    /// The agent that was started for a node last.
    pub(crate) fn agent(&mut self, node: usize) -> &mut AgentProcess {
        self.agents.iter_mut().rev().find(|agent| agent.node == node).unwrap()
    }

    /// What the ranks have witnessed so far.
    pub(crate) fn begun(&self) -> Vec<Begun> {
        let text = std::fs::read_to_string(self.folder.join("witness")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The ranks that run just now.
    pub(crate) fn running(&self) -> Vec<Begun> {
        let mut running: Vec<_> =
            self.begun().into_iter().filter(|begun| !begun.left && lives(begun.pid)).collect();
        running.sort_by_key(|begun| begun.rank);
        running
    }

    /// Waits until exactly these nodes' ranks run, as one world, with so many restarts. How long that took.
    pub(crate) async fn trains(&self, nodes: &[usize], restarts: u64) -> Duration {
        let began = Instant::now();
        let per_node = self.setup.ranks;
        let what = format!("nodes {nodes:?} train after {restarts} restarts");
        until(&what, || {
            let running = self.running();
            let mut seen: Vec<_> = running.iter().map(|begun| begun.node).collect();
            seen.sort_unstable();
            let wanted: Vec<_> = nodes.iter().flat_map(|node| vec![*node; per_node]).collect();
            let one_world = running.iter().enumerate().all(|(i, begun)| {
                begun.rank == i
                    && begun.world_size == running.len()
                    && begun.restarts == restarts
                    && begun.port == running[0].port
            });
            seen == wanted && one_world
        })
        .await;
        began.elapsed()
    }

    /// Lets the ranks succeed, and waits for all agents that still run; how each ended.
    pub(crate) async fn finish(&mut self) -> Vec<Option<i32>> {
        std::fs::write(self.folder.join("done"), b"").unwrap();
        self.ended().await
    }

    /// Waits for all agents; how each ended. No rank is left then.
    pub(crate) async fn ended(&mut self) -> Vec<Option<i32>> {
        let logs = self.logs();
        for agent in &mut self.agents {
            until(&format!("agent of node {} ends\n{logs}", agent.node), || {
                agent.process.try_wait().unwrap().is_some()
            })
            .await;
        }
        self.no_process_is_left_over().await;
        self.agents.iter_mut().map(|agent| agent.exit().unwrap().code()).collect()
    }

    /// Checks that there are the agents that live, so many ranks of each, and nothing else.
    pub(crate) async fn no_process_is_left_over(&mut self) {
        let mut live = Vec::new();
        for agent in &mut self.agents {
            if agent.exit().is_none() {
                live.push(agent.process.id());
            }
        }
        let mut found = None;
        for _ in 0..100 {
            found = surplus(&of_fleet(&self.folder), &live, self.setup.ranks);
            if found.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{found:?}\n{}", self.logs());
    }

    pub(crate) fn logs(&self) -> String {
        let log = |agent: &AgentProcess| format!("node {}:\n{}", agent.node, agent.said());
        self.agents.iter().map(log).collect()
    }
}

impl AgentProcess {
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            let _ = agent.process.kill();
            let _ = agent.process.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// A port of this machine that is free just now.
pub(crate) fn free_port() -> u16 {
    kf_core::testing::servers::free_port().unwrap()
}
