//! Which attempts of a run are under way, for whoever wants to follow one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::executor::{AttemptHandle, Executor};
use crate::mutex::locked;

/// The attempts of a run whose ends are not committed, by task.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    attempts: Mutex<HashMap<Arc<str>, (u32, Stage)>>,
    moved: Notify,
}

/// How far an attempt is.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// It waits for its inputs or its executor.
    Preparing,
    /// It is this executor's.
    Carried(Arc<dyn Executor>, AttemptHandle),
    /// It has ended, and that is not committed; this executor's it was.
    Over(Option<(Arc<dyn Executor>, AttemptHandle)>),
}

impl UnderWay {
    /// An attempt begins; it is over when what this gives is dropped.
    pub(super) fn begin(self: &Arc<Self>, task: &Arc<str>, number: u32) -> Begun {
        self.set(task, number, Stage::Preparing);
        Begun { all: Arc::clone(self), task: Arc::clone(task), number }
    }

    /// The ends of these attempts are committed.
    pub(super) async fn forget(&self, ended: Vec<(Arc<str>, u32)>) {
        for (executor, handle) in self.take(ended) {
            executor.release(&handle).await;
        }
    }

    /// Forgets them; those of executors that outlive the engine are returned.
    fn take(&self, ended: Vec<(Arc<str>, u32)>) -> Vec<(Arc<dyn Executor>, AttemptHandle)> {
        let mut attempts = locked(&self.attempts);
        let mut outliving = Vec::new();
        for (task, number) in ended {
            if attempts.get(&task).is_some_and(|(newest, _)| *newest == number)
                && let Some((_, Stage::Over(Some(carried)))) = attempts.remove(&task)
            {
                outliving.push(carried);
            }
        }
        outliving
    }

    /// The number of a task's newest attempt, where its end is not committed.
    pub(super) fn newest(&self, task: &str) -> Option<(u32, Stage)> {
        locked(&self.attempts).get(task).cloned()
    }

    /// Waits until an attempt is an executor's; none where it has ended.
    pub(super) async fn carried(
        &self,
        task: &str,
        number: u32,
    ) -> Option<(Arc<dyn Executor>, AttemptHandle)> {
        loop {
            let moved = self.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            match self.newest(task) {
                Some((newest, Stage::Preparing)) if newest == number => moved.await,
                Some((newest, Stage::Carried(executor, handle))) if newest == number => {
                    return Some((executor, handle));
                }
                _ => return None,
            }
        }
    }

    fn set(&self, task: &Arc<str>, number: u32, stage: Stage) {
        locked(&self.attempts).insert(Arc::clone(task), (number, stage));
        self.moved.notify_waiters();
    }
}

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Begun {
    all: Arc<UnderWay>,
    task: Arc<str>,
    number: u32,
}

impl Begun {
    /// It is this executor's now.
    pub(super) fn carried(&self, executor: &Arc<dyn Executor>, handle: &AttemptHandle) {
        self.all.set(&self.task, self.number, Stage::Carried(Arc::clone(executor), handle.clone()));
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut attempts = locked(&self.all.attempts);
        if let Some((number, stage)) = attempts.get_mut(&self.task)
            && *number == self.number
        {
            let carried = match std::mem::replace(stage, Stage::Over(None)) {
                Stage::Carried(executor, handle) if executor.outlives_engine() => Some((executor, handle)),
                _ => None,
            };
            *stage = Stage::Over(carried);
        }
        drop(attempts);
        self.all.moved.notify_waiters();
    }
}
