//! Starting the ranks of a job, and learning how they fare.

mod attempt_id;
mod carry;
mod environment;
mod event;
mod failure;
mod feed;
mod gang;
mod job;
mod local;
mod machine;
mod memory;
mod port;
mod rank_process;
mod reader;
mod run;
mod spec;
mod status;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::Result;

pub(crate) use environment::{Heal, Place, variables};
pub(crate) use gang::{Gang, GangEnd, Tell};
pub(crate) use machine::gpus_for;
pub(crate) use run::result_of;

pub use attempt_id::check_attempt_id;
pub use event::{JobEnd, JobEvent};
pub use failure::{Failure, RankEnd, Suspect, culprit};
pub use feed::JobFeed;
pub use job::{Job, JobHandle};
pub use local::LocalLauncher;
pub use run::run;
pub use spec::{JobSpec, Program};
pub use status::{
    Condition, ConditionStatus, ConditionType, JobStatus, RankState, RankStatus, TrainerStatus,
};

/// Carries N ranks as one job.
///
/// A job is known by the attempt id that its caller gives: submitting the same attempt again is the same job, and its
/// [`JobHandle`] can be stored and attached to later. What every implementation must do is told, and checked, by
/// `testing::launcher_conformance` (feature `testing`).
#[async_trait]
pub trait Launcher: Send + Sync + 'static {
    /// Whether jobs go on when the process that submitted them ends, so that attaching to them later makes sense.
    fn jobs_outlive_caller(&self) -> bool;

    /// Starts a job, or finds the one that was started under this attempt id.
    ///
    /// # Errors
    /// [`Error::Job`](crate::Error::Job) for a job that can't be started as it is, [`Error::Conflict`](crate::Error::Conflict)
    /// when the attempt id is another job's, and what the carrier says when it can't start it now.
    async fn submit(&self, spec: JobSpec, attempt_id: &str) -> Result<JobHandle>;

    /// Finds a job again.
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown) where it is gone.
    async fn attach(&self, handle: &JobHandle) -> Result<()>;

    /// What happens to a job from now on; for the first who asks, from the beginning on. The last event is
    /// [`JobEvent::Ended`], which comes at once where the job has ended already; a reader that is too slow misses others, never
    /// that one, and is told how many by [`JobEvent::Missed`].
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown) where the job is gone.
    async fn events(&self, handle: &JobHandle) -> Result<BoxStream<'static, JobEvent>>;

    /// How a job fares now. Whoever has read an event finds it taken into account; [`JobStatus::apply`] tells how.
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown) where the job is gone.
    async fn status(&self, handle: &JobHandle) -> Result<JobStatus>;

    /// What a rank has printed so far, within the log's limits.
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown) where the job is gone, [`Error::Job`](crate::Error::Job) where it has no
    /// such rank, [`Error::Io`](crate::Error::Io) where the log can't be read.
    async fn logs(&self, handle: &JobHandle, rank: usize) -> Result<String>;

    /// Ends a job; its last event tells when that is done. Nothing happens to one that has ended.
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown) where the job is gone.
    async fn cancel(&self, handle: &JobHandle) -> Result<()>;
}
