//! The crate's error.

use std::path::PathBuf;

/// What can go wrong in kf-core, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is not what its type asks for.
    #[error("{what} `{found}` is not valid: expected {expected}")]
    Invalid {
        /// What was read.
        what: &'static str,
        /// What was found.
        found: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Something named does not exist.
    #[error("{what} `{name}` was not found")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something of that name exists and is different.
    #[error("{what} `{name}` exists already and is different: {difference}")]
    Conflict {
        /// What was to be made.
        what: &'static str,
        /// Its name.
        name: String,
        /// In what it differs.
        difference: String,
    },
    /// Another process or engine works on it; try again when it is done.
    #[error("{what} `{name}` is held by {holder}; wait for it to end, or stop it")]
    Held {
        /// What is held.
        what: &'static str,
        /// Its name.
        name: String,
        /// By whom.
        holder: String,
    },
    /// Somebody else has taken the run over; nothing was written.
    #[error("run `{run}` was taken over by another engine: {detail}; nothing was written")]
    Fenced {
        /// The run.
        run: String,
        /// The epochs or sequence numbers that differ.
        detail: String,
    },
    /// Stored content is not what its digest says.
    #[error("content of `{name}` was changed or is damaged: expected {expected}, found {found}")]
    Corrupt {
        /// The artifact or file.
        name: String,
        /// The digest or size it should have.
        expected: String,
        /// The digest or size it has.
        found: String,
    },
    /// The data on disk was written by a newer version of this library.
    #[error("`{path}` has format {found}, and this version reads up to {supported}; use the newer version")]
    TooNew {
        /// The file or folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is understood.
        supported: u32,
    },
    /// Resources that no machine here has.
    #[error("{what} asks for {asked}, and there is {capacity}; ask for less, or raise the capacity")]
    Capacity {
        /// Who asks.
        what: String,
        /// What for.
        asked: String,
        /// What there is.
        capacity: String,
    },
    /// The file system refused.
    #[error("{action} `{path}`: {source}")]
    Io {
        /// What was tried, such as `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The object store refused.
    #[error("artifact store: {0}")]
    ObjectStore(#[from] object_store::Error),
    /// The database refused.
    #[error("metadata store: {context}: {source}")]
    Database {
        /// What was tried.
        context: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A child process could not be started or did not behave.
    #[error("process: {0}")]
    Process(String),
}

impl Error {
    /// Whether the same call may go through later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::Database { source, .. } => crate::metadata::is_retryable(&**source),
            Self::ObjectStore(error) => !matches!(
                error,
                object_store::Error::NotFound { .. }
                    | object_store::Error::InvalidPath { .. }
                    | object_store::Error::NotSupported { .. }
                    | object_store::Error::AlreadyExists { .. }
                    | object_store::Error::NotImplemented { .. }
                    | object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
                    | object_store::Error::UnknownConfigurationKey { .. }
            ),
            Self::Io { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::Interrupted
                    | std::io::ErrorKind::TimedOut
                    | std::io::ErrorKind::WouldBlock
            ),
            _ => false,
        }
    }

    /// An I/O error with what was tried and on what.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// A result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
