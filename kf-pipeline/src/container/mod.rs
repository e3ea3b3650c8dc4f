//! Containers of Kubeflow Pipelines, carried on this machine without a container engine.

mod command;
mod executor;
mod executor_input;
mod executor_output;
pub(crate) mod in_place;
mod kubernetes;
mod lightweight;
mod private;
mod python;
mod rules;
mod traceback;

pub use command::{Present, words};
pub use executor::LocalContainers;
pub(crate) use executor_input::local_path;
pub use rules::Runner;
