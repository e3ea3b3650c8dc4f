//! Typed machine-learning pipelines.

extern crate self as kf_pipeline;

mod args;
mod builder;
mod component;
mod engine;
mod error;
mod plan;
mod scheduler;
pub mod report;
pub mod spec;

pub use args::Args;
pub use builder::{
    Arg, Artifact, ArtifactArg, ArtifactList, Call, CallOptions, Collect, Condition, Each, IntoArtifact,
    IntoArtifactList, IntoCondition, IntoValue, LoopRef, Pipeline, Scope, TaskRef, Value,
};
pub use component::{
    Body, Component, ComponentDef, Components, Context, Defaults, Input, Output, OutputParameter, Outputs, Param,
    Progress, Single, SingleLists, State, TaskError, TaskFuture, TaskIo, TaskOutputs, TaskResult,
};
pub use engine::{
    Attempt, AttemptEnd, AttemptHandle, AttemptOutputs, AttemptStatus, Engine, EngineBuilder, Executor, ExecutorError,
    RunEvent, RunHandle, RunOutcome, StartOptions, Submission, TaskCounts, Work,
};
pub use error::{Error, Problem, Result};
pub use kf_core::artifact::Metadata;
pub use kf_pipeline_macros::{Outputs, Param, component};
pub use plan::Plan;
pub use scheduler::TaskState;

/// What generated code calls.
#[doc(hidden)]
pub mod __private {
    pub use crate::component::output_value;
}

/// What most programs that build pipelines want: `use kf_pipeline::prelude::*;`.
pub mod prelude {
    pub use kf_core::artifact::{ClassificationMetrics, Dataset, Html, Markdown, Metrics, Model};

    pub use crate::{
        Engine, StartOptions,
        Component, Components, Context, Input, Output, Outputs, Param, Pipeline, State, TaskError, TaskResult, args,
        component,
    };
}
