//! What `#[component]` generates.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kf_core::resources::Resources;

use super::{OutputParameter, Outputs, StateMap, TaskError, TaskIo, TaskOutputs};
use crate::spec::{ArtifactType, ParameterType};

/// A component's body under way.
pub type TaskFuture = Pin<Box<dyn Future<Output = Result<TaskOutputs, TaskError>> + Send>>;

/// A component's body.
#[derive(Clone, Copy)]
pub enum Body {
    /// An `async fn`.
    Async(fn(TaskIo) -> TaskFuture),
    /// A `fn`, which runs on a thread where it may block.
    Blocking(fn(TaskIo) -> Result<TaskOutputs, TaskError>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "Async",
            Self::Blocking(_) => "Blocking",
        })
    }
}

/// A type that stands for a component; `#[component]` makes one with the function's name.
pub trait Component {
    /// What its body gives when it succeeds.
    type Returns: Outputs;

    /// The component.
    fn definition() -> ComponentDef;
}

/// A component: its interface, its defaults and its body.
#[derive(Clone, Debug)]
pub struct ComponentDef {
    /// Its name, the function's.
    pub name: &'static str,
    /// File and line of its declaration.
    pub declared_at: &'static str,
    /// The module it was declared in; with the name, what tells it from others in cache keys.
    pub module: &'static str,
    /// What it does, from the function's doc comment.
    pub description: &'static str,
    /// Input parameters: name, type, and whether it may be absent.
    pub parameters: Vec<(&'static str, ParameterType, bool)>,
    /// Input artifacts: name, kind, and how many.
    pub artifacts: Vec<(&'static str, ArtifactType, ArtifactCount)>,
    /// Output parameters.
    pub output_parameters: Vec<OutputParameter>,
    /// Output artifacts: name and kind.
    pub output_artifacts: Vec<(&'static str, ArtifactType)>,
    /// What the attribute says of its tasks.
    pub defaults: Defaults,
    /// What runs.
    pub body: Body,
}

/// How many artifacts an input takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactCount {
    /// One.
    One,
    /// One, or none.
    OneOrNone,
    /// A list.
    List,
}

/// What `#[component(…)]` says of a component's tasks, each of which may say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// How many attempts may follow a failed first.
    pub retries: u32,
    /// How long an attempt may take.
    pub timeout: Option<Duration>,
    /// What a task needs; nothing where nothing is said.
    pub resources: Resources,
    /// What stands for the code in cache keys; the program's digest where absent.
    pub version: Option<&'static str>,
    /// How old an execution may be that stands for a task.
    pub cache_ttl: Option<Duration>,
    /// Whether an earlier execution may never stand for a task.
    pub no_cache: bool,
    /// Which of the engine's executors carries the tasks.
    pub executor: Option<&'static str>,
}

/// Components by name, and the state they are given: what a program can run.
#[derive(Clone, Debug, Default)]
pub struct Components {
    by_name: BTreeMap<&'static str, Arc<ComponentDef>>,
    pub(crate) state: StateMap,
}

impl Components {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more.
    #[must_use]
    pub fn with<C: Component>(mut self) -> Self {
        self.insert(Arc::new(C::definition()));
        self
    }

    /// Gives every component that asks for a [`State<T>`](super::State) this value.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// The component of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<ComponentDef>> {
        self.by_name.get(name)
    }

    /// The components' names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_name.keys().copied()
    }

    pub(crate) fn insert(&mut self, definition: Arc<ComponentDef>) {
        self.by_name.insert(definition.name, definition);
    }
}
