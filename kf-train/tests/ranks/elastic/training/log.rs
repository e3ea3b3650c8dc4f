//! What ranks say of each step, in a file that they all append to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const NAME: &str = "log.jsonl";

/// A state of a training: which start of a rank it descends from, the round of its last step, and how many steps made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) life: u64,
    pub(crate) round: u64,
    pub(crate) step: u64,
}

/// A line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Record {
    /// A rank has started, from a checkpoint or from nothing.
    Begun { life: u64, from: Option<Point> },
    /// A rank is about to do its part of a step.
    Samples { life: u64, round: u64, step: u64, rank: usize, world_size: usize, samples: Vec<i64> },
    /// A rank takes over a step that all have done.
    Done(Done),
    /// A checkpoint was not saved, and the training goes on.
    NotSaved { step: u64, error: String },
}

/// A step that a rank has taken over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) life: u64,
    pub(crate) round: u64,
    pub(crate) step: u64,
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    pub(crate) node: usize,
    pub(crate) pid: u32,
    /// Milliseconds since 1970.
    pub(crate) at: f64,
}

impl Done {
    /// Which ranks did it together.
    pub(crate) fn group(&self) -> (u64, u64) {
        (self.life, self.round)
    }
}

pub(super) struct Writer(File);

impl Writer {
    pub(super) fn new(folder: &Path) -> Self {
        Self(File::options().append(true).create(true).open(folder.join(NAME)).unwrap())
    }

    /// A whole line at once, which a kill does not tear.
    pub(super) fn write(&self, record: &Record) {
        (&self.0).write_all(format!("{}\n", serde_json::json!(record)).as_bytes()).unwrap();
    }
}

/// A step that was tried: life, round, and number.
pub(super) type Try = (u64, u64, u64);

/// The log as far as it was read.
pub(crate) struct Log {
    path: PathBuf,
    offset: u64,
    part: Vec<u8>,
    pub(super) begun: HashMap<u64, Option<Point>>,
    /// The ranks' samples of each try, and how many ranks there were.
    pub(super) samples: HashMap<Try, (usize, BTreeMap<usize, Vec<i64>>)>,
    /// The first step that was tried in a life and a round.
    pub(super) first: HashMap<(u64, u64), u64>,
    /// The rounds in which a step of a life was taken over by some rank.
    pub(super) rounds: HashMap<(u64, u64), BTreeSet<u64>>,
    pub(crate) done: Vec<Done>,
    pub(crate) not_saved: Vec<(u64, String)>,
}

impl Log {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(NAME),
            offset: 0,
            part: Vec::new(),
            begun: HashMap::new(),
            samples: HashMap::new(),
            first: HashMap::new(),
            rounds: HashMap::new(),
            done: Vec::new(),
            not_saved: Vec::new(),
        }
    }

    /// Reads what was added.
    pub(crate) fn read(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        self.offset += file.read_to_end(&mut self.part).unwrap() as u64;
        let whole = self.part.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.part.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.add(serde_json::from_slice(line).unwrap());
        }
    }

    fn add(&mut self, record: Record) {
        match record {
            Record::Begun { life, from } => {
                assert!(self.begun.insert(life, from).is_none(), "two ranks began as {life}");
            }
            Record::Samples { life, round, step, rank, world_size, samples } => {
                let tried = (life, round, step);
                let (size, all) = self.samples.entry(tried).or_insert((world_size, BTreeMap::new()));
                assert_eq!(*size, world_size, "{tried:?} had two worlds");
                assert!(all.insert(rank, samples).is_none(), "{tried:?} had two ranks {rank}");
                let first = self.first.entry((life, round)).or_insert(step);
                *first = step.min(*first);
            }
            Record::Done(done) => {
                self.rounds.entry((done.life, done.step)).or_default().insert(done.round);
                self.done.push(done);
            }
            Record::NotSaved { step, error } => self.not_saved.push((step, error)),
        }
    }

    /// What a start of a rank goes on from; none for the very beginning.
    pub(crate) fn began_from(&self, life: u64) -> Option<Point> {
        self.begun.get(&life).copied().flatten()
    }

    /// The last step that all ranks of a world of this size have taken over, of those after the first `after` lines;
    /// where another world has made a later one, nothing.
    pub(super) fn last_step(&self, after: usize, size: usize) -> Vec<Done> {
        let Some(last) = self.done.last().filter(|last| last.world_size == size) else { return Vec::new() };
        for step in [last.step, last.step.saturating_sub(1)] {
            let of_step = |done: &&Done| done.group() == last.group() && done.step == step;
            let mut all: Vec<_> =
                self.done[after..].iter().rev().take(4 * size).filter(of_step).cloned().collect();
            all.sort_by_key(|done| done.rank);
            if all.len() == size {
                return all;
            }
        }
        Vec::new()
    }
}
