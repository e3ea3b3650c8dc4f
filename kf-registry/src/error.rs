//! The crate's error.

use std::path::PathBuf;

use crate::{AliasName, Expected, ModelName};

/// What can go wrong in kf-registry, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value in the request is not allowed; change it.
    #[error("{what}: found {found}, expected {expected}")]
    Invalid {
        /// What was read, such as ``model name`` or ``metric `loss` ``.
        what: String,
        /// What was found.
        found: String,
        /// What would have been right.
        expected: String,
    },
    /// Nothing of that name is in the registry.
    #[error("{what} was not found; {next}")]
    NotFound {
        /// What was looked for, by name.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// A model of that name exists.
    #[error("model `{model}` exists already; register versions in it, or choose another name")]
    AlreadyExists {
        /// The model.
        model: ModelName,
    },
    /// The alias does not hold what the caller expected: somebody else has moved it.
    #[error(transparent)]
    AliasConflict(Box<AliasConflict>),
    /// The idempotency key was used for other content.
    #[error(
        "idempotency key `{key}` of model `{model}` belongs to version {version} with content {found}, and this \
         registration has {given}; use a fresh key for other content"
    )]
    KeyConflict {
        /// The model.
        model: ModelName,
        /// The key.
        key: String,
        /// The version that it was used for.
        version: u32,
        /// That version's content.
        found: String,
        /// The content of the refused registration.
        given: String,
    },
    /// The mutable part has changed since the caller read it; read again and decide anew.
    #[error(
        "{what} is at revision {found}, and the change expects {expected}; read it again and decide anew"
    )]
    RevisionConflict {
        /// The model or version.
        what: String,
        /// Its revision.
        found: u64,
        /// The revision that the change was made for.
        expected: u64,
    },
    /// The file was written by a newer version of this library; nothing was changed.
    #[error(
        "`{path}` has registry schema {found}, and this version reads up to {supported}; use the newer version"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest one that is understood.
        supported: u32,
    },
    /// The file is no registry, or is damaged; nothing was changed.
    #[error(
        "`{path}` can't be used as a registry: {found}; give the right file, or restore it from a backup"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// Others kept the store busy for the whole time that this call waits; try again.
    #[error("{what}: the registry was busy for {waited_ms} ms; try again")]
    Busy {
        /// What was tried.
        what: &'static str,
        /// How long it was waited, in milliseconds.
        waited_ms: u64,
    },
    /// The store failed: disk full, a file that may not be read, a lost connection.
    #[error("{what}: {source}")]
    Store {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Who holds an alias that a change expected to find otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "alias `{alias}` of model `{model}` {}, and the change expects {expected}; look at its history and decide anew",
    holds(.found, .last_change)
)]
#[non_exhaustive]
pub struct AliasConflict {
    /// The model.
    pub model: ModelName,
    /// The alias.
    pub alias: AliasName,
    /// What the change expected.
    pub expected: Expected,
    /// The version that the alias holds; none where it is not set.
    pub found: Option<u32>,
    /// The last change of the alias as text (who, when, why); none where there never was one.
    pub last_change: Option<String>,
}

fn holds(found: &Option<u32>, last_change: &Option<String>) -> String {
    let holder = match found {
        Some(version) => format!("holds version {version}"),
        None => "is not set".to_owned(),
    };
    match last_change {
        Some(change) => format!("{holder} ({change})"),
        None => holder,
    }
}

impl Error {
    /// Whether the same call may go through later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Store { .. })
    }

    pub(crate) fn invalid(
        what: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Invalid { what: what.into(), found: found.into(), expected: expected.into() }
    }
}

/// A result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
