//! Frames and loops: DAGs and iterators under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use kf_core::artifact::ArtifactRef;
use serde_json::{Value as Json, json};

use super::{End, Place, TaskState, Values};
use crate::plan::{Component, ComponentKind, Dag, Iterator_, Name, Plan, TaskOutput};

/// The id of a frame within its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FrameId(pub(super) u64);

/// One execution of a DAG.
pub(crate) struct Frame {
    pub(super) component: usize,
    pub(super) parent: Option<Place>,
    path: Arc<str>,
    pub(super) inputs: Arc<Values>,
    pub(super) nodes: Vec<Node>,
    /// How many tasks before each one have not ended.
    pub(super) pending: Vec<u32>,
    /// How many tasks have not ended.
    pub(super) open: usize,
    /// Whether the first cancellation leaves it alone: an exit handler.
    pub(super) exempt: bool,
}

/// One task of a frame.
pub(crate) enum Node {
    Waiting,
    Running,
    Loop(Box<Loop>),
    Ended(End),
}

impl Frame {
    pub(super) fn new(
        plan: &Plan,
        component: usize,
        parent: Option<Place>,
        path: Arc<str>,
        inputs: Arc<Values>,
        exempt: bool,
    ) -> Self {
        let mut frame =
            Self { component, parent, path, inputs, nodes: Vec::new(), pending: Vec::new(), open: 0, exempt };
        let tasks = &frame.dag(plan).tasks;
        let pending = tasks
            .iter()
            .map(|task| u32::try_from(task.upstream.len() + task.waits.len()).unwrap_or(u32::MAX))
            .collect();
        frame.open = tasks.len();
        frame.nodes = tasks.iter().map(|_| Node::Waiting).collect();
        frame.pending = pending;
        frame
    }

    pub(super) fn dag<'p>(&self, plan: &'p Plan) -> &'p Dag {
        match &plan.components[self.component].kind {
            ComponentKind::Dag(dag) => dag,
            ComponentKind::Executor(_) => unreachable!("frames are opened for DAGs only"),
        }
    }

    pub(super) fn path_of(&self, task: &str, iteration: Option<usize>) -> Arc<str> {
        let slash = if self.path.is_empty() { "" } else { "/" };
        match iteration {
            None => format!("{}{slash}{task}", self.path).into(),
            Some(iteration) => format!("{}{slash}{task}[{iteration}]", self.path).into(),
        }
    }

    pub(super) fn end_of(&self, task: usize) -> Option<&End> {
        match &self.nodes[task] {
            Node::Ended(end) => Some(end),
            _ => None,
        }
    }

    pub(super) fn succeeded(&self, task: usize) -> bool {
        self.end_of(task).is_some_and(|end| end.state == TaskState::Succeeded)
    }

    pub(super) fn output(&self, output: &TaskOutput) -> Option<&Values> {
        self.end_of(output.task).map(|end| end.outputs.as_ref())
    }

    /// How the frame ended, all its tasks having ended.
    pub(super) fn close(&self, plan: &Plan) -> End {
        let dag = self.dag(plan);
        let ends = || (0..self.nodes.len()).filter_map(|task| self.end_of(task).map(|end| (task, end)));
        let failed = ends().find(|(_, end)| end.state == TaskState::Failed);
        if let Some((task, end)) = failed {
            let error = end.error.as_deref().unwrap_or("failed");
            let error = format!("`{}`: {error}", dag.tasks[task].name);
            return End::without_outputs(TaskState::Failed, Some(error.into()));
        }
        if ends().any(|(_, end)| end.state == TaskState::Canceled) {
            return End::without_outputs(TaskState::Canceled, None);
        }
        let parameters = dag.parameters.iter().filter_map(|(name, outputs)| {
            let value = outputs.iter().find_map(|output| self.output(output)?.parameter(&output.key))?;
            Some((Name::clone(name), Arc::clone(value)))
        });
        let artifacts = dag.artifacts.iter().filter_map(|(name, outputs)| {
            let list = outputs.iter().find_map(|output| self.output(output)?.artifact(&output.key))?;
            Some((Name::clone(name), Arc::clone(list)))
        });
        let outputs = Values::new(parameters.collect(), artifacts.collect());
        let outputs = if outputs.is_empty() { Values::none() } else { Arc::new(outputs) };
        End { state: TaskState::Succeeded, outputs, error: None }
    }
}

/// The list that a loop goes over.
#[derive(Debug)]
pub(super) enum LoopList {
    /// A JSON array.
    Values(Arc<Json>),
    Artifacts(Arc<[ArtifactRef]>),
}

/// An item of such a list.
pub(super) enum LoopItem {
    Value(Arc<Json>),
    /// A list of this one.
    Artifact(Arc<[ArtifactRef]>),
}

impl LoopList {
    fn len(&self) -> usize {
        match self {
            Self::Values(list) => list.as_array().map_or(0, Vec::len),
            Self::Artifacts(list) => list.len(),
        }
    }

    /// An item as data: its value, or its artifact's name and URI.
    fn shown(&self, index: usize) -> Json {
        match self {
            Self::Values(list) => list.get(index).cloned().unwrap_or(Json::Null),
            Self::Artifacts(list) => list
                .get(index)
                .map_or(Json::Null, |artifact| json!({"name": artifact.name, "uri": artifact.uri})),
        }
    }

    fn get(&self, index: usize) -> LoopItem {
        match self {
            Self::Values(list) => LoopItem::Value(Arc::new(list.get(index).cloned().unwrap_or(Json::Null))),
            Self::Artifacts(list) => LoopItem::Artifact(list.get(index).into_iter().cloned().collect()),
        }
    }
}

/// A task that runs once for each item of a list.
pub(crate) struct Loop {
    items: LoopList,
    count: usize,
    pub(super) inputs: Arc<Values>,
    limit: usize,
    pub(super) exempt: bool,
    next: usize,
    active: usize,
    /// What ended iterations gave; stays empty while none gave anything.
    outputs: Vec<Option<Arc<Values>>>,
    /// Failed iterations and their errors.
    failed: BTreeMap<usize, Arc<str>>,
    canceled: bool,
    /// How many iterations may fail.
    spare: usize,
    /// The output that lists the failed ones.
    failures: Option<Name>,
    /// Whether it waits for one of its iterations to end before it begins the next.
    pub(super) full: bool,
}

pub(super) enum Next {
    Item {
        iteration: usize,
        item: LoopItem,
        more: bool,
    },
    /// The loop's limit is reached.
    Full,
    Exhausted,
}

impl Loop {
    pub(super) fn new(items: LoopList, inputs: Arc<Values>, iterator: &Iterator_, exempt: bool) -> Self {
        let count = items.len();
        Self {
            items,
            count,
            inputs,
            limit: iterator.limit,
            spare: iterator.min_success.map_or(0, |least| count - least.of(count)),
            failures: iterator.failures.clone(),
            exempt,
            next: 0,
            active: 0,
            outputs: Vec::new(),
            failed: BTreeMap::new(),
            canceled: false,
            full: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.next == self.count && self.active == 0
    }

    pub(super) fn take_next(&mut self) -> Next {
        if self.next == self.count {
            return Next::Exhausted;
        }
        if self.limit > 0 && self.active >= self.limit {
            return Next::Full;
        }
        let iteration = self.next;
        self.next += 1;
        self.active += 1;
        Next::Item { iteration, item: self.items.get(iteration), more: self.next < self.count }
    }

    /// Begins no iteration from the `count`th on. Tells whether that leaves any out.
    pub(super) fn stop_at(&mut self, count: usize) -> bool {
        let count = count.max(self.next);
        let less = count < self.count;
        if less {
            self.canceled = true;
            self.count = count;
        }
        less
    }

    pub(super) fn iteration_ended(&mut self, iteration: usize, end: End) {
        self.active -= 1;
        match end.state {
            TaskState::Failed => {
                self.failed.insert(iteration, end.error.unwrap_or_else(|| "failed".into()));
            }
            TaskState::Canceled => self.canceled = true,
            _ => {}
        }
        if !end.outputs.is_empty() {
            if self.outputs.is_empty() {
                self.outputs.resize(self.count, None);
            }
            if let Some(given) = self.outputs.get_mut(iteration) {
                *given = Some(end.outputs);
            }
        }
    }

    /// How the loop ended: its outputs are lists in the items' order, without those of iterations that gave none.
    pub(super) fn close(&mut self, component: &Component) -> End {
        // Not the earliest in time, so that a restarted run says the same.
        if let Some((iteration, error)) =
            self.failed.first_key_value().filter(|_| self.failed.len() > self.spare)
        {
            let spare = match self.spare {
                0 => String::new(),
                spare => format!(", and {spare} may"),
            };
            let error = format!(
                "{} of {} iterations failed{spare}; iteration {iteration}: {error}",
                self.failed.len(),
                self.count
            );
            return End::without_outputs(TaskState::Failed, Some(error.into()));
        }
        if self.canceled {
            return End::without_outputs(TaskState::Canceled, None);
        }
        let given = || self.outputs.iter().flatten();
        let parameters = component.outputs.parameters.keys().map(|name| {
            let list =
                given().filter_map(|values| values.parameter(name)).map(|value| value.as_ref().clone());
            (Name::from(name.as_str()), Arc::new(Json::Array(list.collect())))
        });
        let artifacts = component.outputs.artifacts.keys().map(|name| {
            let list = given().filter_map(|values| values.artifact(name));
            let list: Vec<ArtifactRef> = list.flat_map(|list| list.iter().cloned()).collect();
            (Name::from(name.as_str()), Arc::from(list))
        });
        let mut outputs = Values::new(parameters.collect(), artifacts.collect());
        if let Some(name) = &self.failures {
            let failures = self.failed.iter().map(|(iteration, error)| {
                json!({"iteration": iteration, "item": self.items.shown(*iteration), "error": error.as_ref()})
            });
            outputs = outputs.with_parameter(Name::clone(name), Arc::new(Json::Array(failures.collect())));
        }
        self.outputs = Vec::new();
        End { state: TaskState::Succeeded, outputs: Arc::new(outputs), error: None }
    }
}
