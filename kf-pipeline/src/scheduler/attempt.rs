//! Leaves from attempt to attempt: cache, launch, retry, end.

use std::cmp::Reverse;
use std::sync::Arc;

use kf_core::{Digest, Timestamp};

use super::leaf::{FailureKind, Stage};
use super::record::TaskEnd;
use super::{Command, End, LeafId, Outcome, Record, Scheduler, TaskState, Todo, Values};

use crate::plan::{Caching, Retry};

impl Scheduler {
    pub(super) fn make_ready(&mut self, id: LeafId) {
        if let Some(leaf) = self.leaves.get_mut(&id) {
            leaf.stage = Stage::Ready;
            self.ready.push_back(id);
        }
    }

    pub(super) fn launch(&mut self, id: LeafId) {
        let Some(leaf) = self.leaves.get_mut(&id) else { return };
        if leaf.stage != Stage::Ready {
            return;
        }
        self.in_flight += 1;
        let lookup = leaf.caching != Caching::Off && !leaf.looked_up;
        if lookup {
            leaf.stage = Stage::Lookup;
        } else {
            leaf.attempt += 1;
            leaf.stage = Stage::Running;
        }
        let launch = Box::new(leaf.launch(id));
        self.commands.push(if lookup { Command::Lookup(launch) } else { Command::Launch(launch) });
    }

    pub(super) fn cache_answered(&mut self, id: LeafId, hit: Option<Values>, key: Option<Digest>) {
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

    pub(super) fn attempt_ended(
        &mut self,
        id: LeafId,
        outcome: Outcome,
        started_at: Timestamp,
        ended_at: Timestamp,
    ) {
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
                let retry = self
                    .frames
                    .get(&leaf.place.frame)
                    .map(|frame| frame.dag(&plan).tasks[leaf.place.task].retry());
                let lost = failure.kind == FailureKind::Lost;
                let spent = leaf.attempt - leaf.lost;
                leaf.lost += u32::from(lost);
                let left = |retry: &Retry| match lost {
                    true => leaf.lost <= self.limits.lost,
                    false => spent <= retry.max,
                };
                let again = retry.filter(|retry| failure.retryable && left(retry) && !canceled);
                let error: Arc<str> = failure.to_string().into();
                let Some(retry) = again else {
                    self.leaf_ended(id, TaskState::Failed, Values::none(), Some(error), started_at, ended_at);
                    return;
                };
                let at = self.now.after(leaf.delay(&retry, lost));
                leaf.stage = Stage::Waiting;
                let record = Record::AttemptFailed {
                    task: Arc::clone(&leaf.path),
                    attempt: leaf.attempt,
                    started_at,
                    ended_at,
                    error,
                    lost,
                };
                self.timers.push(Reverse((at, id)));
                self.record(record);
            }
        }
    }

    pub(super) fn leaf_ended(
        &mut self,
        id: LeafId,
        state: TaskState,
        outputs: Arc<Values>,
        error: Option<Arc<str>>,
        started_at: Timestamp,
        ended_at: Timestamp,
    ) {
        let Some(leaf) = self.leaves.remove(&id).map(|leaf| *leaf) else { return };
        self.asked.remove(&leaf.path);
        let place = leaf.place;
        self.record(Record::Task(Box::new(TaskEnd {
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
