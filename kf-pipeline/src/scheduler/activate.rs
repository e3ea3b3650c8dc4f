//! Beginning tasks: skipped, failed, or made a leaf, a frame or a loop.

use std::cmp::Reverse;
use std::sync::Arc;

use super::frame::{Loop, LoopItem, Next, Node};
use super::leaf::Leaf;
use super::{End, Frame, FrameId, LeafId, Place, Scheduler, TaskState, Todo, Values, inputs};
use crate::plan::{Caching, ComponentKind, Name, Work};
use crate::spec::TriggerStrategy;

/// What came of asking a loop for its next iteration.
pub(super) enum Begun {
    /// One began, and there are more.
    More,
    /// One began, or none was left; there are no more.
    Last,
    /// None: the loop's limit is reached.
    Full,
}

impl Scheduler {
    /// All tasks before this one have ended: skip it, fail it, or begin it.
    pub(super) fn activate(&mut self, frame_id: FrameId, index: usize) {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get(&frame_id) else { return };
        let task = &frame.dag(&plan).tasks[index];
        let place = Place { frame: frame_id, task: index, iteration: None };
        let at_any_end = task.strategy == TriggerStrategy::AllUpstreamTasksCompleted;
        let exempt = frame.exempt || at_any_end;
        if self.is_canceled(exempt) && !self.past.reached(&frame.path_of(&task.name, None)) {
            self.end_unrun(place, End::without_outputs(TaskState::Canceled, None));
            return;
        }
        if let Some(of) = task.fallback_of {
            let name = &frame.dag(&plan).tasks[of].name;
            match frame.state_of(Some(of)) {
                TaskState::Failed => {}
                state => {
                    let why = format!("`{name}`, for which it would stand, is {state}");
                    let state = if state == TaskState::Canceled { state } else { TaskState::Skipped };
                    self.end_unrun(place, End::without_outputs(state, Some(why.into())));
                    return;
                }
            }
        }
        if !at_any_end && let Some(blocker) = task.upstream.iter().find(|&&up| !frame.succeeded(up)) {
            let blocker = &frame.dag(&plan).tasks[*blocker].name;
            let state = frame.state_of(task.upstream.iter().copied().find(|&up| !frame.succeeded(up)));
            let why = format!("`{blocker}` before it is {state}");
            let state = if state == TaskState::Canceled { state } else { TaskState::Skipped };
            self.end_unrun(place, End::without_outputs(state, Some(why.into())));
            return;
        }
        let end = match inputs::resolve(&plan, frame, task, &self.names) {
            Err(problem) => Some(End::without_outputs(TaskState::Failed, Some(problem.into()))),
            Ok(inputs) => {
                match task.condition.as_ref().map(|condition| condition.holds(inputs.named_parameters())) {
                    Some(Err(problem)) => Some(End::without_outputs(TaskState::Failed, Some(problem.into()))),
                    Some(Ok(false)) => {
                        Some(End::without_outputs(TaskState::Skipped, Some("its condition is false".into())))
                    }
                    Some(Ok(true)) | None => {
                        self.begin(place, exempt, Arc::new(inputs));
                        None
                    }
                }
            }
        };
        if let Some(end) = end {
            self.end_unrun(place, end);
        }
    }

    pub(super) fn begin(&mut self, place: Place, exempt: bool, inputs: Arc<Values>) {
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
                let mut state = Loop::new(items, inputs, iterator, exempt);
                if self.canceled > u32::from(exempt) {
                    // Only those that had begun before a restart.
                    state.stop_at(self.past.begun_iterations(&frame.path_of(&task.name, None)));
                }
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

    /// Begins a loop's next iteration.
    pub(super) fn next_iteration(&mut self, frame_id: FrameId, index: usize) -> Begun {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get_mut(&frame_id) else { return Begun::Last };
        let input =
            frame.dag(&plan).tasks[index].iterator.as_ref().map(|iterator| Name::clone(&iterator.input));
        let (Node::Loop(state), Some(input)) = (&mut frame.nodes[index], input) else { return Begun::Last };
        let (iteration, item, more) = match state.take_next() {
            Next::Exhausted => return Begun::Last,
            Next::Full => {
                state.full = true;
                return Begun::Full;
            }
            Next::Item { iteration, item, more } => (iteration, item, more),
        };
        let inputs = Arc::new(match item {
            LoopItem::Value(value) => state.inputs.with_parameter(input, value),
            LoopItem::Artifact(one) => state.inputs.with_artifacts(input, one),
        });
        let exempt = state.exempt;
        let place = Place { frame: frame_id, task: index, iteration: Some(iteration) };
        self.instantiate(place, exempt, inputs);
        if more { Begun::More } else { Begun::Last }
    }

    /// Runs a task's component once: as a frame, or as a leaf.
    pub(super) fn instantiate(&mut self, place: Place, exempt: bool, inputs: Arc<Values>) {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get_mut(&place.frame) else { return };
        let task = &frame.dag(&plan).tasks[place.task];
        let path = frame.path_of(&task.name, place.iteration);
        if place.iteration.is_none() {
            frame.nodes[place.task] = Node::Running;
        }
        let component = &plan.components[task.component];
        let inputs = inputs::fitted(component, inputs);
        let executor = match &component.kind {
            ComponentKind::Dag(_) => {
                if let Some(most) = component.max_depth
                    && self.depth_of(task.component, place.frame) >= most
                {
                    let problem = format!(
                        "component `{}` runs within itself more than {most} deep, which is its `maxDepth`",
                        component.name
                    );
                    self.end_unrun(place, End::without_outputs(TaskState::Failed, Some(problem.into())));
                    return;
                }
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
        if self.is_canceled(exempt) {
            self.end_unrun(place, End::without_outputs(TaskState::Canceled, None));
            return;
        }
        let id = LeafId(self.fresh_id());
        if let Work::Approval(message) = &executor.work {
            let leaf = Leaf::new(place, path, Arc::clone(executor), inputs, Caching::Off, exempt);
            self.ask(id, leaf, message);
            return;
        }
        let cached = self.limits.cache && !self.past.is_fresh(&path);
        let caching = if cached { task.caching } else { Caching::Off };
        let mut leaf = Leaf::new(place, path, Arc::clone(executor), inputs, caching, exempt);
        let waits_until = self.past.attempts.remove(leaf.path.as_ref()).map(|failed| {
            (leaf.attempt, leaf.lost) = (failed.count, failed.lost);
            leaf.first_started = Some(failed.first_started);
            let delay = leaf.delay(&task.retry(), failed.last_lost);
            // The clock may have been set back since.
            failed.last_ended.after(delay).min(self.now.after(delay))
        });
        self.leaves.insert(id, Box::new(leaf));
        match waits_until {
            Some(at) => self.timers.push(Reverse((at, id))),
            None => self.make_ready(id),
        }
    }

    /// How many executions of a component a frame is, or lies in.
    fn depth_of(&self, component: usize, frame: FrameId) -> u32 {
        let around = |frame: &&Frame| frame.parent.and_then(|parent| self.frames.get(&parent.frame));
        let frames = std::iter::successors(self.frames.get(&frame), |frame| around(frame));
        let count = frames.filter(|frame| frame.component == component).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(super) fn open_frame(
        &mut self,
        component: usize,
        parent: Option<Place>,
        path: Arc<str>,
        inputs: Arc<Values>,
        exempt: bool,
    ) {
        let id = FrameId(self.fresh_id());
        let frame = Frame::new(&self.plan, component, parent, path, inputs, exempt);
        let empty = frame.nodes.is_empty();
        self.todo.push_back(if empty { Todo::CloseFrame(id) } else { Todo::BeginFrame(id) });
        self.frames.insert(id, frame);
    }

    pub(super) fn begin_frame(&mut self, id: FrameId) {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get(&id) else { return };
        for (index, task) in frame.dag(&plan).tasks.iter().enumerate() {
            if task.upstream.is_empty() && task.waits.is_empty() {
                self.activate(id, index);
            }
        }
    }
}
