//! How tasks are made pods.

use std::time::Duration;

use crate::train::PodOptions;

/// What all pods of an executor have in common.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskOptions {
    /// The pods: the image is that of the program that has the components, and `keep` says how long a pod stays that has
    /// ended and whose engine never came for what it gave.
    pub pod: PodOptions,
    /// Environment variables of the pods.
    pub env: Vec<(String, String)>,
    /// How long the pod of a task stays whose end is committed; it goes at once where not given.
    pub keep_finished: Duration,
    /// How many requests that change something are sent a second, at most; 50 where not given.
    pub writes_per_second: u32,
    /// Whether what pods print is kept with their attempts, which reads each pod's log; yes where not given. Without, a failed
    /// command's last lines are not told either.
    pub keep_logs: bool,
    /// How many pods' logs are followed while they run, at most; of others, the log is read when they have ended. 64 where
    /// not given.
    pub followed_logs: usize,
}

impl TaskOptions {
    /// Of an image of the program.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            pod: PodOptions::new(image),
            env: Vec::new(),
            keep_finished: Duration::ZERO,
            writes_per_second: 50,
            keep_logs: true,
            followed_logs: 64,
        }
    }
}
