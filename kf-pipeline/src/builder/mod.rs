//! The typed builder: a closure that adds tasks and passes handles along.
//!
//! A handle ([`Value`], [`Artifact`], [`ArtifactList`]) exists only after the task that makes it, so tasks can't
//! wait for one another; it carries its type, so that wrong wiring doesn't compile; and it carries the lifetime of
//! its pipeline, so that it fits no other. What types can't see — a handle that left its loop, branch or group — `build`
//! refuses, with the caller's file and line.

/// Calls a macro with the names of the elements of each tuple that may hold handles: up to six.
macro_rules! for_tuples {
    ($each:ident) => {
        $each!(A);
        $each!(A B);
        $each!(A B C);
        $each!(A B C D);
        $each!(A B C D E);
        $each!(A B C D E F);
    };
}

mod arg;
mod beyond;
mod branches;
mod call;
mod collect;
mod condition;
mod export;
mod graph;
mod group;
mod handle;
mod handles;
mod loops;
mod lower;
mod no_value;
mod outputs;
mod pipeline;
mod recursion;
mod refuse;
mod scope;
#[cfg(test)]
mod tests;

pub use arg::{Arg, ArtifactArg, IntoArtifact, IntoArtifactList, IntoOptionalArtifact, IntoValue};
pub use beyond::{Answer, Question, Yes};
pub use branches::When;
pub use call::{Call, CallOptions};
pub use collect::{Collect, Each, LoopRef};
pub use condition::{Condition, IntoCondition};
pub use export::Export;
pub use handle::{Artifact, ArtifactList, TaskRef, Value};
pub use handles::{Handles, Relocation};
pub use loops::Items;
pub use outputs::{IntoOutput, OutputArg};
pub use pipeline::Pipeline;
pub use recursion::{Carried, Recursion};
pub use scope::Scope;
