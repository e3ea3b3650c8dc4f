//! When the engines of a run are killed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::phase::{Phase, name};
use super::witness::Kill;

/// How an engine dies: by its own hand in a phase, or by ours some time after it has begun.
#[derive(Clone, Copy, Debug)]
pub(super) enum Death {
    In(Kill),
    After(Duration),
}

/// Phases that a run has over and over. A commit is over in less time than a thread needs to begin, so most deaths that are
/// to be during one come after it.
const ANY_TIME: [Phase; 6] = [
    Phase::BeforeCommit,
    Phase::DuringCommit,
    Phase::DuringCommit,
    Phase::DuringCommit,
    Phase::AfterCommit,
    Phase::InTask,
];
/// Other phases about in the order in which they come, and the tasks that have them.
const IN_ORDER: [(Phase, &[&str]); 8] = [
    (Phase::BetweenItems, &["long"]),
    (Phase::InSubprocess, &["long-apart", "alone-apart", "hopeless-apart"]),
    (Phase::InCleanUp, &["clean-up"]),
    (Phase::HoldingMutex, &["alone"]),
    (Phase::BetweenAttempts, &["stubborn", "hopeless-apart"]),
    (Phase::Asked, &["approval", "value"]),
    (Phase::Deciding, &["approval", "value"]),
    (Phase::InExitHandler, &["bye"]),
];
/// How many tasks there are of the names of which there are several.
const SEVERAL: [(&str, usize); 3] = [("alone", 3), ("alone-apart", 3), ("value", 2)];

/// Plans deaths.
pub(super) struct Planner {
    pub(super) random: Random,
    /// How many of the phases that are still to come are looked at: few make for many deaths in a run.
    pub(super) ahead: usize,
    /// How many engines die in a run at most.
    pub(super) most: usize,
    /// How many microseconds a commit takes.
    pub(super) commit: u64,
}

impl Planner {
    /// The death of the next engine, in a phase that can still come; none where it is to carry the run to its end.
    pub(super) fn next(&mut self, deaths: usize, ends: &BTreeMap<String, usize>) -> Option<Death> {
        let over = |task: &str| {
            let all = SEVERAL.iter().find(|(name, _)| *name == task).map_or(1, |(_, count)| *count);
            ends.keys().filter(|end| name(end) == task).count() >= all
        };
        let mut left: Vec<Phase> = IN_ORDER
            .iter()
            .filter(|(_, tasks)| !tasks.iter().all(|task| over(task)))
            .map(|(phase, _)| *phase)
            .collect();
        let random = &mut self.random;
        if deaths >= self.most || (left.len() < 2 && random.below(2) == 0) {
            return None;
        }
        if deaths == 0 || random.below(12) == 0 {
            return Some(Death::After(Duration::from_millis(20 + random.below(250))));
        }
        left.truncate(self.ahead);
        let from = if left.is_empty() || random.below(5) < 2 { ANY_TIME.as_slice() } else { left.as_slice() };
        let phase = from[random.below(from.len() as u64) as usize];
        Some(Death::In(self.kill(phase)))
    }

    fn kill(&mut self, phase: Phase) -> Kill {
        let random = &mut self.random;
        let nth = match phase {
            Phase::BeforeCommit | Phase::DuringCommit | Phase::AfterCommit | Phase::InTask => {
                1 + random.below(4)
            }
            Phase::BetweenItems | Phase::InSubprocess => 1 + random.below(2),
            _ => 1,
        };
        let delay = match phase {
            Phase::BeforeCommit | Phase::AfterCommit => 0,
            Phase::DuringCommit | Phase::Deciding => 1 + random.below(self.commit),
            Phase::InTask | Phase::HoldingMutex | Phase::InCleanUp | Phase::InExitHandler => {
                random.below(7_000)
            }
            Phase::BetweenItems => random.below(3_000),
            Phase::Asked => random.below(5_000),
            Phase::BetweenAttempts => random.below(50_000),
            Phase::InSubprocess => random.below(80_000),
        };
        Kill { phase, nth: nth as u32, delay }
    }
}

/// Numbers that look random (xorshift64).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
