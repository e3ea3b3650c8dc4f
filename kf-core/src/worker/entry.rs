//! What a worker can be asked to do.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::exchange::Answer;

/// One thing that copies of this program can be asked to do.
pub trait Entry: Send + Sync + 'static {
    /// The name it is asked for by, unique in its [`Workers`].
    fn name(&self) -> &str;

    /// Does it. Runs on a thread with no async runtime around it, so it may start one, and with 8 MiB of stack or more.
    ///
    /// # Errors
    /// Whatever made it fail; the text goes to standard error and the process ends with
    /// [`EXIT_FAILED`](super::EXIT_FAILED).
    fn run(&self, request: Request) -> Result<(), WorkerError>;

    /// Does what the backend of Kubeflow Pipelines asks a container for, where it knows a function of this name:
    /// `executor_input` is its `ExecutorInput` as JSON. None where it knows none.
    fn run_container(&self, function: &str, executor_input: &str) -> Option<Result<(), WorkerError>> {
        let _ = (function, executor_input);
        None
    }
}

/// Makes an [`Entry`] of a function.
pub fn entry<F>(name: impl Into<String>, run: F) -> impl Entry
where
    F: Fn(Request) -> Result<(), WorkerError> + Send + Sync + 'static,
{
    FnEntry { name: name.into(), run }
}

struct FnEntry<F> {
    name: String,
    run: F,
}

impl<F> Entry for FnEntry<F>
where
    F: Fn(Request) -> Result<(), WorkerError> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&self, request: Request) -> Result<(), WorkerError> {
        (self.run)(request)
    }
}

/// The explicit list of what copies of this program can be asked to do.
#[derive(Clone, Default)]
pub struct Workers {
    entries: Vec<Arc<dyn Entry>>,
    setup: Option<Setup>,
}

/// What is done before an entry runs; what it gives is kept until after that.
type Setup = Arc<dyn Fn() -> Result<Box<dyn Any>, WorkerError> + Send + Sync>;

impl Workers {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The list with one entry more. Two entries of one name are refused when that name is asked for.
    #[must_use]
    pub fn with(mut self, entry: impl Entry) -> Self {
        self.entries.push(Arc::new(entry));
        self
    }

    /// The list with an entry more that is shared with others.
    #[must_use]
    pub fn with_shared(mut self, entry: Arc<dyn Entry>) -> Self {
        self.entries.push(entry);
        self
    }

    /// Does this first in each process that was asked for an entry, on the thread that the entry runs on, and keeps what
    /// it gives until the entry has returned or panicked: the place to set a `tracing` subscriber, and to give the guard that
    /// flushes it. Of several, the last counts. A worker that becomes another program does not do it.
    ///
    /// Where it fails, the entry does not run, and the process ends with [`EXIT_REFUSED`](super::EXIT_REFUSED).
    #[must_use]
    pub fn setup<G: 'static>(
        mut self,
        setup: impl Fn() -> Result<G, WorkerError> + Send + Sync + 'static,
    ) -> Self {
        self.setup = Some(Arc::new(move || Ok(Box::new(setup()?))));
        self
    }

    /// What is to be kept until the entry's end.
    pub(super) fn set_up(&self) -> Result<Option<Box<dyn Any>>, WorkerError> {
        self.setup.as_ref().map(|setup| setup()).transpose()
    }

    /// The names, in the order of adding.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name())
    }

    /// What the first entry does that knows this function.
    pub(super) fn run_container(&self, function: &str, executor_input: &str) -> Result<(), WorkerError> {
        let done = self.entries.iter().find_map(|entry| entry.run_container(function, executor_input));
        done.unwrap_or_else(|| {
            let known = self.names().collect::<Vec<_>>().join(", ");
            Err(WorkerError::Unknown { name: function.to_owned(), known })
        })
    }

    /// The one entry of this name.
    pub(super) fn find(&self, name: &str) -> Result<&Arc<dyn Entry>, WorkerError> {
        let mut found = self.entries.iter().filter(|entry| entry.name() == name);
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry),
            (Some(_), Some(_)) => Err(WorkerError::Duplicate { name: name.into() }),
            (None, _) => {
                let mut known: Vec<_> = self.names().collect();
                known.sort_unstable();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(WorkerError::Unknown { name: name.into(), known })
            }
        }
    }
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// What a worker was asked, besides the entry's name.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) entry: String,
    pub(super) json: String,
    /// Where somebody waits for an answer.
    pub(super) answer: Option<Answer>,
}

impl Request {
    /// A request as a test would make it, to call an entry without a process around it.
    ///
    /// # Errors
    /// [`WorkerError::Request`] where `value` has no JSON form.
    pub fn new(entry: impl Into<String>, value: &impl Serialize) -> Result<Self, WorkerError> {
        let entry = entry.into();
        match serde_json::to_string(value) {
            Ok(json) => Ok(Self { entry, json, answer: None }),
            Err(source) => Err(WorkerError::Request { name: entry, source: source.into() }),
        }
    }

    /// The name of the entry that was asked for.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// The request as JSON text, as it came.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The request as a value.
    ///
    /// # Errors
    /// [`WorkerError::Request`] where the JSON is not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, WorkerError> {
        serde_json::from_str(&self.json)
            .map_err(|source| WorkerError::Request { name: self.entry.clone(), source: source.into() })
    }

    /// Answers whoever has started this process, who reads it with [`Child::answer`](crate::process::Child::answer). Of
    /// several answers the last counts. Where nobody waits for one, such as when a person has set the variables, it goes
    /// nowhere.
    ///
    /// # Errors
    /// [`WorkerError::Failed`] where `value` has no JSON form or there is no room for it.
    pub fn answer(&self, value: &impl Serialize) -> Result<(), WorkerError> {
        let Some(answer) = &self.answer else { return Ok(()) };
        let json = serde_json::to_vec(value).map_err(WorkerError::failed)?;
        answer.write(&json).map_err(WorkerError::failed)
    }
}

/// The request of the built-in entry that becomes another program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    /// All of its environment; this process's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<BTreeMap<String, String>>,
}

/// Why a worker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// Asked for an entry that this program does not have.
    #[error(
        "no worker entry `{name}` in this program; it has: {known}. Add it to the `Workers` given to run_if_asked"
    )]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Two entries have the name asked for.
    #[error("two worker entries are named `{name}`; rename one")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The request is missing or is not what the entry takes.
    #[error("bad request for worker entry `{name}`: {source}")]
    Request {
        /// The entry.
        name: String,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The process that started this one has ended.
    #[error("the process {expected} that started this worker is gone (its parent is now {found})")]
    Orphaned {
        /// The process id that [`PARENT`](super::PARENT) gives.
        expected: String,
        /// The parent's process id now.
        found: String,
    },
    /// The program to become can't be started.
    #[error("can't start `{program}`: {source}")]
    Exec {
        /// The program.
        program: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The entry itself failed.
    #[error(transparent)]
    Failed(Box<dyn StdError + Send + Sync>),
}

impl WorkerError {
    /// A failure of the entry's own work.
    pub fn failed(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }

    /// Whether asking the same program once more may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Orphaned { .. } | Self::Failed(_))
    }
}
