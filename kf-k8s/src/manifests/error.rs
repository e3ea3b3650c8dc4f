//! What can go wrong with manifests.

/// What can go wrong with manifests, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option can't be had.
    #[error("option `{option}` is `{found}`: expected {expected}")]
    Option {
        /// Which, such as `egress[1].cidr`.
        option: String,
        /// What it is.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// An object can't be written.
    #[error("the {object} can't be written as YAML: {reason}")]
    Write {
        /// Its kind and name.
        object: String,
        /// Why not.
        reason: String,
    },
    /// The cluster has not taken an object; those before it in the YAML's order were applied.
    #[error("the {object} is not applied: {reason}")]
    Apply {
        /// Its kind and name.
        object: String,
        /// What the cluster says.
        reason: String,
        /// Whether it may be taken later as it is.
        retryable: bool,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    /// Whether the same may go well when it is tried again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Apply { retryable: true, .. })
    }

    pub(super) fn option(
        option: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Option { option: option.into(), found: found.into(), expected: expected.into() }
    }
}
