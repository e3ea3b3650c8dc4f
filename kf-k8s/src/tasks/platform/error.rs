use serde_json::Value as Json;

/// Why what a pipeline asks of the platform `kubernetes` can't be done. Places are JSON pointers (RFC 6901) into the
/// executor's configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// What is written can't be read: a field that is not known here, or a value of another type.
    #[error("platform kubernetes, `{pointer}`: {problem}")]
    Unreadable {
        /// Where.
        pointer: String,
        /// What is wrong, with the field's name.
        problem: String,
    },
    /// A value that can't be meant.
    #[error("platform kubernetes, `{pointer}`: found {found}, expected {expected}")]
    Unfit {
        /// Where.
        pointer: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A parameter that nobody gave.
    #[error("platform kubernetes, `{pointer}`: it takes its value from {from}, which was not given")]
    Missing {
        /// Where.
        pointer: String,
        /// Which parameter.
        from: String,
    },
    /// Two things of one pod want the same name or place.
    #[error(
        "platform kubernetes, `{pointer}`: {what} `{name}` is in use in this pod already: choose another"
    )]
    Taken {
        /// Where the second is asked for.
        pointer: String,
        /// What must differ: a volume's name, a mount path, a container's name.
        what: &'static str,
        /// The name or place.
        name: String,
    },
    /// The pod is not the one that was meant.
    #[error("the pod has no container `{container}`: its containers are {known}")]
    NoContainer {
        /// Which was asked for.
        container: String,
        /// What there is.
        known: String,
    },
    /// An input of a task that makes or deletes a volume claim.
    #[error("task of image `{image}`, input `{input}`: found {found}, expected {expected}")]
    Claim {
        /// The image, which says what the task does.
        image: &'static str,
        /// The input.
        input: String,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
    },
}

impl PlatformError {
    pub(super) fn unfit(pointer: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Unfit { pointer: pointer.to_owned(), found: found.into(), expected: expected.into() }
    }

    pub(super) fn taken(pointer: &str, what: &'static str, name: &str) -> Self {
        Self::Taken { pointer: pointer.to_owned(), what, name: name.to_owned() }
    }
}

/// A value as an error shows it, its beginning where it is long.
pub(super) fn shown(value: &Json) -> String {
    const MOST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        None => format!("`{text}`"),
        Some((end, _)) => format!("`{}…`", &text[..end]),
    }
}
