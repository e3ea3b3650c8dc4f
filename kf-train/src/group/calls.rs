//! The calls of a group, by number, and what becomes of each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use c10d_sys::Store;
use serde::{Deserialize, Serialize};

use super::missing;
use super::reporter::Reporter;
use crate::{Error, Result};

/// How far a rank is, as the others read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The number of its last call; 0 before the first.
    pub(super) call: u64,
    pub(super) operation: String,
    /// Whether a call is under way.
    pub(super) within: bool,
}

impl Seen {
    pub(super) fn written(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// One rank's calls into one group.
#[derive(Debug)]
pub(super) struct Calls {
    /// What the names of this group's keys begin with.
    pub(super) scope: String,
    pub(super) rank: usize,
    pub(super) world_size: usize,
    pub(super) timeout: Duration,
    now: Mutex<Now>,
    /// Whether one failure is that of all calls.
    ends: AtomicBool,
    /// What the other ranks were last seen at when it was.
    end: OnceLock<std::result::Result<Vec<Option<Seen>>, String>>,
}

#[derive(Debug, Default)]
struct Now {
    number: u64,
    operation: &'static str,
    under_way: usize,
}

impl Calls {
    pub(super) fn new(scope: String, rank: usize, world_size: usize, timeout: Duration) -> Self {
        Self {
            scope,
            rank,
            world_size,
            timeout,
            now: Mutex::default(),
            ends: AtomicBool::new(false),
            end: OnceLock::new(),
        }
    }

    /// From here on, the first failure is that of all calls: who waits for another group wants to know of it soon.
    pub(super) fn end_with_a_failure(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Where a rank writes how far it is.
    pub(super) fn key(&self, rank: usize) -> String {
        format!("{}calls/{rank}", self.scope)
    }

    /// Writes how far this rank is.
    pub(super) fn publish(&self, store: &Store, seen: &Seen) -> c10d_sys::Result<()> {
        store.set(&self.key(self.rank), &seen.written())
    }

    pub(super) fn seen(&self) -> Seen {
        let now = self.now();
        Seen { call: now.number, operation: now.operation.to_owned(), within: now.under_way > 0 }
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who takes part in a call.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// All ranks, each with this number.
    All(u64),
    /// One other rank.
    With(usize),
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Arc<Calls>,
    reporter: Option<Arc<Reporter>>,
    operation: &'static str,
    part: Part,
    /// Whether the calls were at their end already.
    late: bool,
}

impl Call {
    /// The group's next.
    pub(super) fn of_all(
        calls: &Arc<Calls>,
        reporter: Option<&Arc<Reporter>>,
        operation: &'static str,
    ) -> Self {
        let number = {
            let mut now = calls.now();
            now.number += 1;
            now.operation = operation;
            now.under_way += 1;
            now.number
        };
        Self::new(calls, reporter, operation, Part::All(number))
    }

    /// Of two ranks alone, which the others do not count.
    pub(super) fn with(
        calls: &Arc<Calls>,
        reporter: Option<&Arc<Reporter>>,
        operation: &'static str,
        other: usize,
    ) -> Self {
        Self::new(calls, reporter, operation, Part::With(other))
    }

    fn new(
        calls: &Arc<Calls>,
        reporter: Option<&Arc<Reporter>>,
        operation: &'static str,
        part: Part,
    ) -> Self {
        let (reporter, late) = (reporter.cloned(), calls.end.get().is_some());
        Self { calls: Arc::clone(calls), reporter, operation, part, late }
    }

    pub(super) fn operation(&self) -> &'static str {
        self.operation
    }

    /// The call's result, with what is known of the other ranks where it failed; finding that out takes about a second.
    pub(crate) fn done<T>(&self, result: c10d_sys::Result<T>) -> Result<T> {
        result.map_err(|error| self.failed(error.timed_out(), error.message()))
    }

    /// The error of a call that failed, with what is known of the other ranks.
    pub(crate) fn failed(&self, timed_out: bool, message: &str) -> Error {
        let ends = self.calls.ends.load(Ordering::Relaxed);
        let reporter = match &self.reporter {
            Some(reporter) if !ends || (timed_out && !self.late) => reporter,
            _ => return self.error(timed_out, Vec::new(), message.to_owned()),
        };
        let number = match self.part {
            Part::All(number) => number,
            Part::With(_) => u64::MAX,
        };
        let look = || reporter.look(&self.calls, number);
        let seen = if ends { self.calls.end.get_or_init(look).clone() } else { look() };
        let known = seen.map(|seen| match self.part {
            Part::All(number) => missing::of_call(number, self.operation, self.calls.rank, &seen),
            Part::With(other) => missing::of_message(other, &seen),
        });
        match known {
            Err(unknown) => self.error(timed_out, Vec::new(), format!("{message}; {unknown}")),
            Ok((missing, Some(told))) if timed_out => self.error(timed_out, missing, told),
            Ok((missing, Some(told))) => self.error(timed_out, missing, format!("{message}; {told}")),
            Ok((missing, None)) if timed_out && matches!(self.part, Part::All(_)) => {
                let told = format!("every rank made this call; it is slow, or a connection is: {message}");
                self.error(timed_out, missing, told)
            }
            Ok((missing, None)) => self.error(timed_out, missing, message.to_owned()),
        }
    }

    fn error(&self, timed_out: bool, missing: Vec<usize>, message: String) -> Error {
        let (operation, rank, after) = (self.operation, self.calls.rank, self.calls.timeout);
        let call = match self.part {
            Part::All(number) => Some(number),
            Part::With(_) => None,
        };
        match timed_out {
            true => Error::CollectiveTimedOut { operation, call, rank, after, missing, message },
            false => Error::Collective { operation, call, rank, missing, message },
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if matches!(self.part, Part::All(_)) {
            self.calls.now().under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_their_ends_seen() {
        let calls = Arc::new(Calls::new(String::new(), 0, 2, Duration::from_secs(1)));
        assert_eq!(calls.seen(), Seen::default());
        let first = Call::of_all(&calls, None, "broadcast");
        let second = Call::of_all(&calls, None, "barrier");
        let message = Call::with(&calls, None, "send", 1);
        drop(first);
        assert_eq!(calls.seen(), Seen { call: 2, operation: "barrier".into(), within: true });
        drop((second, message));
        assert_eq!(calls.seen(), Seen { call: 2, operation: "barrier".into(), within: false });
    }
}
