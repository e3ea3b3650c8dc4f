//! What the example programs share, and what a program of one's own has already or does otherwise: the digits, the
//! command line, progress on a terminal, and a client that measures.

pub mod cli;
pub mod digits;
pub mod launch;
pub mod means;
pub mod progress;
pub mod query;
#[cfg(feature = "torch")]
pub mod quickstart;
pub mod reader;
