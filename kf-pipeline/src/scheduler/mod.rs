//! The scheduler: a pure state machine that decides what runs when.
//!
//! [`Scheduler::step`] takes the time and an event and gives commands; it has no clock, does no I/O and knows no
//! executor. It alone knows triggers, loops, retries, exit handlers and caching. Whoever drives it writes the
//! records of a step durably before carrying out the step's other commands.
//!
//! A task of a DAG becomes a *leaf* where an executor carries it out, a *frame* where it is a DAG itself, and a
//! loop of either where it has an iterator. Iterations come into being only when there is room to run them, so
//! that a loop over 100,000 items costs what its running iterations cost.

mod activate;
mod approval;
mod attempt;
mod cancel;
mod end;
mod frame;
mod inputs;
mod leaf;
mod record;
mod rerun;
#[cfg(test)]
mod tests;
mod values;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use kf_core::Timestamp;
use kf_core::metadata::RunState;

pub use approval::Decision;
pub(crate) use frame::{Frame, FrameId};
use leaf::Leaf;
pub(crate) use leaf::{Failure, FailureKind, Launch, LeafId, Outcome};
pub use record::TaskState;
pub(crate) use record::{JournalEvent, Past, Record, TaskEnd, read_journal};
pub(crate) use rerun::{Kept, keep};
pub(crate) use values::Values;

use crate::placeholder::RunNames;
use crate::plan::Plan;
use activate::Begun;

use leaf::Stage;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// An attempt ended.
    Ended { leaf: LeafId, outcome: Outcome, started_at: Timestamp, ended_at: Timestamp },
    /// The cache was asked; the outputs of an earlier execution, or none.
    Cached { leaf: LeafId, hit: Option<Values>, key: Option<kf_core::Digest> },
    /// Time went on.
    Tick,
    /// Somebody wants the run to end. Exit handlers still run; asked twice, they end too.
    Cancel { reason: String },
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write this down before anything else of the step.
    Record(Record),
    /// Ask the cache, and answer with [`Event::Cached`].
    Lookup(Box<Launch>),
    /// Start an attempt, and answer with [`Event::Ended`].
    Launch(Box<Launch>),
    /// End an attempt.
    Cancel(LeafId),
    /// The run has ended.
    Finished { state: RunState, error: Option<String> },
}

/// What limits a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many leaves are under way at once.
    pub(crate) in_flight: usize,
    /// Whether tasks may be taken from the cache.
    pub(crate) cache: bool,
    /// How many attempts of a task may be lost by no fault of its own before it has failed.
    pub(crate) lost: u32,
}

/// A task of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) frame: FrameId,
    pub(crate) task: usize,
    /// The iteration, where the task is a loop.
    pub(crate) iteration: Option<usize>,
}

/// How a task, an iteration or a frame ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) state: TaskState,
    pub(crate) outputs: Arc<Values>,
    pub(crate) error: Option<Arc<str>>,
}

impl End {
    fn without_outputs(state: TaskState, error: Option<Arc<str>>) -> Self {
        Self { state, outputs: Values::none(), error }
    }
}

enum Todo {
    /// Activate the tasks of a frame that wait for none.
    BeginFrame(FrameId),
    Activate(FrameId, usize),
    End(Place, End),
    CloseFrame(FrameId),
}

/// The state of one run.
pub(crate) struct Scheduler {
    plan: Arc<Plan>,
    names: Arc<RunNames>,
    limits: Limits,
    past: Past,
    frames: HashMap<FrameId, Frame>,
    /// Boxed, since there are many at once where a DAG is wide, and a table has room for twice as many.
    leaves: HashMap<LeafId, Box<Leaf>>,
    next_id: u64,
    todo: VecDeque<Todo>,
    ready: VecDeque<LeafId>,
    /// Loops that have iterations left to begin and are not full.
    loops: VecDeque<(FrameId, usize)>,
    timers: BinaryHeap<Reverse<(Timestamp, LeafId)>>,
    in_flight: usize,
    canceled: u32,
    cancel_reason: Option<String>,
    /// Leaves that wait for a person.
    asked: BTreeMap<Arc<str>, LeafId>,
    commands: Vec<Command>,
    first_error: Option<String>,
    finished: bool,
    now: Timestamp,
}

impl Scheduler {
    /// A run of `plan`, of which `past` has already happened, and its first commands.
    pub(crate) fn start(
        plan: Arc<Plan>,
        names: Arc<RunNames>,
        args: Values,
        past: Past,
        limits: Limits,
        now: Timestamp,
    ) -> (Self, Vec<Command>) {
        let mut past = past;
        past.find_begun();
        let most = plan.max_tasks.map_or(usize::MAX, |tasks| tasks as usize);
        let told = past.no_cache;
        let limits =
            Limits { in_flight: limits.in_flight.min(most).max(1), cache: limits.cache && !told, ..limits };
        let mut scheduler = Self {
            limits,
            canceled: past.cancels,
            cancel_reason: past.canceled.clone(),
            past,
            frames: HashMap::new(),
            leaves: HashMap::new(),
            next_id: 0,
            todo: VecDeque::new(),
            ready: VecDeque::new(),
            loops: VecDeque::new(),
            timers: BinaryHeap::new(),
            in_flight: 0,
            asked: BTreeMap::new(),
            commands: Vec::new(),
            first_error: None,
            finished: false,
            now,
            names,
            plan,
        };
        if !limits.cache && !told {
            scheduler.record(Record::NoCache);
        }
        let root = scheduler.plan.root;
        scheduler.open_frame(root, None, "".into(), Arc::new(args), false);
        scheduler.settle();
        let commands = std::mem::take(&mut scheduler.commands);
        (scheduler, commands)
    }

    /// Takes in what happened and says what to do.
    pub(crate) fn step(&mut self, now: Timestamp, event: Event) -> Vec<Command> {
        self.now = now;
        match event {
            Event::Ended { leaf, outcome, started_at, ended_at } => {
                self.attempt_ended(leaf, outcome, started_at, ended_at);
            }
            Event::Cached { leaf, hit, key } => self.cache_answered(leaf, hit, key),
            Event::Tick => {}
            Event::Cancel { reason } => self.cancel(reason),
        }
        self.settle();
        std::mem::take(&mut self.commands)
    }

    /// Takes in what a person decides and says what to do.
    ///
    /// # Errors
    /// Says why that can't be decided, or not so; nothing has changed then.
    pub(crate) fn decided(
        &mut self,
        now: Timestamp,
        task: &str,
        decision: &Decision,
    ) -> Result<Vec<Command>, String> {
        self.now = now;
        self.decide(task, decision)?;
        self.settle();
        Ok(std::mem::take(&mut self.commands))
    }

    /// When [`Event::Tick`] is due next.
    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Starts nothing any more.
    pub(crate) fn pause(&mut self) {
        self.limits.in_flight = 0;
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Carries on until nothing is left that follows by itself.
    fn settle(&mut self) {
        while let Some(Reverse((at, leaf))) = self.timers.peek().copied() {
            if at > self.now {
                break;
            }
            self.timers.pop();
            match self.leaves.get(&leaf).map(|leaf| leaf.stage) {
                Some(Stage::Waiting) => self.make_ready(leaf),
                Some(Stage::Asked) => self.undecided(leaf),
                _ => {}
            }
        }
        loop {
            while let Some(todo) = self.todo.pop_front() {
                match todo {
                    Todo::BeginFrame(frame) => self.begin_frame(frame),
                    Todo::Activate(frame, task) => self.activate(frame, task),
                    Todo::End(place, end) => self.end(place, end),
                    Todo::CloseFrame(frame) => self.close_frame(frame),
                }
            }
            if !self.advance() {
                break;
            }
        }
    }

    /// Starts one thing that there is room for.
    fn advance(&mut self) -> bool {
        if self.in_flight >= self.limits.in_flight {
            return false;
        }
        if let Some(leaf) = self.ready.pop_front() {
            self.launch(leaf);
            return true;
        }
        while let Some((frame, task)) = self.loops.pop_front() {
            match self.next_iteration(frame, task) {
                Begun::More => {
                    self.loops.push_back((frame, task));
                    return true;
                }
                Begun::Last => return true,
                // It comes back when one of its iterations ends.
                Begun::Full => {}
            }
        }
        false
    }

    fn record(&mut self, record: Record) {
        self.commands.push(Command::Record(record));
    }
}
