//! Components: what a task runs.
//!
//! `#[component]` makes one from a function. What it generates is public, so that a component can be written by
//! hand too; nothing else is hidden behind the attribute.

pub(crate) mod checkpoint;
mod definition;
mod error;
mod io;
pub(crate) mod memory;
mod outputs;
mod param;
mod state;
mod status;

pub use definition::{ArtifactCount, Body, Component, ComponentDef, Components, Defaults, TaskFuture};
pub use error::{TaskError, TaskResult};
pub use io::{Context, Input, Output, Progress, TaskIo, TaskOutputs};
pub(crate) use io::{
    InputArtifact, LogLines, LogSink, OutputArtifact, ProgressSink, StandardOutput, TaskIoParts,
};
pub(crate) use memory::{Memory, Written};
pub use outputs::{Field, definitions, finish};
pub use outputs::{OutputParameter, Outputs, Single, SingleLists};
pub use param::{Ordered, Param};
pub use state::State;
pub(crate) use state::StateMap;
pub use status::{FinalStatus, ItemFailure, StatusError};
