//! The processes of a fleet, by a variable that all of them inherit.

use std::path::Path;

/// The variable with the fleet's folder.
pub(crate) const FLEET: &str = "KF_TEST_FLEET";

/// A process that an agent has started, or an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    parent: u32,
    is_rank: bool,
}

/// All that run. One that is about to end may be among them.
pub(crate) fn of_fleet(folder: &Path) -> Vec<Process> {
    let mark = format!("{FLEET}={}", folder.display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let has = |wanted: &dyn Fn(&[u8]) -> bool| environment.split(|byte| *byte == 0).any(wanted);
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace();
            let ended = rest.next().is_some_and(|state| matches!(state, "Z" | "X"));
            let parent = rest.next()?.parse().ok()?;
            let is_rank = has(&|variable| variable.starts_with(b"RANK="));
            (has(&|variable| variable == mark.as_bytes()) && !ended).then_some(Process {
                pid,
                parent,
                is_rank,
            })
        })
        .collect()
}

/// Why these are not just the agents and so many ranks of each, if they are not.
pub(crate) fn surplus(all: &[Process], agents: &[u32], ranks: usize) -> Option<String> {
    let of_agent = |process: &&Process| agents.contains(&process.pid) || agents.contains(&process.parent);
    let strays: Vec<_> = all.iter().filter(|process| !of_agent(process)).collect();
    let found = all.iter().filter(|process| process.is_rank).count();
    let (agents, expected) = (agents.len(), agents.len() * ranks);
    (!strays.is_empty() || found != expected)
        .then(|| format!("{found} ranks of {expected} under {agents} agents, and {strays:?}"))
}
