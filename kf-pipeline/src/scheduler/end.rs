//! Ends: of tasks, iterations, loops and frames, up to the run's.

use std::sync::Arc;

use kf_core::metadata::RunState;

use super::frame::Node;
use super::{Command, End, FrameId, Place, Record, Scheduler, TaskState, Todo, Values};

impl Scheduler {
    /// Something ends that no executor carried: it is recorded here, where a leaf's end is recorded with it.
    pub(super) fn end_unrun(&mut self, place: Place, end: End) {
        if let Some(frame) = self.frames.get(&place.frame) {
            let path = frame.path_of(&frame.dag(&self.plan).tasks[place.task].name, place.iteration);
            if !self.past.groups.contains_key(path.as_ref()) {
                let (at, error) = (self.now, end.error.clone());
                self.record(Record::Group { task: path, state: end.state, at, error });
            }
        }
        self.todo.push_back(Todo::End(place, end));
    }

    /// A task, or one iteration of it, has ended.
    pub(super) fn end(&mut self, place: Place, mut end: End) {
        let plan = Arc::clone(&self.plan);
        if end.state == TaskState::Failed && self.first_error.is_none() && !self.is_made_up_for(place) {
            let path = self
                .frames
                .get(&place.frame)
                .map(|frame| frame.path_of(&frame.dag(&plan).tasks[place.task].name, place.iteration));
            let error = end.error.as_deref().unwrap_or("failed");
            self.first_error = Some(format!("task `{}`: {error}", path.unwrap_or_default()));
        }
        let Some(frame) = self.frames.get_mut(&place.frame) else { return };
        let task = &frame.dag(&plan).tasks[place.task];
        if !task.is_taken {
            end.outputs = Values::none();
        }
        if let Some(iteration) = place.iteration {
            if let Node::Loop(state) = &mut frame.nodes[place.task] {
                state.iteration_ended(iteration, end);
                if std::mem::take(&mut state.full) {
                    self.loops.push_back((place.frame, place.task));
                }
                if state.is_done() {
                    self.close_loop(place.frame, place.task);
                }
            }
            return;
        }
        let mut of = task.fallback_of.filter(|_| end.state != TaskState::Skipped);
        while let Some(failed) = of.filter(|of| frame.state_of(Some(*of)) == TaskState::Failed) {
            // From here on, what it gave is that one's.
            frame.nodes[failed] = Node::Ended(end.clone());
            of = frame.dag(&plan).tasks[failed].fallback_of;
        }
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

    /// Whether a failure here is made up for further out: by a fallback, or by a loop some of whose iterations may fail.
    fn is_made_up_for(&self, place: Place) -> bool {
        let mut place = Some(place);
        while let Some(at) = place {
            let Some(frame) = self.frames.get(&at.frame) else { return false };
            let task = &frame.dag(&self.plan).tasks[at.task];
            let may_fail = task.iterator.as_ref().is_some_and(|iterator| iterator.min_success.is_some());
            if task.has_fallback || (may_fail && at.iteration.is_some()) {
                return true;
            }
            place = frame.parent;
        }
        false
    }

    pub(super) fn close_loop(&mut self, frame_id: FrameId, index: usize) {
        let plan = Arc::clone(&self.plan);
        let Some(frame) = self.frames.get_mut(&frame_id) else { return };
        let component = &plan.components[frame.dag(&plan).tasks[index].component];
        if let Node::Loop(state) = &mut frame.nodes[index] {
            let end = state.close(component);
            self.end_unrun(Place { frame: frame_id, task: index, iteration: None }, end);
        }
    }

    pub(super) fn close_frame(&mut self, id: FrameId) {
        let Some(frame) = self.frames.remove(&id) else { return };
        let end = frame.close(&self.plan);
        match frame.parent {
            // Of a loop over DAGs the whole is recorded, not each iteration.
            Some(place) if place.iteration.is_some() => self.todo.push_back(Todo::End(place, end)),
            Some(place) => self.end_unrun(place, end),
            None => self.finish(end),
        }
    }

    pub(super) fn finish(&mut self, end: End) {
        self.finished = true;
        let (state, error) = if self.canceled > 0 {
            (RunState::Canceled, self.cancel_reason.clone())
        } else if end.state == TaskState::Failed {
            // What was to be made up for and was not is told by the outermost group.
            (RunState::Failed, self.first_error.clone().or_else(|| end.error.as_deref().map(str::to_owned)))
        } else if end.state == TaskState::Canceled {
            (RunState::Canceled, Some("a task was ended from outside of the run".to_owned()))
        } else {
            (RunState::Succeeded, None)
        };
        if !end.outputs.is_empty() {
            self.record(Record::Outputs { outputs: Arc::clone(&end.outputs) });
        }
        self.commands.push(Command::Finished { state, error });
    }
}
