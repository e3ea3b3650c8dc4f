//! What torchrun's options and variables say: how many nodes and ranks, where the agents meet, and for how long they wait.
//!
//! Errors are texts without the option's name, which whoever reads a command line or an environment puts before them.

mod conf;
mod counts;
mod endpoint;
mod env;

pub use conf::Conf;
pub use counts::{nodes, ranks};
pub use endpoint::{endpoint, endpoints};
pub use env::ranks_from_env;
