//! Leaves: tasks that an executor carries out, attempt by attempt.

use std::sync::Arc;
use std::time::Duration;

use kf_core::backoff::Backoff;
use kf_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Place, Values};
use crate::plan::{Caching, Executor, Retry};

/// How long is waited after an attempt was lost: what took it may take the next one too.
const AFTER_LOSS: Backoff =
    Backoff { initial: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(60), jitter: 0.5 };

/// The id of a leaf within its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LeafId(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Wants to start.
    Ready,
    /// The cache is being asked.
    Lookup,
    Running,
    /// Waits for its next attempt.
    Waiting,
    /// Waits for a person.
    Asked,
}

pub(crate) struct Leaf {
    pub(super) place: Place,
    pub(super) path: Arc<str>,
    pub(super) executor: Arc<Executor>,
    pub(super) inputs: Arc<Values>,
    pub(super) caching: Caching,
    pub(super) looked_up: bool,
    pub(super) cache_key: Option<Digest>,
    pub(super) exempt: bool,
    pub(super) stage: Stage,
    /// The number of the attempt under way or ended last; 0 before the first.
    pub(super) attempt: u32,
    /// How many of its attempts were lost by no fault of the task.
    pub(super) lost: u32,
    pub(super) first_started: Option<Timestamp>,
}

impl Leaf {
    pub(super) fn new(
        place: Place,
        path: Arc<str>,
        executor: Arc<Executor>,
        inputs: Arc<Values>,
        caching: Caching,
        exempt: bool,
    ) -> Self {
        Self {
            place,
            path,
            executor,
            inputs,
            caching,
            looked_up: false,
            cache_key: None,
            exempt,
            stage: Stage::Waiting,
            attempt: 0,
            lost: 0,
            first_started: None,
        }
    }

    pub(super) fn launch(&self, id: LeafId) -> Launch {
        Launch {
            leaf: id,
            task: Arc::clone(&self.path),
            attempt: self.attempt,
            executor: Arc::clone(&self.executor),
            inputs: Arc::clone(&self.inputs),
            caching: self.caching,
        }
    }

    /// How long its next attempt waits.
    pub(super) fn delay(&self, retry: &Retry, lost: bool) -> Duration {
        match lost {
            true => AFTER_LOSS.delay(self.lost, self.seed()),
            false => retry.backoff.delay(self.attempt - self.lost, self.seed()),
        }
    }

    /// What makes the jitter of this task's waits its own, the same after a restart.
    pub(super) fn seed(&self) -> u64 {
        let digest = Digest::of(self.path.as_bytes());
        digest.as_bytes()[..8].iter().fold(0, |seed, &byte| seed << 8 | u64::from(byte))
    }
}

/// A task to look up or to attempt.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) leaf: LeafId,
    pub(crate) task: Arc<str>,
    /// 1 for the first attempt.
    pub(crate) attempt: u32,
    pub(crate) executor: Arc<Executor>,
    pub(crate) inputs: Arc<Values>,
    pub(crate) caching: Caching,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Succeeded(Values),
    Failed(Failure),
    Canceled,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
    pub(crate) retryable: bool,
}

/// What an attempt failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// The component gave an error, panicked, or gave what it had not declared.
    Task,
    /// It took longer than allowed.
    Timeout,
    /// It could not be carried.
    Carrier,
    /// What carried it is gone, by no fault of the task: a node, a place on it.
    Lost,
}

impl Failure {
    pub(crate) fn task(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Task, message: message.into(), retryable: true }
    }

    pub(crate) fn carrier(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Carrier, message: message.into(), retryable: true }
    }

    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Lost, message: message.into(), retryable: true }
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Timeout, message: message.into(), retryable: true }
    }

    pub(crate) fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }
}
