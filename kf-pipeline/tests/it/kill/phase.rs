//! Where in its work an engine is killed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::witness::Line;

/// What an engine is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// A task has ended, and that is not committed.
    BeforeCommit,
    DuringCommit,
    AfterCommit,
    InTask,
    InSubprocess,
    /// In a long task some of whose items are done.
    BetweenItems,
    HoldingMutex,
    BetweenAttempts,
    /// A person was asked.
    Asked,
    /// A person has decided and was not told that it is committed.
    Deciding,
    /// In the task after a group.
    InCleanUp,
    /// In the task after all.
    InExitHandler,
}

pub(crate) const PHASES: [Phase; 12] = [
    Phase::BeforeCommit,
    Phase::DuringCommit,
    Phase::AfterCommit,
    Phase::InTask,
    Phase::InSubprocess,
    Phase::BetweenItems,
    Phase::HoldingMutex,
    Phase::BetweenAttempts,
    Phase::Asked,
    Phase::Deciding,
    Phase::InCleanUp,
    Phase::InExitHandler,
];

/// A task's own name, without what it lies in.
pub(crate) fn name(task: &str) -> &str {
    task.rsplit('/').next().unwrap_or(task)
}

/// Whether a task runs in a process of its own, which its name says.
pub(crate) fn is_apart(task: &str) -> bool {
    name(task).ends_with("-apart")
}

/// The phase of whoever is in this task.
pub(crate) fn in_task(task: &str) -> Phase {
    match name(task) {
        "bye" => Phase::InExitHandler,
        "clean-up" => Phase::InCleanUp,
        _ if is_apart(task) => Phase::InSubprocess,
        _ => Phase::InTask,
    }
}

/// The phases that an engine was in when it was killed, told from its lines and from what is committed.
pub(crate) fn phases(lines: &[Line], committed: &BTreeSet<String>) -> BTreeSet<Phase> {
    let mut phases = BTreeSet::new();
    let (mut begun, mut unanswered) = (0, 0);
    // Attempts under way, and of each how many items it has saved and how many files it holds.
    let mut open: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let (mut waits, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for line in lines {
        let task = line.task.as_str();
        match line.word.as_str() {
            "commit" => begun += 1,
            "committed" => begun -= 1,
            "start" => {
                open.insert(task, (0, 0));
                waits.remove(task);
            }
            "end" => {
                open.remove(task);
            }
            "retry" => {
                waits.insert(task);
            }
            "saved" => open.entry(task).or_default().0 += 1,
            "hold" => open.entry(task).or_default().1 += 1,
            "free" => open.entry(task).or_default().1 -= 1,
            "asked" => {
                asked.insert(task);
            }
            "decide" => unanswered += 1,
            "decided" => unanswered -= 1,
            _ => {}
        }
    }
    let ended = |line: &Line| line.word == "end" && !committed.contains(&line.task);
    if begun > 0 {
        phases.insert(Phase::DuringCommit);
    } else if lines.last().is_some_and(|line| line.word == "committed") {
        phases.insert(Phase::AfterCommit);
    } else if lines.iter().any(ended) {
        phases.insert(Phase::BeforeCommit);
    }
    for (task, (saved, held)) in open {
        phases.insert(in_task(task));
        phases.extend((saved > 0).then_some(Phase::BetweenItems));
        phases.extend((held > 0).then_some(Phase::HoldingMutex));
    }
    phases.extend((!waits.is_empty()).then_some(Phase::BetweenAttempts));
    phases.extend(asked.iter().any(|task| !committed.contains(*task)).then_some(Phase::Asked));
    phases.extend((unanswered > 0).then_some(Phase::Deciding));
    phases
}
