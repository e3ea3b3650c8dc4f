//! The module's error.

/// Why a pipeline can't be a workflow.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline does something that Argo has no like of, or that this module does not write.
    #[error("`{task}` can't be a part of an Argo Workflow: {feature}")]
    Unsupported {
        /// Which task, as component and task, or which component.
        task: String,
        /// What it does.
        feature: String,
    },
    /// What the caller gave does not fit the pipeline.
    #[error("option `{option}`: {problem}")]
    Options {
        /// The option's field.
        option: &'static str,
        /// What was expected, and what was found.
        problem: String,
    },
    /// The pipeline itself is not in order.
    #[error(transparent)]
    Pipeline(#[from] kf_pipeline::Error),
}

/// What this module's functions give.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn unsupported(task: &str, feature: impl Into<String>) -> Self {
        Self::Unsupported { task: task.to_owned(), feature: feature.into() }
    }
}
