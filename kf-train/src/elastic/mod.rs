//! Agents that keep the ranks of a job together while nodes come and go.

mod agent;
mod coordinator;
mod meeting;
pub(crate) mod messages;
mod options;
mod quorum;
mod ranks;
mod reason;
mod round;

pub use agent::Agent;
pub use options::AgentOptions;
pub use quorum::{NodeState, Phase, QuorumOptions, QuorumState, quorum};
pub use reason::Reason;
pub use round::{Node, Round};
