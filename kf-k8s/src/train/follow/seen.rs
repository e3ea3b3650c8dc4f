//! What is known of a rank.

use std::time::{Duration, Instant};

use kf_core::process::Exit;
use kf_train::Progress;

use crate::facts::ContainerEnd;

/// How long what a rank printed is waited for once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What is known of a rank since it was last started.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The id of the pod that it is in; none before that has told something of it.
    pub(super) pod: Option<String>,
    /// The number of the reading of its log.
    pub(super) turn: u64,
    pub(super) started: Option<Instant>,
    /// Whether its function was reached, or it is a foreign program.
    pub(super) begun: bool,
    pub(super) heard: Option<Instant>,
    pub(super) progress: Option<Progress>,
    /// Why its log can't be read, where that is so.
    pub(super) unread: Option<String>,
    /// What the node says, where it could not start its program.
    pub(super) unstarted: Option<String>,
    /// Whether all of its log was read.
    pub(super) read: bool,
    pub(super) end: Option<ContainerEnd>,
    /// When that end was seen.
    pub(super) over: Option<Instant>,
    /// How many ends were seen before it.
    pub(super) order: u64,
    /// How many ranks were seen to be asked to go before its pod was; none where it was not seen.
    pub(super) left: Option<u64>,
    /// Whether it was asked to end.
    pub(super) asked: bool,
    pub(super) ended: bool,
}

impl Seen {
    /// Whether it has ended badly, and not because it was asked to end.
    pub(super) fn failed(&self) -> bool {
        !self.asked && self.end.as_ref().is_some_and(|end| !end.exit.success())
    }

    /// Whether what it printed was read, or is not waited for any longer since its end.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        self.read || self.started.is_none() || self.over.is_some_and(|over| now - over > LAST_WORDS)
    }

    /// Whether it ran, and its pod went without a failure of its own and before it was done.
    pub(super) fn was_lost(&self) -> bool {
        let badly = self.end.as_ref().is_none_or(|end| !end.exit.success());
        self.started.is_some() && badly && !self.failed()
    }

    /// What orders the lost by when they went. One that was not seen to be asked, and left no end, has gone at once; the job's
    /// failure has the others asked.
    pub(super) fn went(&self) -> (bool, Option<u64>, u64) {
        (self.left.is_none() && self.end.is_some(), self.left, self.order)
    }

    /// How it ended; of one whose pod went before its end was seen, that it was asked to end.
    pub(super) fn exit(&self) -> Exit {
        self.end.as_ref().map_or(Exit::Signal(15), |end| end.exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_was_asked_to_go_went_first() {
        let exit = Exit::Signal(9);
        let end = || Some(ContainerEnd { exit, at: 0, out_of_memory: false, message: None });
        let seen = |left, order, end| Seen { left, order, end, ..Seen::default() };
        let first =
            |all: &[Seen]| all.iter().enumerate().min_by_key(|(_, seen)| seen.went()).map(|(rank, _)| rank);
        // Both are killed when their grace is over, in any order.
        assert_eq!(first(&[seen(Some(1), 0, end()), seen(Some(0), 1, end())]), Some(1));
        assert_eq!(first(&[seen(Some(0), 0, end()), seen(None, 0, None)]), Some(1));
        assert_eq!(first(&[seen(None, 0, end()), seen(Some(0), 1, None)]), Some(1));
        assert_eq!(first(&[seen(None, 1, end()), seen(None, 0, end())]), Some(1));
    }

    #[test]
    fn what_a_rank_printed_is_waited_for_a_while() {
        let now = Instant::now();
        let ended = |read, started: bool, ago| {
            let started = started.then_some(now);
            Seen { read, started, over: now.checked_sub(ago), ..Seen::default() }.is_heard(now)
        };
        let soon = Duration::from_secs(1);
        assert!(ended(true, true, soon) && !ended(false, true, soon));
        // One that was never started prints nothing.
        assert!(ended(false, false, soon) && ended(false, true, LAST_WORDS + soon));
    }

    #[test]
    fn the_lost_are_told_from_the_failed_and_the_done() {
        let end = |exit| Some(ContainerEnd { exit, at: 0, out_of_memory: false, message: None });
        let (done, code, signal) = (Exit::Code(0), Exit::Code(1), Exit::Signal(9));
        for (started, end, asked, failed, lost) in [
            (false, None, false, false, false),
            (false, end(signal), true, false, false),
            (true, None, false, false, true),
            (true, end(done), true, false, false),
            (true, end(done), false, false, false),
            (true, end(code), false, true, false),
            (true, end(code), true, false, true),
            (true, end(signal), true, false, true),
        ] {
            let seen = Seen { started: started.then(Instant::now), end, asked, ..Seen::default() };
            assert_eq!((seen.failed(), seen.was_lost()), (failed, lost), "{seen:?}");
        }
    }
}
