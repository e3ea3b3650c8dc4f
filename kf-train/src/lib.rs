//! Distributed training.

mod error;
mod error_file;
mod launch;
mod progress;
mod rank;
mod ranks;

pub use error::{Error, Result};
pub use launch::{
    Failure, Job, JobEnd, JobEvent, JobHandle, JobSpec, Launcher, LocalLauncher, Program, RankEnd, run,
};
pub use progress::Progress;
pub use rank::Rank;
pub use ranks::ranks;
