//! Agents that keep the ranks of a job together while nodes come and go.
//!
//! One [`Agent`] runs on each node. The agents meet at an endpoint, agree on a [`Round`] (which nodes train together, in
//! which order), start their ranks with torchrun's environment, and make another round when a node joins, leaves or is
//! lost, or a rank fails:
//!
//! ```no_run
//! use std::time::Duration;
//! use kf_train::{Job, elastic::{Agent, AgentOptions, QuorumOptions}};
//!
//! # async fn doc() -> kf_train::Result<()> {
//! let mut options = AgentOptions::new("logs");
//! options.run_id = "digits-7".into();
//! options.endpoints = vec!["node-0.example:29400".into()];          // the same on all nodes
//! options.quorum = QuorumOptions { min_nodes: 2, max_nodes: 8, max_restarts: 3, ..Default::default() };
//! Agent::new(options).run::<()>(Job::command("python3", ["train.py"], 4)).await?;
//! # Ok(()) }
//! ```
//!
//! # How nodes agree
//! One agent coordinates: the first at the endpoint. The others tell it how they fare, over a store that it serves
//! ([`store`](crate::store), c10d's TCPStore). It decides by a pure function, [`quorum`], and tells each decision with its
//! [`Reason`]; both are logged through `tracing`, and told as [`JobEvent::Round`](crate::JobEvent::Round) and
//! [`JobEvent::Waiting`](crate::JobEvent::Waiting).
//! - A node that joins or leaves makes a new round and uses no restart; a failed rank uses one. With none left the job
//!   fails, on every node with the same error.
//! - The ranks of each round meet at a store that is served for that round alone, so that nothing of an earlier round is
//!   in their way.
//! - When the coordinator is lost, the next node of the round takes over. A node whose agent has ended is told from one
//!   that can't be reached: a machine refuses connections to the former.
//! - Where the network is cut, the larger part goes on: more than half of the nodes that may be alive, or half with the
//!   first of them. The others stop their ranks and wait ([`QuorumOptions::allow_minority`] lets them go on). A job of two
//!   nodes thus goes on by itself when an agent is killed, and on the first node when the link is cut; when the machine of
//!   the first node is gone without a trace, the second waits.
//! - [`AgentOptions::leave`] (a spot machine's notice) lets a node go in good order: its ranks may save what they have
//!   ([`Rank::is_leaving`](crate::Rank::is_leaving), or SIGTERM for foreign programs), and the others go on.
//!
//! # Where torchrun is expected
//! Pods of Kubernetes and scripts tell torchrun what to do by variables (`PET_NNODES` …). [`AgentOptions::from_env`] reads
//! them, so that a program of one's own runs there; [`torchrun`] has the parts. Such a program leaves in good order when it is
//! asked to end, and tells that by its exit code as shells do: 143.
//!
//! ```no_run
//! use kf_train::elastic::{Agent, AgentOptions, torchrun::ranks_from_env};
//! use kf_train::{Error, Job};
//! use tokio::signal::unix::{SignalKind, signal};
//!
//! # async fn doc() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
//! let options = AgentOptions::from_env("/tmp/logs")?;
//! let (leave, mut told) = (options.leave.clone(), signal(SignalKind::terminate())?);
//! tokio::spawn(async move {
//!     told.recv().await;
//!     leave.cancel();
//! });
//! let job = Job::command("python3", ["train.py"], ranks_from_env()?);
//! Ok(match Agent::new(options).run::<()>(job).await {
//!     Ok(()) => 0.into(),
//!     Err(Error::Left { .. }) => 143.into(),
//!     Err(error) => return Err(error.into()),
//! })
//! # }
//! ```
//!
//! # Healing without a restart
//! With [`AgentOptions::heal`] ranks outlive rounds: when one is lost, the others keep their state in memory and go on from
//! the step that it was lost in, and who takes its place gets the state from them. Such ranks train in a
//! [`Team`](../struct.Team.html) (feature `torch`).

mod agent;
mod coordinator;
mod meeting;
pub(crate) mod messages;
mod options;
mod quorum;
mod ranks;
mod reason;
mod round;
mod serving;
pub mod torchrun;

pub use agent::Agent;
pub use options::AgentOptions;
pub use quorum::{NodeState, Phase, QuorumOptions, QuorumState, quorum};
pub use reason::Reason;
pub use round::{Node, Round, RoundNote};
