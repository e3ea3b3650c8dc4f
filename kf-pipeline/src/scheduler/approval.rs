//! Steps that wait for a person.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::leaf::{Leaf, Stage};
use super::{End, LeafId, Record, Scheduler, TaskState, Values};
use crate::placeholder::{self, Placeholder};
use crate::plan::{ArgCheck, Name};
use crate::spec::OutputDefinitions;

/// What a person decides of a task that waits for that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub(crate) approved: bool,
    pub(crate) by: String,
    pub(crate) comment: String,
    pub(crate) value: Option<Json>,
}

impl Decision {
    /// The run goes on.
    pub fn approve() -> Self {
        Self { approved: true, ..Self::default() }
    }

    /// The task fails, and with it what comes after.
    pub fn reject() -> Self {
        Self::default()
    }

    /// Who decides.
    #[must_use]
    pub fn by(mut self, who: impl Into<String>) -> Self {
        self.by = who.into();
        self
    }

    /// Why.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }

    /// What is asked for, where that is a value: the task's output `value`.
    #[must_use]
    pub fn value(mut self, value: impl Into<Json>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// What the task gives where it is decided so.
    fn outputs(&self, declared: &OutputDefinitions, check: Option<ArgCheck>) -> Result<Values, String> {
        let mut parameters = Vec::new();
        for (name, output) in &declared.parameters {
            let value = match name.as_str() {
                "by" => self.by.as_str().into(),
                "comment" => self.comment.as_str().into(),
                "value" => {
                    let kind = output.kind();
                    let value = self.value.clone().ok_or_else(|| format!("it asks for a value, {kind}"))?;
                    let value = kind.fit(&value).unwrap_or(value);
                    if !kind.accepts(&value) {
                        return Err(format!("it asks for a value, {kind}, and found {value}"));
                    }
                    if let Some(problem) = check.and_then(|check| check(&value).err()) {
                        return Err(format!("it asks for another value than {value}: {problem}"));
                    }
                    value
                }
                other => return Err(format!("its output `{other}` is nothing that a decision gives")),
            };
            parameters.push((Name::from(name.as_str()), Arc::new(value)));
        }
        if self.value.is_some() && !declared.parameters.contains_key("value") {
            return Err("it asks for no value".to_owned());
        }
        Ok(Values::new(parameters, Vec::new()))
    }
}

impl Scheduler {
    /// Asks, unless that was done before a restart.
    pub(super) fn ask(&mut self, id: LeafId, mut leaf: Leaf, message: &str) {
        let lookup = |placeholder: Placeholder<'_>| match placeholder {
            Placeholder::InputParameter(name) => {
                Ok(leaf.inputs.parameter(name).map(|value| value.as_ref().clone()))
            }
            other => Ok(self.names.look_up(&leaf.path, other)),
        };
        let asked_at = self.past.asked.remove(leaf.path.as_ref());
        let message = match placeholder::replace_text(message, &lookup) {
            Ok(message) => message,
            Err(problem) => {
                self.end_unrun(leaf.place, End::without_outputs(TaskState::Failed, Some(problem.into())));
                return;
            }
        };
        let at = asked_at.unwrap_or(self.now);
        if asked_at.is_none() {
            self.record(Record::Asked { task: Arc::clone(&leaf.path), message, at });
        }
        leaf.stage = Stage::Asked;
        leaf.attempt = 1;
        leaf.first_started = Some(at);
        if let Some(timeout) = leaf.executor.timeout {
            // The clock may have been set back since.
            self.timers.push(Reverse((at.min(self.now).after(timeout), id)));
        }
        self.asked.insert(Arc::clone(&leaf.path), id);
        self.leaves.insert(id, Box::new(leaf));
    }

    /// A person decides.
    ///
    /// # Errors
    /// Says why that can't be decided, or not so; the task waits on.
    pub(super) fn decide(&mut self, task: &str, decision: &Decision) -> Result<(), String> {
        let id = self.asked.get(task).copied();
        let found = id.and_then(|id| Some((id, self.leaves.get(&id)?)));
        let Some((id, leaf)) = found else {
            let waiting: Vec<&str> = self.asked.keys().map(AsRef::as_ref).collect();
            let waiting = match waiting.as_slice() {
                [] => "nothing does".to_owned(),
                waiting => format!("these do: {}", waiting.join(", ")),
            };
            return Err(format!("task `{task}` waits for no decision; {waiting}"));
        };
        let started_at = leaf.first_started.unwrap_or(self.now);
        if decision.approved {
            let outputs = decision.outputs(&leaf.executor.outputs, leaf.executor.answer);
            let outputs = outputs.map_err(|problem| format!("task `{task}`: {problem}"))?;
            self.leaf_ended(id, TaskState::Succeeded, Arc::new(outputs), None, started_at, self.now);
        } else {
            let named = |before: &str, text: &str| match text {
                "" => String::new(),
                text => format!("{before}{text}"),
            };
            let error =
                format!("was rejected{}{}", named(" by ", &decision.by), named(": ", &decision.comment));
            self.leaf_ended(id, TaskState::Failed, Values::none(), Some(error.into()), started_at, self.now);
        }
        Ok(())
    }

    /// Nobody has decided in time.
    pub(super) fn undecided(&mut self, id: LeafId) {
        let Some(leaf) = self.leaves.get(&id) else { return };
        let started_at = leaf.first_started.unwrap_or(self.now);
        let error = format!("nobody decided within {:?}", leaf.executor.timeout.unwrap_or_default());
        self.leaf_ended(id, TaskState::Failed, Values::none(), Some(error.into()), started_at, self.now);
    }
}
