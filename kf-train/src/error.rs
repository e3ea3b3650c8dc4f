//! The crate's error.

use std::path::PathBuf;
use std::time::Duration;

use crate::launch::Failure;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in kf-train, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The job as given can't be started.
    #[error("job `{job}` can't be started: {reason}")]
    Job {
        /// The job's name.
        job: String,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// There is no framework of this name.
    #[error("there is no framework `{found}`; there are: {known}")]
    Framework {
        /// The name given.
        found: String,
        /// The names that there are.
        known: String,
    },
    /// A job of this attempt id exists and is another one.
    #[error("attempt `{attempt}` runs another job already; use a new attempt id for a changed job")]
    Conflict {
        /// The attempt id.
        attempt: String,
    },
    /// The handle's job is not known here: it was never submitted or was deleted, or was of another process and ended with it.
    #[error(
        "job `{attempt}` is not known to this launcher: it was never submitted or was deleted, or it was one of local processes, \
         which end with the process that started them"
    )]
    Unknown {
        /// The attempt id.
        attempt: String,
    },
    /// Who is to carry the job refuses, or is not reached.
    #[error("can't {what}: {reason}")]
    Carrier {
        /// What was to be done.
        what: String,
        /// What it says.
        reason: String,
        /// Whether another attempt may fare better.
        retryable: bool,
    },
    /// A rank's process can't be started.
    #[error("rank {rank} of job `{job}` can't be started: {source}")]
    Spawn {
        /// The job's name.
        job: String,
        /// The rank.
        rank: usize,
        /// Why.
        source: kf_core::process::SpawnError,
    },
    /// The agents of a job have no place to meet.
    #[error("endpoint `{endpoint}`: {reason}; it is the `host:port` of a node where its agent can listen")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No agent that coordinates was found.
    #[error(
        "no agent of the job answers at {endpoints} within {after:?}: is one running there, with the same run id?"
    )]
    NoCoordinator {
        /// Where it was looked for.
        endpoints: String,
        /// For how long.
        after: Duration,
    },
    /// A rank that outlives rounds was given no place in one.
    #[error("this rank has no place in a round: {reason}")]
    NoPlan {
        /// Why.
        reason: String,
    },
    /// This node was told to leave, and has left; the others go on.
    #[error("this node has left job `{job}`")]
    Left {
        /// The job's name.
        job: String,
    },
    /// A rank failed, and the others were ended.
    #[error("job `{job}`: {failure}")]
    RankFailed {
        /// The job's name.
        job: String,
        /// Which rank, how, and what it said.
        failure: Box<Failure>,
    },
    /// The job was not done in the time given; its ranks were ended.
    #[error("job `{job}` was not done within {after:?}; its ranks were ended")]
    TimedOut {
        /// The job's name.
        job: String,
        /// The time given.
        after: Duration,
    },
    /// The job was cancelled; its ranks were ended.
    #[error("job `{job}` was canceled")]
    Canceled {
        /// The job's name.
        job: String,
    },
    /// The job could not be started whole, or watched.
    #[error("job `{job}`: {reason}")]
    Broken {
        /// The job's name.
        job: String,
        /// Why.
        reason: String,
        /// Whether another attempt may fare better.
        retryable: bool,
    },
    /// All ranks succeeded, but what rank 0 returned is not what the caller asked for.
    #[error("what rank 0 of job `{job}` returned can't be read: {reason}")]
    Result {
        /// The job's name.
        job: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This process is no rank, or its environment contradicts itself.
    #[error("environment variable {variable}: {reason}; ranks are started by a `Launcher` or by torchrun")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// What was found and expected.
        reason: String,
    },
    /// Ranks did not come to the meeting in time.
    #[error("{} of {world_size} did not join within {after:?}", name_ranks(missing))]
    NotJoined {
        /// Which.
        missing: Vec<usize>,
        /// How many ranks there should be.
        world_size: usize,
        /// The time given.
        after: Duration,
    },
    /// A collective failed: another rank is gone, or has closed its connections since its own time ran out, or the
    /// tensors do not fit one another.
    #[error("{operation}{} failed on rank {rank}: {message}", numbered(*call))]
    Collective {
        /// The call.
        operation: &'static str,
        /// Its number in the group, from 1; none of what not all ranks do, and of what was refused before it began.
        call: Option<u64>,
        /// This process's rank.
        rank: usize,
        /// The ranks that were not seen to make the call; empty where all did, or nothing is known of them.
        missing: Vec<usize>,
        /// c10d's own message, and what the missing ranks were last seen at.
        message: String,
    },
    /// A collective was not done in the group's time.
    #[error("{operation}{} was not done on rank {rank} within {after:?}: {message}", numbered(*call))]
    CollectiveTimedOut {
        /// The call.
        operation: &'static str,
        /// Its number in the group, from 1; none of what not all ranks do.
        call: Option<u64>,
        /// This process's rank.
        rank: usize,
        /// The time given.
        after: Duration,
        /// The ranks that were not seen to make the call; empty where all did, or nothing is known of them.
        missing: Vec<usize>,
        /// What these were last seen at; where there are none, c10d's own message.
        message: String,
    },
    /// The GPU that a rank is to use can't be used.
    #[error("rank {rank} can't use GPU {gpu}: {reason}")]
    Gpu {
        /// This process's rank.
        rank: usize,
        /// The number of the GPU asked for.
        gpu: usize,
        /// What is missing, and what there is.
        reason: String,
    },
    /// The ranks' parameters differ, so that averaging their gradients would be wrong.
    #[error("the parameters of rank {rank} differ from rank 0's: {difference}")]
    Mismatch {
        /// The first rank that differs.
        rank: usize,
        /// In what.
        difference: String,
    },
    /// A tensor is not what the call takes.
    #[error("{what}: found {found}, expected {expected}")]
    Tensor {
        /// Which tensor of which call.
        what: String,
        /// Its shape, type or place.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// libtorch failed.
    #[error("libtorch, in {what}: {message}")]
    Torch {
        /// What was being done.
        what: String,
        /// libtorch's own message.
        message: String,
    },
    /// A checkpoint is damaged or does not fit; an older one may.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// The folder or file.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// A store can't be served or reached, or the connection to it is lost.
    #[error("{what}, store at {address}: {source}")]
    Store {
        /// The call, with its key.
        what: String,
        /// Where the store is.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A call to a store was not done in its time. The connection is still in order.
    #[error("{what}, store at {address}: not within {after:?}")]
    StoreTimedOut {
        /// The call, with its key.
        what: String,
        /// Where the store is.
        address: String,
        /// The time given.
        after: Duration,
    },
    /// What no store takes.
    #[error("{what}: {reason}")]
    StoreRefused {
        /// Which key or value.
        what: String,
        /// What was found and expected.
        reason: String,
    },
    /// The store that was watched has ended.
    #[error("the store has ended, with the `StoreServer` that served it")]
    StoreEnded,
    /// A saved position is of another data set, or of another order of it.
    #[error(
        "a saved position is of {found}, but the sampler is of {expected}; go on with the same data and seed, or begin the epoch anew"
    )]
    Position {
        /// What the position is of.
        found: String,
        /// What it should be of.
        expected: String,
    },
    /// Data is not what the loader takes, or no longer what it was when it was opened.
    #[error("data {path}{}: found {found}, expected {expected}", place(.column, .row))]
    Data {
        /// The file, or what was to name files.
        path: PathBuf,
        /// The column.
        column: Option<String>,
        /// The row within the file, from 0.
        row: Option<u64>,
        /// What is there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The file system refused.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

fn place(column: &Option<String>, row: &Option<u64>) -> String {
    let column = column.as_ref().map(|column| format!(", column `{column}`")).unwrap_or_default();
    let row = row.map(|row| format!(", row {row}")).unwrap_or_default();
    column + &row
}

impl Error {
    /// Whether doing the same again may help: a rank or a connection was lost, or time was short. A job that is wrong
    /// in itself, a cancellation and a damaged checkpoint stay what they are.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RankFailed { .. }
            | Self::TimedOut { .. }
            | Self::NotJoined { .. }
            | Self::NoCoordinator { .. }
            | Self::NoPlan { .. }
            | Self::Collective { .. }
            | Self::CollectiveTimedOut { .. }
            | Self::StoreTimedOut { .. }
            | Self::Unknown { .. } => true,
            Self::Broken { retryable, .. } | Self::Carrier { retryable, .. } => *retryable,
            Self::Spawn { source, .. } => source.is_retryable(),
            Self::Io { source, .. } => {
                use std::io::ErrorKind::{Interrupted, ResourceBusy, StorageFull, TimedOut, WouldBlock};
                matches!(source.kind(), Interrupted | ResourceBusy | StorageFull | TimedOut | WouldBlock)
            }
            Self::Store { source, .. } => {
                use std::io::ErrorKind::{AddrNotAvailable, InvalidData, InvalidInput, PermissionDenied};
                !matches!(source.kind(), AddrNotAvailable | InvalidData | InvalidInput | PermissionDenied)
            }
            Self::Job { .. }
            | Self::Endpoint { .. }
            | Self::Left { .. }
            | Self::StoreRefused { .. }
            | Self::StoreEnded
            | Self::Framework { .. }
            | Self::Conflict { .. }
            | Self::Canceled { .. }
            | Self::Result { .. }
            | Self::Environment { .. }
            | Self::Gpu { .. }
            | Self::Mismatch { .. }
            | Self::Tensor { .. }
            | Self::Torch { .. }
            | Self::Position { .. }
            | Self::Data { .. }
            | Self::Checkpoint { .. } => false,
        }
    }

    /// The ranks that are known to be missing, maybe none, where the error is of ranks that are.
    #[cfg(feature = "torch")]
    pub(crate) fn missing_ranks(&self) -> Option<&[usize]> {
        match self {
            Self::NotJoined { missing, .. }
            | Self::Collective { missing, .. }
            | Self::CollectiveTimedOut { missing, .. } => Some(missing),
            _ => None,
        }
    }

    pub(crate) fn store(what: impl Into<String>, address: impl ToString, source: std::io::Error) -> Self {
        Self::Store { what: what.into(), address: address.to_string(), source }
    }

    /// A collective that failed for a reason that is this rank's own, or all ranks'.
    #[cfg(feature = "torch")]
    pub(crate) fn collective(operation: &'static str, rank: usize, message: impl Into<String>) -> Self {
        Self::Collective { operation, call: None, rank, missing: Vec::new(), message: message.into() }
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

fn numbered(call: Option<u64>) -> String {
    call.map(|call| format!(" (call {call} of this group)")).unwrap_or_default()
}

/// `rank 1`, `ranks 1 and 3`, `ranks 1, 2 and 3`.
pub(crate) fn name_ranks(ranks: &[usize]) -> String {
    let names: Vec<_> = ranks.iter().map(usize::to_string).collect();
    match names.as_slice() {
        [] => "no rank".into(),
        [one] => format!("rank {one}"),
        [most @ .., last] => format!("ranks {} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_named() {
        assert_eq!(name_ranks(&[1]), "rank 1");
        assert_eq!(name_ranks(&[1, 3]), "ranks 1 and 3");
        assert_eq!(name_ranks(&[1, 2, 3]), "ranks 1, 2 and 3");
    }
}
