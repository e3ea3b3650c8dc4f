//! Distributed training.

#[cfg(feature = "torch")]
mod checkpoint;
#[cfg(feature = "torch")]
mod ddp;
mod error;
mod error_file;
#[cfg(feature = "torch")]
mod group;
mod launch;
mod progress;
mod rank;
mod ranks;
mod sampler;

#[cfg(feature = "torch")]
pub use checkpoint::Checkpoints;
#[cfg(feature = "torch")]
pub use ddp::{DdpOptions, DistributedDataParallel};
pub use error::{Error, Result};
#[cfg(feature = "torch")]
pub use group::{Backend, GroupOptions, ProcessGroup, ReduceOp};
pub use launch::{
    Failure, Job, JobEnd, JobEvent, JobHandle, JobSpec, Launcher, LocalLauncher, Program, RankEnd, run,
};
pub use progress::Progress;
pub use rank::Rank;
pub use ranks::ranks;
pub use sampler::DistributedSampler;
