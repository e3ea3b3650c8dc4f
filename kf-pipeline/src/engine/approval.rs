//! Tasks that wait for a person.

use std::collections::BTreeMap;
use std::sync::Arc;

use kf_core::{RunId, Timestamp};

use super::{Engine, Inner};
use crate::journal::Journal;
use crate::scheduler::JournalEvent;
use crate::{Decision, Error, Result};

/// A task that waits for a person.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Approval {
    /// The task's path.
    pub task: Arc<str>,
    /// What is asked.
    pub message: String,
    /// Since when.
    pub asked_at: Timestamp,
}

/// The tasks that wait for a person, as a run's journal tells from its beginning on.
#[derive(Debug, Default)]
pub(crate) struct Waiting(BTreeMap<Arc<str>, Approval>);

impl Waiting {
    pub(crate) fn add(&mut self, event: &JournalEvent) {
        match event {
            JournalEvent::Asked { task, message, at } => {
                let approval = Approval { task: Arc::clone(task), message: message.clone(), asked_at: *at };
                self.0.insert(Arc::clone(task), approval);
            }
            JournalEvent::Task { task, .. } | JournalEvent::Group { task, .. } => {
                self.0.remove(task);
            }
            _ => {}
        }
    }

    pub(crate) fn into_list(self) -> Vec<Approval> {
        self.0.into_values().collect()
    }
}

impl Inner {
    /// The tasks of a run that wait for a person.
    pub(super) async fn waiting(&self, run: &RunId) -> Result<Vec<Approval>> {
        let (mut waiting, mut journal) = (Waiting::default(), Journal::new(self.metadata.as_ref(), run));
        while let Some(events) = journal.next().await? {
            events.iter().for_each(|event| waiting.add(event));
        }
        Ok(waiting.into_list())
    }
}

impl Engine {
    /// The tasks of a run that wait for a person, whichever engine carries it; none where the run has ended.
    ///
    /// # Errors
    /// Where there is no such run, or it can't be read.
    pub async fn approvals(&self, run: &RunId) -> Result<Vec<Approval>> {
        let record = self.inner.metadata.run(run).await?;
        let missing = || Error::Run { run: run.to_string(), problem: "there is no such run".to_owned() };
        if record.ok_or_else(missing)?.state.is_terminal() {
            return Ok(Vec::new());
        }
        self.inner.waiting(run).await
    }

    /// Decides what a task of a run waits for; returns when that is committed.
    ///
    /// # Errors
    /// [`Error::Run`] where this engine does not carry the run, where the task waits for nothing, or asks for another
    /// kind of value; it waits on then.
    pub async fn decide(&self, run: &RunId, task: &str, decision: Decision) -> Result<()> {
        if let Some(handle) = self.handle(run) {
            return handle.decide(task, decision).await;
        }
        let problem = match self.inner.metadata.run(run).await?.map(|record| record.state) {
            None => "there is no such run".to_owned(),
            Some(state) if state.is_terminal() => format!("it has ended ({state}), and waits for nothing"),
            Some(_) => "this engine does not carry it; start it again with its id first".to_owned(),
        };
        Err(Error::Run { run: run.to_string(), problem })
    }
}
