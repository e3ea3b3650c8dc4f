//! The outside witness: an append-only file with a line per event. What is in it was there before the kill.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Where a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Phase {
    BeforeCommit,
    DuringCommit,
    AfterCommit,
    InTask,
    BetweenAttempts,
    InExitHandler,
}

/// Kill when `phase` is reached for the `nth` time, and `delay` microseconds have gone by.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Kill {
    pub(crate) phase: Phase,
    pub(crate) nth: u32,
    pub(crate) delay: u64,
}

/// What an engine's process writes its witness with.
#[derive(Clone, Debug)]
pub(crate) struct Witness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    kill: Option<Kill>,
    reached: AtomicU32,
}

impl Witness {
    pub(crate) fn open(path: &Path, kill: Option<Kill>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self(Arc::new(Inner { file, kill, reached: AtomicU32::new(0) })))
    }

    /// Writes a line.
    pub(crate) fn note(&self, word: &str, task: &str, key: &str, attempt: u32) -> io::Result<()> {
        (&self.0.file).write_all(format!("{word} {task} {key} {attempt}\n").as_bytes())
    }

    /// Says that a phase is reached, which may be the end.
    pub(crate) fn reached(&self, phase: Phase) {
        let Some(kill) = self.0.kill.filter(|kill| kill.phase == phase) else { return };
        if self.0.reached.fetch_add(1, Ordering::SeqCst) + 1 != kill.nth {
            return;
        }
        if kill.delay == 0 {
            die();
        }
        let at = Instant::now() + Duration::from_micros(kill.delay);
        std::thread::spawn(move || {
            while Instant::now() < at {
                std::hint::spin_loop();
            }
            die();
        });
    }
}

/// Kills this process with -9.
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// A line of a witness.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) word: String,
    pub(crate) task: String,
    pub(crate) key: String,
    pub(crate) attempt: u32,
}

/// The lines of a witness after the first `skip`.
pub(crate) fn read(path: &Path, skip: usize) -> io::Result<Vec<Line>> {
    let text = std::fs::read_to_string(path)?;
    let line = |line: &str| {
        let mut parts = line.split(' ').map(str::to_owned);
        let mut next = || parts.next().ok_or_else(|| io::Error::other(format!("a torn line: {line}")));
        let (word, task, key) = (next()?, next()?, next()?);
        Ok(Line { word, task, key, attempt: next()?.parse().map_err(io::Error::other)? })
    };
    text.lines().skip(skip).map(line).collect()
}

/// The phases that a process was in when it was killed, told from its lines and from what is committed.
pub(crate) fn phases(lines: &[Line], committed: &BTreeSet<String>, exit: &str) -> BTreeSet<Phase> {
    let count = |word: &str| lines.iter().filter(|line| line.word == word).count();
    let mut open: BTreeMap<&str, u32> = BTreeMap::new();
    let mut waits = false;
    for line in lines {
        match line.word.as_str() {
            "start" => {
                open.insert(&line.task, line.attempt);
                waits = false;
            }
            "end" => {
                open.remove(line.task.as_str());
            }
            "retry" => waits = true,
            _ => {}
        }
    }
    let mut phases = BTreeSet::new();
    let ended = |line: &Line| line.word == "end" && !committed.contains(&line.task);
    if count("commit") > count("committed") {
        phases.insert(Phase::DuringCommit);
    } else if lines.last().is_some_and(|line| line.word == "committed") {
        phases.insert(Phase::AfterCommit);
    } else if lines.iter().any(ended) {
        phases.insert(Phase::BeforeCommit);
    }
    if waits {
        phases.insert(Phase::BetweenAttempts);
    }
    if open.contains_key(exit) {
        phases.insert(Phase::InExitHandler);
    } else if !open.is_empty() {
        phases.insert(Phase::InTask);
    }
    phases
}
