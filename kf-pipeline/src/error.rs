//! The crate's error.

use std::fmt;
use std::panic::Location;
use std::path::PathBuf;

/// What can go wrong with pipelines and runs, by what the caller can do about it. What goes wrong inside a task is
/// no error here but the task's state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The builder was used in a way that types can't refuse.
    #[error("pipeline `{pipeline}` can't be built:{}", list(problems))]
    Build {
        /// The pipeline.
        pipeline: String,
        /// Everything that is wrong with it.
        problems: Vec<Problem>,
    },
    /// A pipeline's data has something unknown, missing, of the wrong type or in a cycle.
    #[error("pipeline{}, at `{place}`: {problem}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Plan {
        /// Where: components and tasks from the outermost in.
        place: String,
        /// The line of the file it was read from, from 1, where that can be said.
        line: Option<u64>,
        /// What.
        problem: String,
    },
    /// A pipeline's file can't be read.
    #[error("pipeline file{}: {problem}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    File {
        /// The line, from 1, where that can be said.
        line: Option<u64>,
        /// What is wrong.
        problem: String,
    },
    /// A file that was named can't be taken for a pipeline.
    #[error("{}: {problem}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: Box<Error>,
    },
    /// An argument of a run is missing, unknown or of the wrong type.
    #[error("argument `{name}`: {problem}")]
    Argument {
        /// The parameter.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A partition's key or a range of partitions is not one.
    #[error("partition `{key}`: {problem}")]
    Partition {
        /// The key or range.
        key: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A backfill ended before its partitions had.
    #[error("backfill of pipeline `{pipeline}`: {problem}")]
    Backfill {
        /// The pipeline.
        pipeline: String,
        /// Why.
        problem: String,
    },
    /// A task names something that this engine does not have.
    #[error("pipeline `{pipeline}`: task component `{component}` {problem}")]
    Unsupported {
        /// The pipeline.
        pipeline: String,
        /// The component.
        component: String,
        /// What it asks for, and what there is.
        problem: String,
    },
    /// The run of this id belongs to something else.
    #[error("run `{run}`: {problem}")]
    Run {
        /// The run.
        run: String,
        /// What is wrong.
        problem: String,
    },
    /// A log that was asked for can't be given.
    #[error("run `{run}`, log of task `{task}`: {problem}")]
    Log {
        /// The run.
        run: String,
        /// The task's path.
        task: String,
        /// Why not.
        problem: String,
    },
    /// The engine is shutting down, or has.
    #[error("the engine is draining and takes no new runs")]
    Draining,
    /// What is stored of a run can't be understood.
    #[error("run `{run}`, commit {seq}: the journal is not understood: {source}")]
    Journal {
        /// The run.
        run: String,
        /// The commit.
        seq: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// A store or a process failed.
    #[error(transparent)]
    Core(#[from] kf_core::Error),
}

impl Error {
    /// Whether the same call may go through later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Core(error) => error.is_retryable(),
            Self::In { problem, .. } => problem.is_retryable(),
            _ => false,
        }
    }

    pub(crate) fn file(line: Option<u64>, problem: impl Into<String>) -> Self {
        Self::File { line, problem: shortened(problem, 1_000) }
    }

    pub(crate) fn plan(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Plan { place: shortened(place, 500), line: None, problem: shortened(problem, 1_000) }
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Text of at most so many bytes and a note: what is long lost its middle. Names and values of files that others wrote
/// may be megabytes, and end up in messages.
pub(crate) fn shortened(text: impl Into<String>, bytes: usize) -> String {
    let text = text.into();
    if text.len() <= bytes {
        return text;
    }
    let head = &text[..text.floor_char_boundary(bytes / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - bytes / 2)..];
    format!("{head} […{} bytes…] {tail}", text.len() - head.len() - tail.len())
}

/// Something wrong in a program that builds a pipeline, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File and line of the call.
    pub at: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(at: &Location<'_>, message: impl Into<String>) -> Self {
        Self { at: format!("{}:{}", at.file(), at.line()), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// A result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A value as it is shown in messages.
pub(crate) fn shown(value: &serde_json::Value) -> String {
    shortened(value.to_string(), 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_whatever_they_name() {
        assert_eq!(shortened("é", 2), "é");
        assert_eq!(shortened("ééééé", 5), "é […6 bytes…] é");
        let error = Error::plan("x".repeat(100_000), "é".repeat(100_000)).to_string();
        assert!(error.len() < 1_700 && error.contains("bytes…"), "{error}");
    }
}
