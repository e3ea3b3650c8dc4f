use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

/// The error of code that the user brings: a runtime's `infer`, a loader's `load`.
///
/// Any error type turns into it with `?`. Where the cause is the caller's input rather than the model, return
/// [`Error::InvalidInput`]: the server answers it with 400, everything else with 500.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What this crate's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by what the caller can do about it.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request, tensor or name is wrong: change it. HTTP 400.
    #[error("{0}")]
    InvalidInput(String),
    /// No such model or version: ask for one that is there. HTTP 404.
    #[error("model `{model}` isn't known here; {known}")]
    UnknownModel {
        /// The model asked for, with its version where one was given.
        model: String,
        /// What is known instead.
        known: String,
    },
    /// The model is known but can't answer now. HTTP 503.
    #[error("model `{model}` isn't ready: {reason}")]
    NotReady {
        /// The model asked for.
        model: String,
        /// Why: still loading, or its load failed.
        reason: String,
    },
    /// As many requests run and wait as are allowed: try again later. HTTP 503 with `Retry-After`.
    #[error(
        "the server is busy: {running} requests may run and {waiting} may wait, and all places are taken; try again later"
    )]
    Busy {
        /// How many requests may run at once.
        running: usize,
        /// How many may wait for their turn.
        waiting: usize,
    },
    /// The server drains and takes no new request: ask another one. HTTP 503 with `Retry-After`.
    #[error("the server is shutting down and takes no new requests")]
    Draining,
    /// No answer within the request's deadline. HTTP 504.
    #[error("no answer within the deadline of {0:?}")]
    Deadline(Duration),
    /// The caller took too long to send the body. HTTP 408.
    #[error("the request body didn't arrive within {0:?}")]
    SlowBody(Duration),
    /// The server isn't set up to allow that. HTTP 403.
    #[error("{0}")]
    Forbidden(String),
    /// The body is over the limit: send less, or raise the limit. HTTP 413.
    #[error("the request body is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body is in an encoding or of a type that isn't taken. HTTP 415.
    #[error("{0}")]
    UnsupportedContent(String),
    /// JSON has no way to write this output: ask for it in binary. HTTP 406.
    #[error("{0}")]
    NotInJson(String),
    /// The model itself failed: it returned an error or the wrong tensors, or panicked. HTTP 500.
    #[error("model `{model}` failed: {message}")]
    Model {
        /// The model and its version.
        model: String,
        /// What happened.
        message: String,
    },
    /// A model couldn't be loaded; an older one, if any, still serves. HTTP 500.
    #[error("model `{model}` couldn't be loaded from {}: {source}", folder.display())]
    Load {
        /// The model and its version.
        model: String,
        /// The folder it was to be read from.
        folder: PathBuf,
        /// What the loader said.
        source: BoxError,
    },
    /// The address can't be listened on, most often because another program already does.
    #[error("can't listen on {addr}: {source}; choose another address, or port 0 for any free port")]
    Bind {
        /// The address asked for.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server closed with requests unfinished, as the drain deadline had passed.
    #[error("the server at {addr} closed after {after:?} with {unfinished} requests unfinished")]
    DrainDeadline {
        /// The server's address.
        addr: SocketAddr,
        /// The drain deadline.
        after: Duration,
        /// How many requests were cut off.
        unfinished: usize,
    },
}

impl Error {
    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotReady { .. }
                | Self::Busy { .. }
                | Self::Draining
                | Self::Deadline(_)
                | Self::SlowBody(_)
        )
    }

    /// An [`Error::InvalidInput`], for a runtime that finds fault with the values it was given.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::InvalidInput(message.into())
    }
}
