//! A world around the scheduler: a journal, an executor whose attempts end as a hash says, and a clock.

use std::cmp::Reverse;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use kf_core::Timestamp;
use kf_core::metadata::RunState;
use serde_json::{Value as Json, json};

use super::super::leaf::Failure;
use super::super::{
    Command, Event, JournalEvent, Launch, LeafId, Limits, Outcome, Past, Scheduler, TaskState, Values,
};
use crate::plan::Plan;
use crate::spec::{ComponentSpec, ParameterSource, PipelineFile, TriggerStrategy};

/// Why a check failed.
pub(super) type Check<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// A pipeline, and what decides how its attempts end.
pub(super) struct World {
    pub(super) file: PipelineFile,
    pub(super) plan: Arc<Plan>,
    pub(super) seed: u64,
    pub(super) in_flight: usize,
}

/// What interrupts an engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// Dies when this many records have been written.
    pub(super) crash_after: Option<usize>,
    /// Stops starting things at this time, and ends when nothing is under way.
    pub(super) pause_at: Option<i64>,
    /// Is asked to cancel at these times.
    pub(super) cancels: VecDeque<i64>,
}

/// How a task ended, as the journal has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) state: TaskState,
    pub(super) outputs: Json,
    pub(super) leaf: bool,
}

/// What is durable.
#[derive(Default)]
pub(super) struct Journal {
    entries: Vec<String>,
    pub(super) ends: BTreeMap<String, Ended>,
    failed: HashMap<String, u32>,
    pub(super) cancels: u32,
}

impl Journal {
    fn add(&mut self, world: &World, event: &JournalEvent) -> Check {
        let text = serde_json::to_string(event).unwrap();
        let read: JournalEvent = serde_json::from_str(&text).unwrap();
        self.entries.push(text);
        match read {
            JournalEvent::Task { task, state, attempts, started_at, ended_at, outputs, .. } => {
                let failed = self.failed.get(task.as_ref()).copied().unwrap_or(0);
                let expected = if state == TaskState::Cached { failed } else { failed + 1 };
                ensure!(attempts == expected, "{task}: {attempts} attempts are told, {expected} were made");
                ensure!(started_at <= ended_at, "{task} ended before it started");
                if state == TaskState::Failed && self.cancels == 0 {
                    let spent = failed == world.retries(&task);
                    ensure!(
                        spent || world.fate(&task, attempts) == Fate::FailForGood,
                        "{task} was not retried"
                    );
                }
                self.ended(&task, Ended { state, outputs: json!(outputs.as_ref()), leaf: true })?;
            }
            JournalEvent::NoCache => {}
            JournalEvent::Rerun { .. } | JournalEvent::Kept | JournalEvent::Asked { .. } => {
                return Err("nothing was run before, and nobody is asked".into());
            }
            JournalEvent::AttemptFailed { task, attempt, .. } => {
                ensure!(!self.ends.contains_key(task.as_ref()), "an attempt of {task} after its end");
                let failed = self.failed.entry(task.to_string()).or_insert(0);
                *failed += 1;
                ensure!(*failed == attempt, "{task}: attempt {attempt} fails as the {failed}th");
                ensure!(attempt <= world.retries(&task), "{task} is tried too often");
            }
            JournalEvent::Group { task, state, .. } => {
                ensure!(state != TaskState::Cached && state.is_terminal(), "{task} is {state}");
                self.ended(&task, Ended { state, outputs: json!({}), leaf: false })?;
            }
            JournalEvent::CancelAsked { .. } => self.cancels += 1,
            JournalEvent::Outputs { .. } => {}
        }
        Ok(())
    }

    fn ended(&mut self, task: &str, ended: Ended) -> Check {
        let before = self.ends.insert(task.to_owned(), ended);
        ensure!(before.is_none(), "{task} ended twice: before as {before:?}, now as {:?}", self.ends[task]);
        Ok(())
    }

    fn past(&self) -> Past {
        let mut past = Past::default();
        for entry in &self.entries {
            past.add(serde_json::from_str(entry).unwrap());
        }
        past
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Succeed,
    Fail,
    FailForGood,
    /// Somebody outside ends it.
    Killed,
}

impl World {
    fn hash(&self, about: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, about).hash(&mut hasher);
        hasher.finish()
    }

    fn fate(&self, task: &str, attempt: u32) -> Fate {
        match self.hash(("fate", task, attempt)) % 40 {
            0 => Fate::Killed,
            1..=3 => Fate::FailForGood,
            4..=12 => Fate::Fail,
            _ => Fate::Succeed,
        }
    }

    fn duration(&self, about: impl Hash) -> i64 {
        i64::try_from(self.hash(about) % 40).unwrap()
    }

    /// Follows from path and inputs alone, so that a wrong input shows in everything after it.
    fn outputs(&self, launch: &Launch) -> Values {
        let out = self.hash(("out", launch.task.as_ref(), json!(launch.inputs.as_ref()).to_string())) % 100;
        Values::of_parameters([("out".into(), Arc::new(json!(out)))].into_iter())
    }

    fn outcome(&self, launch: &Launch) -> Outcome {
        match self.fate(&launch.task, launch.attempt) {
            Fate::Succeed => Outcome::Succeeded(self.outputs(launch)),
            Fate::Fail => Outcome::Failed(Failure::task("boom")),
            Fate::FailForGood => Outcome::Failed(Failure::task("boom").permanent()),
            Fate::Killed => Outcome::Canceled,
        }
    }

    /// The tasks that a path goes through, from the outermost in, each with the path up to it.
    fn steps(&self, path: &str) -> Vec<(String, &ComponentSpec, String)> {
        let spec = &self.file.pipeline_spec;
        let mut component = &spec.root;
        let mut prefix = String::new();
        let mut steps = Vec::new();
        for segment in path.split('/') {
            let name = segment.split('[').next().unwrap().to_owned();
            let task = &component.dag.as_ref().unwrap().tasks[&name];
            steps.push((prefix.clone(), component, name));
            component = &spec.components[&task.component_ref.name];
            prefix = if prefix.is_empty() { segment.to_owned() } else { format!("{prefix}/{segment}") };
        }
        steps
    }

    fn retries(&self, path: &str) -> u32 {
        let steps = self.steps(path);
        let (_, component, name) = steps.last().unwrap();
        let task = &component.dag.as_ref().unwrap().tasks[name];
        task.retry_policy.as_ref().map_or(0, |policy| policy.max_retry_count)
    }

    /// Whether the first cancellation leaves it alone.
    fn is_exempt(&self, path: &str) -> bool {
        self.steps(path).iter().any(|(_, component, name)| {
            let policy = component.dag.as_ref().unwrap().tasks[name].trigger_policy.as_ref();
            policy.and_then(|policy| policy.strategy) == Some(TriggerStrategy::AllUpstreamTasksCompleted)
        })
    }

    /// Everything that the task and the groups around it come after has ended, as they ask.
    fn check_order(&self, path: &str, journal: &Journal) -> Check {
        for (prefix, component, name) in self.steps(path) {
            let task = &component.dag.as_ref().unwrap().tasks[&name];
            let producers = task.inputs.parameters.values().filter_map(|given| match &given.source {
                ParameterSource::TaskOutputParameter { producer_task, .. }
                | ParameterSource::TaskFinalStatus { producer_task } => Some(producer_task),
                _ => None,
            });
            let strategy =
                task.trigger_policy.as_ref().and_then(|policy| policy.strategy).unwrap_or_default();
            for before in task.dependent_tasks.iter().chain(producers) {
                let before = if prefix.is_empty() { before.clone() } else { format!("{prefix}/{before}") };
                let end = journal.ends.get(&before);
                let end = end.ok_or_else(|| format!("{path} starts before the end of {before}"))?;
                let well = matches!(end.state, TaskState::Succeeded | TaskState::Cached);
                let any = strategy == TriggerStrategy::AllUpstreamTasksCompleted;
                ensure!(well || any, "{path} starts though {before} is {}", end.state);
            }
        }
        Ok(())
    }

    /// No loop has more iterations under way than its limit.
    fn check_limits<'a>(&self, path: &str, under_way: impl Iterator<Item = &'a str> + Clone) -> Check {
        for (prefix, component, name) in self.steps(path) {
            let task = &component.dag.as_ref().unwrap().tasks[&name];
            let limit = task.iterator_policy.as_ref().map_or(0, |policy| policy.parallelism_limit);
            let start = if prefix.is_empty() { format!("{name}[") } else { format!("{prefix}/{name}[") };
            if limit > 0 && task.parameter_iterator.is_some() {
                let iterations: BTreeSet<&str> = under_way
                    .clone()
                    .filter_map(|other| other.strip_prefix(start.as_str())?.split(']').next())
                    .collect();
                ensure!(
                    iterations.len() <= limit as usize,
                    "{start}…]: {iterations:?} at once, limit {limit}"
                );
            }
        }
        Ok(())
    }

    /// One engine's life: from what is in the journal to the run's end, or to its own.
    pub(super) fn live(
        &self,
        journal: &mut Journal,
        clock: &mut i64,
        script: Script,
    ) -> Check<Option<RunState>> {
        let limits = Limits { in_flight: self.in_flight, cache: true, lost: 2 };
        let past = journal.past();
        let (scheduler, commands) = Scheduler::start(
            Arc::clone(&self.plan),
            Arc::default(),
            Values::default(),
            past,
            limits,
            Timestamp::from_millis(*clock),
        );
        let engine = Engine {
            world: self,
            journal,
            scheduler,
            script,
            now: *clock,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            numbered: 0,
            under_way: HashMap::new(),
            looks_up: HashSet::new(),
            launched: HashSet::new(),
            records: 0,
            paused: false,
            finished: None,
        };
        engine.run(commands, clock)
    }
}

struct Engine<'a> {
    world: &'a World,
    journal: &'a mut Journal,
    scheduler: Scheduler,
    script: Script,
    now: i64,
    /// When an event comes, and its number.
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    events: HashMap<u64, (LeafId, Event)>,
    numbered: u64,
    under_way: HashMap<LeafId, Arc<str>>,
    /// Those for which the cache was asked last.
    looks_up: HashSet<LeafId>,
    launched: HashSet<(Arc<str>, u32)>,
    records: usize,
    paused: bool,
    finished: Option<RunState>,
}

impl Engine<'_> {
    fn run(mut self, first: Vec<Command>, clock: &mut i64) -> Check<Option<RunState>> {
        let mut commands = first;
        for _ in 0..20_000 {
            let alive = self.carry_out(commands)?;
            *clock = self.now;
            if !alive || (self.paused && self.under_way.is_empty()) {
                return Ok(None);
            }
            if let Some(state) = self.finished {
                ensure!(self.under_way.is_empty(), "finished while {:?} are under way", self.under_way);
                ensure!(self.scheduler.leaves.is_empty(), "finished with leaves");
                ensure!(self.scheduler.frames.is_empty(), "finished with frames");
                return Ok(Some(state));
            }
            let (at, event) = self.next()?;
            self.now = self.now.max(at);
            commands = match event {
                Some(event) => self.scheduler.step(Timestamp::from_millis(self.now), event),
                None => Vec::new(),
            };
        }
        Err("it never ends".to_owned())
    }

    /// What happens next; none where the engine itself pauses.
    fn next(&mut self) -> Check<(i64, Option<Event>)> {
        while let Some(Reverse((_, number))) = self.queue.peek() {
            // Of an attempt that is cancelled and that ends, the first to happen counts.
            if self.events.get(number).is_some_and(|(leaf, _)| self.under_way.contains_key(leaf)) {
                break;
            }
            self.queue.pop();
        }
        let event = self.queue.peek().map(|Reverse((at, _))| *at);
        let tick = self.scheduler.next_tick().filter(|_| !self.paused).map(Timestamp::as_millis);
        let pause = self.script.pause_at.filter(|_| !self.paused);
        let cancel = self.script.cancels.front().copied();
        let first = [event, tick, pause, cancel].into_iter().flatten().min();
        let first = first.ok_or("nothing is under way, and the run has not ended")?;
        if pause == Some(first) {
            self.paused = true;
            self.scheduler.pause();
            return Ok((first, None));
        }
        if cancel == Some(first) {
            self.script.cancels.pop_front();
            return Ok((first, Some(Event::Cancel { reason: "enough".to_owned() })));
        }
        if event == Some(first)
            && let Some((leaf, event)) =
                self.queue.pop().and_then(|Reverse((_, number))| self.events.remove(&number))
        {
            self.under_way.remove(&leaf);
            return Ok((first, Some(event)));
        }
        Ok((first, Some(Event::Tick)))
    }

    fn later(&mut self, after: i64, leaf: LeafId, event: Event) {
        self.numbered += 1;
        let number = self.numbered;
        self.events.insert(number, (leaf, event));
        self.queue.push(Reverse((self.now + after, number)));
    }

    /// Tells whether the engine lives on.
    fn carry_out(&mut self, commands: Vec<Command>) -> Check<bool> {
        for command in commands {
            ensure!(self.finished.is_none(), "{command:?} after the end");
            match command {
                Command::Record(record) => {
                    self.journal.add(self.world, &JournalEvent::of(&record, None))?;
                    self.records += 1;
                    if self.script.crash_after == Some(self.records) {
                        return Ok(false);
                    }
                }
                Command::Lookup(launch) => {
                    self.begins(&launch)?;
                    let hit = self.world.hash(("hit", launch.task.as_ref())).is_multiple_of(4);
                    let hit = hit.then(|| self.world.outputs(&launch));
                    let wait = self.world.duration(("lookup", launch.task.as_ref()));
                    let leaf = launch.leaf;
                    self.looks_up.insert(leaf);
                    self.later(wait, leaf, Event::Cached { leaf, hit, key: None });
                }
                Command::Launch(launch) => {
                    self.begins(&launch)?;
                    self.looks_up.remove(&launch.leaf);
                    let failed = self.journal.failed.get(launch.task.as_ref()).copied().unwrap_or(0);
                    ensure!(launch.attempt == failed + 1, "attempt {} of {}", launch.attempt, launch.task);
                    let fresh = self.launched.insert((Arc::clone(&launch.task), launch.attempt));
                    ensure!(fresh, "attempt {} of {} twice", launch.attempt, launch.task);
                    let wait = self.world.duration(("run", launch.task.as_ref(), launch.attempt));
                    self.ends(launch.leaf, wait, self.world.outcome(&launch));
                }
                Command::Cancel(leaf) => {
                    let task = self.under_way.get(&leaf).ok_or("cancels what is not under way")?;
                    // Some heed it at once, some late, some not at all.
                    if !self.world.hash(("heeds", task.as_ref())).is_multiple_of(3) {
                        let wait = self.world.duration(("heeds", task.as_ref())) / 2;
                        match self.looks_up.contains(&leaf) {
                            true => self.later(wait, leaf, Event::Cached { leaf, hit: None, key: None }),
                            false => self.ends(leaf, wait, Outcome::Canceled),
                        }
                    }
                }
                Command::Finished { state, error } => {
                    ensure!(
                        error.is_some() == (state != RunState::Succeeded),
                        "{state:?} with error {error:?}"
                    );
                    self.finished = Some(state);
                }
            }
        }
        Ok(true)
    }

    fn begins(&mut self, launch: &Launch) -> Check {
        let task = &launch.task;
        ensure!(!self.paused, "{task} starts in an engine that is paused");
        ensure!(!self.journal.ends.contains_key(task.as_ref()), "{task} starts, but has ended");
        ensure!(
            self.journal.cancels <= u32::from(self.world.is_exempt(task)),
            "{task} starts in a run that was cancelled {} times",
            self.journal.cancels
        );
        let before = self.under_way.insert(launch.leaf, Arc::clone(task));
        ensure!(before.is_none(), "{task} starts while it is under way");
        ensure!(self.under_way.len() <= self.world.in_flight, "{} are under way", self.under_way.len());
        self.world.check_order(task, self.journal)?;
        self.world.check_limits(task, self.under_way.values().map(AsRef::as_ref))
    }

    fn ends(&mut self, leaf: LeafId, wait: i64, outcome: Outcome) {
        let (started_at, ended_at) =
            (Timestamp::from_millis(self.now), Timestamp::from_millis(self.now + wait));
        self.later(wait, leaf, Event::Ended { leaf, outcome, started_at, ended_at });
    }
}
