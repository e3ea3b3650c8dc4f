//! The scheduler: a pure state machine that decides what runs when.
//!
//! [`Scheduler::step`] takes the time and an event and gives commands; it has no clock, does no I/O and knows no
//! executor. It alone knows triggers, loops, retries, exit handlers and caching. Whoever drives it writes the
//! records of a step durably before carrying out the step's other commands.
//!
//! A task of a DAG becomes a *leaf* where an executor carries it out, a *frame* where it is a DAG itself, and a
//! loop of either where it has an iterator. Iterations come into being only when there is room to run them, so
//! that a loop over 100,000 items costs what its running iterations cost.

mod frame;
mod inputs;
mod leaf;
mod record;
mod values;

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::cmp::Reverse;
use std::sync::Arc;

use kf_core::Timestamp;
use kf_core::metadata::RunState;
use serde_json::Value as Json;

pub(crate) use frame::{Frame, FrameId};
pub(crate) use leaf::{Failure, Launch, LeafId, Outcome};
use leaf::Leaf;
pub(crate) use record::{JournalEvent, Past, Record, TaskEnd, read_journal};
pub use record::TaskState;
pub(crate) use values::Values;

use crate::plan::{ComponentKind, Name, Plan};
use crate::spec::TriggerStrategy;
use frame::{Loop, Node};
use leaf::Stage;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// An attempt ended.
    Ended { leaf: LeafId, outcome: Outcome, started_at: Timestamp, ended_at: Timestamp },
    /// The cache was asked; the outputs of an earlier execution, or none.
    Cached { leaf: LeafId, hit: Option<Values>, key: Option<kf_core::Digest> },
    /// Time went on.
    Tick,
    /// Somebody wants the run to end. Exit handlers still run; asked twice, they end too.
    Cancel { reason: String },
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write this down before anything else of the step.
    Record(Record),
    /// Ask the cache, and answer with [`Event::Cached`].
    Lookup(Box<Launch>),
    /// Start an attempt, and answer with [`Event::Ended`].
    Launch(Box<Launch>),
    /// End an attempt.
    Cancel(LeafId),
    /// The run has ended.
    Finished { state: RunState, error: Option<String> },
}

/// What limits a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many leaves are under way at once.
    pub(crate) in_flight: usize,
    /// Whether tasks may be taken from the cache.
    pub(crate) cache: bool,
}

/// A task of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) frame: FrameId,
    pub(crate) task: usize,
    /// The iteration, where the task is a loop.
    pub(crate) iteration: Option<usize>,
}

/// How a task, an iteration or a frame ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) state: TaskState,
    pub(crate) outputs: Arc<Values>,
    pub(crate) error: Option<Arc<str>>,
}

impl End {
    fn without_outputs(state: TaskState, error: Option<Arc<str>>) -> Self {
        Self { state, outputs: Values::none(), error }
    }
}

enum Todo {
    Activate(FrameId, usize),
    End(Place, End),
    CloseFrame(FrameId),
}

/// The state of one run.
pub(crate) struct Scheduler {
    plan: Arc<Plan>,
    limits: Limits,
    past: Past,
    frames: HashMap<FrameId, Frame>,
    leaves: HashMap<LeafId, Leaf>,
    next_id: u64,
    todo: VecDeque<Todo>,
    ready: VecDeque<LeafId>,
    /// Loops that have iterations left to begin.
    loops: VecDeque<(FrameId, usize)>,
    timers: BinaryHeap<Reverse<(Timestamp, LeafId)>>,
    in_flight: usize,
    canceled: u32,
    cancel_reason: Option<String>,
    commands: Vec<Command>,
    first_error: Option<String>,
    finished: bool,
    now: Timestamp,
}

impl Scheduler {
    /// A run of `plan`, of which `past` has already happened, and its first commands.
    pub(crate) fn start(
        plan: Arc<Plan>,
        args: BTreeMap<String, Json>,
        past: Past,
        limits: Limits,
        now: Timestamp,
    ) -> (Self, Vec<Command>) {
        let canceled = past.canceled.clone();
        let mut scheduler = Self {
            limits,
            past,
            frames: HashMap::new(),
            leaves: HashMap::new(),
            next_id: 0,
            todo: VecDeque::new(),
            ready: VecDeque::new(),
            loops: VecDeque::new(),
            timers: BinaryHeap::new(),
            in_flight: 0,
            canceled: u32::from(canceled.is_some()),
            cancel_reason: canceled,
            commands: Vec::new(),
            first_error: None,
            finished: false,
            now,
            plan,
        };
        let inputs = Values::of_parameters(args.into_iter().map(|(name, value)| (name.into(), Arc::new(value))));
        let root = scheduler.plan.root;
        scheduler.open_frame(root, None, "".into(), Arc::new(inputs), false);
        scheduler.settle();
        let commands = std::mem::take(&mut scheduler.commands);
        (scheduler, commands)
    }

    /// Takes in what happened and says what to do.
    pub(crate) fn step(&mut self, now: Timestamp, event: Event) -> Vec<Command> {
        self.now = now;
        match event {
            Event::Ended { leaf, outcome, started_at, ended_at } => {
                self.attempt_ended(leaf, outcome, started_at, ended_at);
            }
            Event::Cached { leaf, hit, key } => self.cache_answered(leaf, hit, key),
            Event::Tick => {}
            Event::Cancel { reason } => self.cancel(reason),
        }
        self.settle();
        std::mem::take(&mut self.commands)
    }

    /// When [`Event::Tick`] is due next.
    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Starts nothing any more.
    pub(crate) fn pause(&mut self) {
        self.limits.in_flight = 0;
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Carries on until nothing is left that follows by itself.
    fn settle(&mut self) {
        while let Some(Reverse((at, leaf))) = self.timers.peek().copied() {
            if at > self.now {
                break;
            }
            self.timers.pop();
            if self.leaves.get(&leaf).is_some_and(|leaf| leaf.stage == Stage::Waiting) {
                self.make_ready(leaf);
            }
        }
        loop {
            while let Some(todo) = self.todo.pop_front() {
                match todo {
                    Todo::Activate(frame, task) => self.activate(frame, task),
                    Todo::End(place, end) => self.end(place, end),
                    Todo::CloseFrame(frame) => self.close_frame(frame),
                }
            }
            if !self.advance() {
                break;
            }
        }
    }

    /// Starts one thing that there is room for.
    fn advance(&mut self) -> bool {
        if self.in_flight >= self.limits.in_flight {
            return false;
        }
        if let Some(leaf) = self.ready.pop_front() {
            self.launch(leaf);
            return true;
        }
        for _ in 0..self.loops.len() {
            let Some((frame, task)) = self.loops.pop_front() else { break };
            match self.next_iteration(frame, task) {
                Some(more) => {
                    if more {
                        self.loops.push_back((frame, task));
                    }
                    return true;
                }
                None => self.loops.push_back((frame, task)),
            }
        }
        false
    }

    fn make_ready(&mut self, id: LeafId) {
        if let Some(leaf) = self.leaves.get_mut(&id) {
            leaf.stage = Stage::Ready;
            self.ready.push_back(id);
        }
    }

    fn launch(&mut self, id: LeafId) {
        let Some(leaf) = self.leaves.get_mut(&id) else { return };
        if leaf.stage != Stage::Ready {
            return;
        }
        self.in_flight += 1;
        let lookup = leaf.cache && !leaf.looked_up;
        if lookup {
            leaf.stage = Stage::Lookup;
        } else {
            leaf.attempt += 1;
            leaf.stage = Stage::Running;
        }
        let launch = Box::new(leaf.launch(id));
        self.commands.push(if lookup { Command::Lookup(launch) } else { Command::Launch(launch) });
    }

    fn record(&mut self, record: Record) {
        self.commands.push(Command::Record(record));
    }

    /// All tasks before this one have ended: skip it, fail it, or begin it.
    fn activate(&mut self, frame_id: FrameId, index: usize) {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get(&frame_id) else { return };
        let task = &frame.dag(&plan).tasks[index];
        let place = Place { frame: frame_id, task: index, iteration: None };
        let at_any_end = task.strategy == TriggerStrategy::AllUpstreamTasksCompleted;
        let exempt = frame.exempt || at_any_end;
        if self.canceled > u32::from(exempt) {
            self.end_unrun(place, End::without_outputs(TaskState::Canceled, None));
            return;
        }
        if !at_any_end
            && let Some(blocker) = task.upstream.iter().find(|&&up| !frame.succeeded(up))
        {
            let blocker = &frame.dag(&plan).tasks[*blocker].name;
            let state = frame.state_of(task.upstream.iter().copied().find(|&up| !frame.succeeded(up)));
            let why = format!("`{blocker}` before it is {state}");
            let state = if state == TaskState::Canceled { state } else { TaskState::Skipped };
            self.end_unrun(place, End::without_outputs(state, Some(why.into())));
            return;
        }
        let end = match inputs::resolve(&plan, frame, task) {
            Err(problem) => Some(End::without_outputs(TaskState::Failed, Some(problem.into()))),
            Ok(inputs) => match task.condition.as_ref().map(|condition| condition.holds(inputs.named_parameters()))
            {
                Some(Err(problem)) => Some(End::without_outputs(TaskState::Failed, Some(problem.into()))),
                Some(Ok(false)) => {
                    Some(End::without_outputs(TaskState::Skipped, Some("its condition is false".into())))
                }
                Some(Ok(true)) | None => {
                    self.begin(place, exempt, Arc::new(inputs));
                    None
                }
            },
        };
        if let Some(end) = end {
            self.end_unrun(place, end);
        }
    }

    fn begin(&mut self, place: Place, exempt: bool, inputs: Arc<Values>) {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get_mut(&place.frame) else { return };
        let task = &frame.dag(&plan).tasks[place.task];
        let Some(iterator) = &task.iterator else {
            self.instantiate(place, exempt, inputs);
            return;
        };
        match inputs::items(iterator, &inputs) {
            Err(problem) => {
                self.end_unrun(place, End::without_outputs(TaskState::Failed, Some(problem.into())));
            }
            Ok(items) => {
                let state = Loop::new(items, inputs, iterator.limit, exempt);
                let empty = state.is_done();
                frame.nodes[place.task] = Node::Loop(Box::new(state));
                if empty {
                    self.close_loop(place.frame, place.task);
                } else {
                    self.loops.push_back((place.frame, place.task));
                }
            }
        }
    }

    /// Begins a loop's next iteration. Tells whether there are more; none where its limit is reached.
    fn next_iteration(&mut self, frame_id: FrameId, index: usize) -> Option<bool> {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get_mut(&frame_id) else { return Some(false) };
        let input = frame.dag(&plan).tasks[index].iterator.as_ref().map(|iterator| Name::clone(&iterator.input));
        let (Node::Loop(state), Some(input)) = (&mut frame.nodes[index], input) else { return Some(false) };
        let (iteration, item, more) = match state.take_next() {
            frame::Next::Exhausted => return Some(false),
            frame::Next::Full => return None,
            frame::Next::Item { iteration, item, more } => (iteration, item, more),
        };
        let inputs = Arc::new(state.inputs.with_parameter(input, item));
        let exempt = state.exempt;
        let place = Place { frame: frame_id, task: index, iteration: Some(iteration) };
        self.instantiate(place, exempt, inputs);
        Some(more)
    }

    /// Runs a task's component once: as a frame, or as a leaf.
    fn instantiate(&mut self, place: Place, exempt: bool, inputs: Arc<Values>) {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get_mut(&place.frame) else { return };
        let task = &frame.dag(&plan).tasks[place.task];
        let path = frame.path_of(&task.name, place.iteration);
        if place.iteration.is_none() {
            frame.nodes[place.task] = Node::Running;
        }
        let component = &plan.components[task.component];
        let inputs = inputs::with_defaults(component, inputs);
        let executor = match &component.kind {
            ComponentKind::Dag(_) => {
                self.open_frame(task.component, Some(place), path, inputs, exempt);
                return;
            }
            ComponentKind::Executor(executor) => executor,
        };
        if let Some(past) = self.past.ended.remove(path.as_ref()) {
            self.todo.push_back(Todo::End(place, past));
            return;
        }
        if let Err(problem) = inputs::check(component, &inputs) {
            self.end_unrun(place, End::without_outputs(TaskState::Failed, Some(problem.into())));
            return;
        }
        let id = LeafId(self.fresh_id());
        let cache = self.limits.cache && task.cache;
        let mut leaf = Leaf::new(place, path, Arc::clone(executor), inputs, cache, exempt);
        let waits_until = self.past.attempts.remove(leaf.path.as_ref()).and_then(|(attempts, last)| {
            leaf.attempt = attempts;
            leaf.looked_up = true;
            (attempts > 0).then(|| last.after(task.retry.backoff.delay(attempts, leaf.seed())))
        });
        self.leaves.insert(id, leaf);
        match waits_until {
            Some(at) => self.timers.push(Reverse((at, id))),
            None => self.make_ready(id),
        }
    }

    fn open_frame(
        &mut self,
        component: usize,
        parent: Option<Place>,
        path: Arc<str>,
        inputs: Arc<Values>,
        exempt: bool,
    ) {
        let id = FrameId(self.fresh_id());
        let frame = Frame::new(&self.plan, component, parent, path, inputs, exempt);
        let dag = frame.dag(&self.plan);
        if dag.tasks.is_empty() {
            self.todo.push_back(Todo::CloseFrame(id));
        }
        for (index, task) in dag.tasks.iter().enumerate() {
            if task.upstream.is_empty() {
                self.todo.push_back(Todo::Activate(id, index));
            }
        }
        self.frames.insert(id, frame);
    }

    /// Something ends that no executor carried: it is recorded here, where a leaf's end is recorded with it.
    fn end_unrun(&mut self, place: Place, end: End) {
        if let Some(frame) = self.frames.get(&place.frame) {
            let path = frame.path_of(&frame.dag(&self.plan).tasks[place.task].name, place.iteration);
            if !self.past.groups.contains(path.as_ref()) {
                let record =
                    Record::Group { task: path, state: end.state, at: self.now, error: end.error.clone() };
                self.commands.push(Command::Record(record));
            }
        }
        self.todo.push_back(Todo::End(place, end));
    }

    /// A task, or one iteration of it, has ended.
    fn end(&mut self, place: Place, end: End) {
        let plan = Arc::clone(&self.plan);
        if end.state == TaskState::Failed && self.first_error.is_none() {
            let path = self.frames.get(&place.frame).map(|frame| {
                frame.path_of(&frame.dag(&plan).tasks[place.task].name, place.iteration)
            });
            let error = end.error.as_deref().unwrap_or("failed");
            self.first_error = Some(format!("task `{}`: {error}", path.unwrap_or_default()));
        }
        let Some(frame) = self.frames.get_mut(&place.frame) else { return };
        if let Some(iteration) = place.iteration {
            if let Node::Loop(state) = &mut frame.nodes[place.task] {
                state.iteration_ended(iteration, end);
                if state.is_done() {
                    self.close_loop(place.frame, place.task);
                }
            }
            return;
        }
        let task = &frame.dag(&plan).tasks[place.task];
        frame.nodes[place.task] = Node::Ended(end);
        frame.open -= 1;
        for &next in &task.downstream {
            frame.pending[next] -= 1;
            if frame.pending[next] == 0 {
                self.todo.push_back(Todo::Activate(place.frame, next));
            }
        }
        if frame.open == 0 {
            self.todo.push_back(Todo::CloseFrame(place.frame));
        }
    }

    fn close_loop(&mut self, frame_id: FrameId, index: usize) {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get_mut(&frame_id) else { return };
        let component = &plan.components[frame.dag(&plan).tasks[index].component];
        if let Node::Loop(state) = &mut frame.nodes[index] {
            let end = state.close(component);
            self.end_unrun(Place { frame: frame_id, task: index, iteration: None }, end);
        }
    }

    fn close_frame(&mut self, id: FrameId) {
        let Some(frame) = self.frames.remove(&id) else { return };
        let end = frame.close(&self.plan);
        match frame.parent {
            // Of a loop over DAGs the whole is recorded, not each iteration.
            Some(place) if place.iteration.is_some() => self.todo.push_back(Todo::End(place, end)),
            Some(place) => self.end_unrun(place, end),
            None => self.finish(end),
        }
    }

    fn finish(&mut self, end: End) {
        self.finished = true;
        let (state, error) = if self.canceled > 0 {
            (RunState::Canceled, self.cancel_reason.clone())
        } else if end.state == TaskState::Failed {
            (RunState::Failed, self.first_error.clone())
        } else {
            (RunState::Succeeded, None)
        };
        self.commands.push(Command::Finished { state, error });
    }

    fn cancel(&mut self, reason: String) {
        if self.finished || self.canceled >= 2 {
            return;
        }
        if self.canceled == 0 {
            self.record(Record::CancelAsked { reason: reason.clone() });
            self.cancel_reason = Some(reason);
        }
        self.canceled += 1;
        let hit = |exempt: bool| self.canceled > u32::from(exempt);
        let mut ended = Vec::new();
        for (id, leaf) in &self.leaves {
            if !hit(leaf.exempt) {
                continue;
            }
            match leaf.stage {
                Stage::Running => self.commands.push(Command::Cancel(*id)),
                // Its answer finds the run cancelled.
                Stage::Lookup => {}
                Stage::Ready | Stage::Waiting => ended.push(*id),
            }
        }
        ended.sort_unstable();
        for id in ended {
            self.leaf_canceled(id);
        }
        let stopped: Vec<_> = self.loops.iter().copied().collect();
        for (frame_id, index) in stopped {
            let Some(frame) = self.frames.get_mut(&frame_id) else { continue };
            if let Node::Loop(state) = &mut frame.nodes[index]
                && self.canceled > u32::from(state.exempt)
            {
                state.stop();
                if state.is_done() {
                    self.close_loop(frame_id, index);
                }
            }
        }
    }

    fn leaf_canceled(&mut self, id: LeafId) {
        if let Some(leaf) = self.leaves.remove(&id) {
            self.end_unrun(leaf.place, End::without_outputs(TaskState::Canceled, None));
        }
    }

    fn cache_answered(
        &mut self,
        id: LeafId,
        hit: Option<Values>,
        key: Option<kf_core::Digest>,
    ) {
        let Some(leaf) = self.leaves.get_mut(&id) else { return };
        if leaf.stage != Stage::Lookup {
            return;
        }
        self.in_flight -= 1;
        leaf.looked_up = true;
        leaf.cache_key = key;
        if self.canceled > u32::from(leaf.exempt) {
            self.leaf_canceled(id);
            return;
        }
        match hit {
            Some(outputs) => {
                self.leaf_ended(id, TaskState::Cached, Arc::new(outputs), None, self.now, self.now);
            }
            None => {
                leaf.stage = Stage::Ready;
                self.ready.push_front(id);
            }
        }
    }

    fn attempt_ended(&mut self, id: LeafId, outcome: Outcome, started_at: Timestamp, ended_at: Timestamp) {
        let plan = Arc::clone(&self.plan);
        let Some(leaf) = self.leaves.get_mut(&id) else { return };
        if leaf.stage != Stage::Running {
            return;
        }
        self.in_flight -= 1;
        leaf.first_started.get_or_insert(started_at);
        let canceled = self.canceled > u32::from(leaf.exempt);
        match outcome {
            Outcome::Succeeded(outputs) => {
                self.leaf_ended(id, TaskState::Succeeded, Arc::new(outputs), None, started_at, ended_at);
            }
            Outcome::Canceled => {
                self.leaf_ended(id, TaskState::Canceled, Values::none(), None, started_at, ended_at);
            }
            Outcome::Failed(failure) => {
                let retry = self.frames.get(&leaf.place.frame).map(|frame| {
                    frame.dag(&plan).tasks[leaf.place.task].retry.clone()
                });
                let again = retry.filter(|retry| failure.retryable && leaf.attempt <= retry.max && !canceled);
                let error: Arc<str> = failure.to_string().into();
                let Some(retry) = again else {
                    self.leaf_ended(id, TaskState::Failed, Values::none(), Some(error), started_at, ended_at);
                    return;
                };
                let at = ended_at.after(retry.backoff.delay(leaf.attempt, leaf.seed()));
                leaf.stage = Stage::Waiting;
                let record = Record::AttemptFailed {
                    task: Arc::clone(&leaf.path),
                    attempt: leaf.attempt,
                    started_at,
                    ended_at,
                    error,
                };
                self.timers.push(Reverse((at, id)));
                self.record(record);
            }
        }
    }

    fn leaf_ended(
        &mut self,
        id: LeafId,
        state: TaskState,
        outputs: Arc<Values>,
        error: Option<Arc<str>>,
        started_at: Timestamp,
        ended_at: Timestamp,
    ) {
        let Some(leaf) = self.leaves.remove(&id) else { return };
        let place = leaf.place;
        self.record(Record::Task(Box::new(record::TaskEnd {
            task: leaf.path,
            executor: leaf.executor,
            state,
            attempts: leaf.attempt,
            started_at: leaf.first_started.unwrap_or(started_at),
            ended_at,
            inputs: leaf.inputs,
            outputs: Arc::clone(&outputs),
            error: error.clone(),
            cache_key: leaf.cache_key,
        })));
        let state = if state == TaskState::Cached { TaskState::Succeeded } else { state };
        self.todo.push_back(Todo::End(place, End { state, outputs, error }));
    }
}
