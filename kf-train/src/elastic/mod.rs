//! Agents that keep the ranks of a job together while nodes come and go.

mod quorum;
mod reason;
mod round;

pub use quorum::{NodeState, Phase, QuorumOptions, QuorumState, quorum};
pub use reason::Reason;
pub use round::{Node, Round};
