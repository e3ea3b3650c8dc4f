use std::{thread, time::Duration};

/// What a server allows.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Requests whose model may run at once.
    pub(crate) running: usize,
    /// Requests that may wait for their turn, bodies still arriving included.
    pub(crate) waiting: usize,
    /// A request body's bytes.
    pub(crate) body: usize,
    /// From a request's head to its answer.
    pub(crate) deadline: Duration,
    /// From the start of a shutdown to the end of the last request.
    pub(crate) drain: Duration,
    /// Open connections.
    pub(crate) connections: usize,
    /// From a connection's opening, or its last answer, to the next request's whole head; up to twice that.
    pub(crate) idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running: thread::available_parallelism().map_or(4, usize::from),
            waiting: 256,
            body: 64 << 20,
            deadline: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            connections: 8192,
            idle: Duration::from_secs(75),
        }
    }
}
