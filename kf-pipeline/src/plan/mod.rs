//! A pipeline checked once: every reference resolved, every type compared, no cycles.
//!
//! Everything after this works on a [`Plan`] and meets no bad input any more.

mod check;
mod condition;
mod expression;
mod locks;
mod lower;
mod names;
mod nearest;
mod platform;
mod selector;
mod shared;
mod size;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kf_core::Digest;
use kf_core::backoff::Backoff;
use kf_core::resources::Resources;
use serde_json::Value as Json;

pub(crate) use condition::Condition;
pub(crate) use lower::kf_platform;
pub(crate) use nearest::{nearest, parse_part};
pub(crate) use selector::Selector;

use crate::deep::refuse_deep;
use crate::error::shown;
use crate::spec::{
    ArtifactType, ContainerSpec, ImporterSpec, InputDefinitions, OutputDefinitions, PipelineFile,
    TriggerStrategy,
};
use crate::{Args, Error, Result};

/// A name that many places share.
pub(crate) type Name = Arc<str>;

/// A pipeline that has been checked and can run.
#[derive(Debug)]
pub struct Plan {
    pub(crate) name: Name,
    pub(crate) components: Vec<Component>,
    pub(crate) root: usize,
    /// How many tasks of a run are under way at once, where the pipeline says so.
    pub(crate) max_tasks: Option<u32>,
}

/// Tells what is wrong with an argument, or with an answer.
pub(crate) type ArgCheck = fn(&Json) -> Result<(), String>;

impl Plan {
    /// Has the answers checked that these executors ask for.
    pub(crate) fn check_answers(&mut self, answers: &HashMap<String, ArgCheck>) {
        for component in &mut self.components {
            if let ComponentKind::Executor(executor) = &mut component.kind
                && let Some(check) = answers.get(executor.label.as_ref())
                && let Some(executor) = Arc::get_mut(executor)
            {
                executor.answer = Some(*check);
            }
        }
    }

    /// Checks a pipeline.
    ///
    /// # Errors
    /// [`Error::Plan`] names the first place where something is unknown, missing, of the wrong type or in a
    /// cycle.
    pub fn new(file: &PipelineFile) -> Result<Self> {
        Self::of(file.clone())
    }

    /// As [`new`](Self::new), of a file that is not needed any more: its parts go as they are taken in.
    pub(crate) fn of(file: PipelineFile) -> Result<Self> {
        lower::lower(file)
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Completes arguments with the pipeline's defaults and compares them with its parameters.
    pub(crate) fn complete(&self, args: &BTreeMap<String, Json>) -> Result<BTreeMap<String, Json>> {
        let inputs = &self.components[self.root].inputs;
        if let Some(name) = args.keys().find(|name| !inputs.parameters.contains_key(name)) {
            let known: Vec<_> = inputs.parameters.keys().map(String::as_str).collect();
            return Err(Error::Argument {
                name: name.clone(),
                problem: format!(
                    "pipeline `{}` has no such parameter; it has: {}",
                    self.name,
                    known.join(", ")
                ),
            });
        }
        let mut complete = BTreeMap::new();
        for (name, input) in &inputs.parameters {
            let Some(value) = args.get(name).or(input.default_value.as_ref()) else {
                if input.is_optional {
                    continue;
                }
                return Err(Error::Argument {
                    name: name.clone(),
                    problem: format!("pipeline `{}` asks for it and it has no default", self.name),
                });
            };
            let absent = value.is_null() && input.is_optional;
            if !absent && !input.kind().accepts(value) {
                return Err(Error::Argument {
                    name: name.clone(),
                    problem: format!("expected {}, found {}", input.kind(), shown(value)),
                });
            }
            refuse_deep([value]).map_err(|problem| Error::Argument { name: name.clone(), problem })?;
            complete.insert(name.clone(), value.clone());
        }
        Ok(complete)
    }

    /// The artifacts that a run is given: name, URI and kind.
    pub(crate) fn artifact_arguments<'a>(
        &'a self,
        args: &'a Args,
    ) -> Result<Vec<(&'a str, &'a str, &'a ArtifactType)>> {
        let declared = &self.components[self.root].inputs.artifacts;
        let refuse = |name: &str, problem: String| Error::Argument { name: name.to_owned(), problem };
        if let Some(name) = args.artifacts().keys().find(|name| !declared.contains_key(name)) {
            let known: Vec<_> = declared.keys().map(String::as_str).collect();
            let known = known.join(", ");
            return Err(refuse(
                name,
                format!("pipeline `{}` has no such artifact; it has: {known}", self.name),
            ));
        }
        let mut given = Vec::new();
        for (name, input) in declared {
            match args.artifacts().get(name) {
                Some(uri) => given.push((name.as_str(), uri.as_str(), &input.artifact_type)),
                None if input.is_optional => {}
                None => {
                    let problem = format!("pipeline `{}` asks for this artifact", self.name);
                    return Err(refuse(name, problem));
                }
            }
        }
        Ok(given)
    }

    /// Whether a run is given an artifact of this name.
    pub(crate) fn takes_artifact(&self, name: &str) -> bool {
        self.components[self.root].inputs.artifacts.contains_key(name)
    }

    /// The executors that the plan's tasks use.
    pub(crate) fn executors(&self) -> impl Iterator<Item = &Arc<Executor>> {
        self.components.iter().filter_map(|component| match &component.kind {
            ComponentKind::Executor(executor) => Some(executor),
            ComponentKind::Dag(_) => None,
        })
    }
}

/// A component of a [`Plan`].
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: Name,
    pub(crate) inputs: Arc<InputDefinitions>,
    pub(crate) outputs: Arc<OutputDefinitions>,
    pub(crate) kind: ComponentKind,
    /// How deep it may run within itself, where it does.
    pub(crate) max_depth: Option<u32>,
}

#[derive(Debug)]
pub(crate) enum ComponentKind {
    Dag(Dag),
    Executor(Arc<Executor>),
}

/// How a component that is no DAG is carried out.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) label: Name,
    pub(crate) work: Work,
    pub(crate) module: String,
    pub(crate) version: Option<String>,
    pub(crate) carrier: Option<String>,
    pub(crate) timeout: Option<Duration>,
    /// How old what stands for it may be.
    pub(crate) cache_ttl: Option<Duration>,
    pub(crate) resources: Resources,
    /// Mutexes and semaphores, with placeholders.
    pub(crate) locks: Vec<String>,
    /// Whether a value is one of the Rust type that a person is asked for, where that is known.
    pub(crate) answer: Option<ArgCheck>,
    pub(crate) outputs: Arc<OutputDefinitions>,
}

impl Executor {
    /// What to call it: its component's name, or its label.
    pub(crate) fn component(&self) -> &str {
        match &self.work {
            Work::Component { name, .. } => name,
            Work::Container(_) | Work::Importer(_) | Work::Approval(_) => {
                self.label.trim_start_matches("exec-")
            }
        }
    }
}

#[derive(Debug)]
pub(crate) enum Work {
    /// A `#[component]` by name.
    Component {
        name: Name,
        container: Arc<ContainerSpec>,
    },
    /// A container's command.
    Container(Arc<ContainerTask>),
    Importer(Box<ImporterSpec>),
    /// Nothing: a person decides. The message, with placeholders.
    Approval(String),
}

/// A command in an image, and what is declared around it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ContainerTask {
    /// The image, the command and its environment, with placeholders.
    pub container: ContainerSpec,
    /// What it gives.
    pub outputs: OutputDefinitions,
    /// What the platform `kubernetes` adds, as KFP's `KubernetesExecutorConfig`. What it takes from parameters is among
    /// the attempt's parameters, under [`kubernetes_parameter`](Self::kubernetes_parameter).
    pub kubernetes: serde_json::Map<String, Json>,
}

impl ContainerTask {
    /// What the names of parameters begin with that only the platform asks for.
    pub(crate) const KUBERNETES: &str = "kubernetes:";

    /// The name of the attempt's parameter that holds what the object at this JSON pointer (RFC 6901) of
    /// [`kubernetes`](Self::kubernetes) stands for.
    pub fn kubernetes_parameter(pointer: &str) -> String {
        format!("{}{pointer}", Self::KUBERNETES)
    }
}

/// Tasks whose order follows from what they take.
#[derive(Debug)]
pub(crate) struct Dag {
    pub(crate) tasks: Vec<Task>,
    /// Each with the outputs of which the first that there is counts.
    pub(crate) parameters: Vec<(Name, Vec<TaskOutput>)>,
    pub(crate) artifacts: Vec<(Name, Vec<TaskOutput>)>,
}

/// Whether an earlier execution may stand for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    Off,
    /// Where all that decides what it gives is the same.
    Derived,
    /// Where its task names the same key.
    Named(Digest),
}

/// An output of a task of the same DAG.
#[derive(Clone, Debug)]
pub(crate) struct TaskOutput {
    pub(crate) task: usize,
    pub(crate) key: Name,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: Name,
    pub(crate) component: usize,
    pub(crate) parameters: Vec<(Name, Source)>,
    pub(crate) artifacts: Vec<(Name, Source)>,
    pub(crate) upstream: Vec<usize>,
    /// Tasks that must have ended too, in whatever way: fallbacks, and what this one is a fallback of.
    pub(crate) waits: Vec<usize>,
    /// The task for which this one stands where that has failed.
    pub(crate) fallback_of: Option<usize>,
    pub(crate) has_fallback: bool,
    /// Whether something may take what it gives: another task of the DAG, the DAG's outputs, or what it is a fallback of.
    pub(crate) is_taken: bool,
    pub(crate) downstream: Vec<usize>,
    pub(crate) condition: Option<Box<Condition>>,
    pub(crate) strategy: TriggerStrategy,
    pub(crate) iterator: Option<Box<Iterator_>>,
    retry: Option<Box<Retry>>,
    pub(crate) caching: Caching,
}

impl Task {
    /// How often and when it is tried again.
    pub(crate) fn retry(&self) -> Retry {
        self.retry.as_deref().cloned().unwrap_or_default()
    }
}

/// Where a parameter or artifact comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Constant(Arc<Json>),
    /// A constant with placeholders in it.
    Template(Arc<Json>),
    Input(Name),
    Output(TaskOutput),
    FinalStatus(usize),
    /// A part of another's value.
    Selected(Arc<(Source, Selector)>),
}

impl Source {
    /// The task that must have ended before this is known.
    fn producer(&self) -> Option<usize> {
        match self {
            Self::Output(output) => Some(output.task),
            Self::FinalStatus(task) => Some(*task),
            Self::Selected(part) => part.0.producer(),
            Self::Constant(_) | Self::Template(_) | Self::Input(_) => None,
        }
    }

    /// Whether it is made of what the task's other inputs are.
    pub(crate) fn is_template(&self) -> bool {
        match self {
            Self::Template(_) => true,
            Self::Selected(part) => part.0.is_template(),
            _ => false,
        }
    }
}

/// A loop over the elements of a list.
#[derive(Debug)]
pub(crate) struct Iterator_ {
    pub(crate) items: LoopItems,
    pub(crate) input: Name,
    /// How many iterations run at once; 0 where there is no limit.
    pub(crate) limit: usize,
    /// How many iterations must succeed; all where absent.
    pub(crate) min_success: Option<MinSuccess>,
    /// The output that lists the failed ones.
    pub(crate) failures: Option<Name>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum MinSuccess {
    Count(usize),
    Ratio(f64),
}

impl MinSuccess {
    /// How many of so many.
    pub(crate) fn of(self, count: usize) -> usize {
        match self {
            Self::Count(least) => least.min(count),
            // Not the product rounded up, which is one too many where it is a little above a whole number.
            Self::Ratio(share) => (0..=count)
                .rev()
                .take_while(|least| *least as f64 / count.max(1) as f64 >= share)
                .last()
                .unwrap_or(count),
        }
    }
}

#[derive(Debug)]
pub(crate) enum LoopItems {
    Constant(Arc<Json>),
    /// The value of an input parameter.
    Input(Name),
    /// The artifacts of an input.
    Artifacts(Name),
}

/// How often and when a failed task is tried again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retry {
    pub(crate) max: u32,
    pub(crate) backoff: Backoff,
}
