//! An agent as a process of its own: this test binary, told by a variable.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kf_train::elastic::{Agent, AgentOptions, QuorumOptions};
use kf_train::{Error, Job, JobEvent};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

/// The variable with an agent's [`Setup`].
pub(crate) const AGENT: &str = "KF_TEST_AGENT";

/// What an agent is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) run_id: String,
    pub(crate) endpoints: Vec<String>,
    pub(crate) min_nodes: usize,
    pub(crate) max_nodes: usize,
    pub(crate) max_restarts: u64,
    pub(crate) heartbeat_timeout: f64,
    pub(crate) last_call: f64,
    pub(crate) allow_minority: bool,
    pub(crate) heal: bool,
    pub(crate) stop_grace: f64,
    pub(crate) ranks: usize,
    pub(crate) entry: String,
    pub(crate) args: serde_json::Value,
    pub(crate) folder: PathBuf,
}

/// Runs the agent that the environment asks for, if any. Left is 3, failed is 1.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let setup = std::env::var(AGENT).ok().filter(|setup| !setup.is_empty())?;
    let setup: Setup = serde_json::from_str(&setup).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    Some(runtime.block_on(run(setup)))
}

async fn run(setup: Setup) -> ExitCode {
    let mut options = AgentOptions::new(setup.folder);
    options.run_id = setup.run_id;
    options.endpoints = setup.endpoints;
    options.heartbeat = Duration::from_secs_f64(setup.heartbeat_timeout / 5.0);
    options.join_timeout = Duration::from_secs(60);
    options.leave_grace = Duration::from_secs(5);
    options.heal = setup.heal;
    options.quorum = QuorumOptions {
        min_nodes: setup.min_nodes,
        max_nodes: setup.max_nodes,
        max_restarts: setup.max_restarts,
        heartbeat_timeout: Duration::from_secs_f64(setup.heartbeat_timeout),
        last_call: Duration::from_secs_f64(setup.last_call),
        allow_minority: setup.allow_minority,
        ..QuorumOptions::default()
    };
    let leave = options.leave.clone();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::spawn(async move {
        terminate.recv().await;
        leave.cancel();
    });
    let grace = Duration::from_secs_f64(setup.stop_grace);
    let job =
        Job::ranks(setup.entry, setup.ranks).args(&setup.args).env(AGENT, "").stop_grace(grace).on_event(
            |event| {
                if let JobEvent::Round { number, nodes, restarts, reason, .. } = event {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
                    println!("{now} round {number} of {nodes} after {restarts}: {reason}");
                }
            },
        );
    match Agent::new(options).run::<serde_json::Value>(job).await {
        Ok(result) => {
            println!("result {result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("error {error}");
            ExitCode::from(if matches!(error, Error::Left { .. }) { 3 } else { 1 })
        }
    }
}
