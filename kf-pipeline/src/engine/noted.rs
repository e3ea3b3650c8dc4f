//! What is noted of an attempt beside how it ended: what it used, and what was told of it meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use kf_core::Timestamp;
use kf_core::process::Usage;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::executor::{AttemptEnd, AttemptStatus};
use super::{RunEvent, RunSetup};

/// How many different events are kept of an attempt: the last ones.
const EVENTS: usize = 20;
/// How many characters of each.
const CHARACTERS: usize = 500;

/// Something that was told of an attempt before its end: what it waited for, or what it was warned of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttemptEvent {
    /// When it was told first.
    pub at: Timestamp,
    /// What was told.
    pub message: String,
}

/// What the journal keeps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noted {
    #[serde(default, skip_serializing_if = "Usage::is_unknown")]
    pub(crate) usage: Usage,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) events: VecDeque<AttemptEvent>,
}

impl Noted {
    /// Keeps an event, unless the same is kept already. Of many, the last stay.
    fn keep(&mut self, at: Timestamp, message: &str) {
        let end = message.char_indices().nth(CHARACTERS).map(|(end, _)| end);
        let message = end.map_or_else(|| message.to_owned(), |end| format!("{}…", &message[..end]));
        if self.events.iter().any(|event| event.message == message) {
            return;
        }
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(AttemptEvent { at, message });
    }
}

/// Takes down what an executor tells of an attempt, and passes it on.
pub(super) struct Notes<'a> {
    pub(super) setup: &'a RunSetup,
    task: &'a Arc<str>,
    noted: Noted,
    /// Since when it runs, where it does.
    runs: Option<Instant>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(setup: &'a RunSetup, task: &'a Arc<str>) -> Self {
        Self { setup, task, noted: Noted::default(), runs: None }
    }

    /// It runs from now on, as far as nobody says otherwise.
    pub(super) fn begins(&mut self) {
        self.runs = Some(Instant::now());
    }

    /// Takes in what was told; gives the attempt's end.
    pub(super) fn hear(&mut self, status: AttemptStatus) -> Option<AttemptEnd> {
        let task = || Arc::clone(self.task);
        match status {
            AttemptStatus::Ended(end) => return Some(end),
            AttemptStatus::Pending { reason } => {
                self.runs = None;
                self.noted.keep(self.setup.clock.now(), &reason);
                let _ = self.setup.events.send(RunEvent::TaskWaiting { task: task(), reason });
            }
            AttemptStatus::Warned { message } => {
                self.noted.keep(self.setup.clock.now(), &message);
                let _ = self.setup.events.send(RunEvent::TaskWarned { task: task(), message });
            }
            AttemptStatus::Running => self.begins(),
            AttemptStatus::Used(usage) => self.noted.usage = usage.or(self.noted.usage),
        }
        None
    }

    /// It has ended, or nobody waits for it any more.
    pub(super) fn ends(&mut self) {
        if let Some(began) = self.runs.take() {
            self.noted.usage.wall.get_or_insert(began.elapsed());
        }
    }

    /// What is to be kept, where there is anything.
    pub(super) fn take(mut self) -> Option<Box<Noted>> {
        self.ends();
        (self.noted != Noted::default()).then(|| Box::new(self.noted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_events_are_kept_and_none_twice() {
        let mut noted = Noted::default();
        for at in 0..30 {
            let at_ms = Timestamp::from_millis(at);
            noted.keep(at_ms, &format!("event {at}"));
            noted.keep(at_ms, "event 29 or so");
            noted.keep(at_ms, &format!("event {at}"));
        }
        let kept: Vec<_> = noted.events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!((kept.len(), kept.last()), (EVENTS, Some(&"event 29")));
        assert_eq!(kept.iter().filter(|message| **message == "event 29 or so").count(), 1);
        let mut long = Noted::default();
        long.keep(Timestamp::from_millis(0), &"ü".repeat(CHARACTERS + 1));
        long.keep(Timestamp::from_millis(1), &"ü".repeat(CHARACTERS + 2));
        assert_eq!(long.events.len(), 1);
        assert_eq!(long.events[0].message.chars().count(), CHARACTERS + 1);
        assert!(long.events[0].message.ends_with("ü…"), "{long:?}");
    }
}
