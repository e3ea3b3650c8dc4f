//! What is known of each task and group of a run: how often it ran, how it ended.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kf_core::Timestamp;
use kf_core::metadata::RunState;

use super::tolerated;
use super::tree::{Dag, Item};
use crate::TaskState;
use crate::report::{Report, TaskReport};

/// All states, in the order in which they are counted and shown.
pub(in crate::report) const STATES: [TaskState; 7] = [
    TaskState::Succeeded,
    TaskState::Cached,
    TaskState::Failed,
    TaskState::Canceled,
    TaskState::Skipped,
    TaskState::Running,
    TaskState::Pending,
];

/// How many tasks are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::report) struct Counts([usize; STATES.len()]);

impl Counts {
    pub(in crate::report) fn add(&mut self, state: TaskState, count: usize) {
        if let Some(place) = STATES.iter().position(|known| *known == state) {
            self.0[place] += count;
        }
    }

    pub(in crate::report) fn of(&self, state: TaskState) -> usize {
        STATES.iter().position(|known| *known == state).map_or(0, |place| self.0[place])
    }

    pub(in crate::report) fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// The states that occur, with their counts.
    pub(in crate::report) fn present(&self) -> impl Iterator<Item = (TaskState, usize)> + '_ {
        STATES.iter().zip(self.0).filter(|(_, count)| *count > 0).map(|(state, count)| (*state, count))
    }

    /// The one state that stands for all: the worst, and of good ones the one that did something.
    pub(in crate::report) fn overall(&self) -> TaskState {
        const ORDER: [TaskState; 7] = [
            TaskState::Failed,
            TaskState::Running,
            TaskState::Canceled,
            TaskState::Succeeded,
            TaskState::Cached,
            TaskState::Skipped,
            TaskState::Pending,
        ];
        ORDER.into_iter().find(|state| self.of(*state) > 0).unwrap_or(TaskState::Pending)
    }
}

/// A run's reports, found by path.
pub(in crate::report) struct Facts<'r> {
    pub(in crate::report) report: &'r Report,
    by_path: HashMap<&'r str, usize>,
    /// By path without the numbers of iterations.
    by_place: HashMap<String, Vec<usize>>,
    /// The iterations that were seen, by the loop's path, each with how the tasks inside stand.
    iterations: HashMap<&'r str, BTreeMap<usize, Counts>>,
    /// The paths of a loop in the iterations of those around it, by path without their numbers.
    loops: HashMap<String, Vec<&'r str>>,
    /// Failures that something makes up for, each with what.
    tolerated: HashMap<usize, String>,
    /// When the first task started.
    pub(in crate::report) start: Timestamp,
}

impl<'r> Facts<'r> {
    pub(in crate::report) fn of(report: &'r Report, root: &Dag) -> Self {
        let mut by_place: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_path = HashMap::new();
        let mut iterations: HashMap<&str, BTreeMap<usize, Counts>> = HashMap::new();
        for (index, task) in report.tasks.iter().enumerate() {
            by_path.insert(task.path.as_str(), index);
            let place = place(&task.path, |path, number| {
                // A group is as the tasks inside of it are.
                let inside = iterations.entry(path).or_default().entry(number).or_default();
                if task.attempts > 0 || task.state != TaskState::Succeeded {
                    inside.add(task.state, 1);
                }
            });
            by_place.entry(place).or_default().push(index);
        }
        let mut loops: HashMap<String, Vec<&str>> = HashMap::new();
        for path in iterations.keys() {
            loops.entry(place_of(path)).or_default().push(path);
        }
        let begun = report.run.created_at;
        let starts = report.tasks.iter().filter(|task| task.ended_at >= begun);
        let start = starts.filter_map(|task| task.started_at).min();
        let start = start.unwrap_or(report.run.created_at);
        let tolerated = HashMap::new();
        let mut facts = Self { report, by_path, by_place, iterations, loops, tolerated, start };
        facts.tolerated = tolerated::find(root, &facts);
        facts
    }

    /// What makes up for the failure of a task, where it has failed and something does.
    pub(in crate::report) fn tolerated(&self, index: usize) -> Option<&str> {
        self.tolerated.get(&index).map(String::as_str)
    }

    /// Whether all failures of a task are made up for.
    pub(in crate::report) fn all_tolerated(&self, item: &Item) -> bool {
        let mut failed = self.all(item).iter().filter(|index| self.task(**index).state == TaskState::Failed);
        let any = failed.clone().next().is_some();
        any && failed.all(|index| self.tolerated(*index).is_some())
    }

    pub(in crate::report) fn index(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    pub(in crate::report) fn task(&self, index: usize) -> &'r TaskReport {
        &self.report.tasks[index]
    }

    /// The iterations of the loop at this path that are known.
    pub(in crate::report) fn iterations(&self, path: &str) -> impl Iterator<Item = usize> + '_ {
        self.iterations.get(path).into_iter().flat_map(|numbers| numbers.keys().copied())
    }

    /// How an iteration of the loop at this path stands.
    pub(in crate::report) fn iteration(&self, item: &Item, path: &str, number: usize) -> TaskState {
        if let Some(index) = self.index(&format!("{path}[{number}]")) {
            return self.task(index).state;
        }
        let inside = self.iterations.get(path).and_then(|numbers| numbers.get(&number));
        let inside = inside.copied().unwrap_or_default();
        let goes_on = !self.report.run.state.is_terminal() && self.index(path).is_none();
        match inside.overall() {
            TaskState::Succeeded | TaskState::Cached if goes_on && inside.total() < item.leaves() => {
                TaskState::Running
            }
            // All of it did nothing, and went well.
            TaskState::Pending => TaskState::Succeeded,
            state => state,
        }
    }

    /// The reports of a task, over all iterations around it.
    pub(in crate::report) fn all(&self, item: &Item) -> &[usize] {
        self.by_place.get(&item.path).map_or(&[], Vec::as_slice)
    }

    /// How a task that is no group stands; `around` is what became of a group around it that did not run.
    pub(in crate::report) fn leaf(&self, item: &Item, ready: bool, around: Option<TaskState>) -> Counts {
        let mut counts = Counts::default();
        for index in self.all(item) {
            let task = self.task(*index);
            // A loop over a single task reports the loop as well.
            if !item.is_loop || task.path.ends_with(']') || task.attempts > 0 {
                counts.add(task.state, 1);
            }
        }
        if counts.total() == 0 {
            let ended = self.all(item).first().map(|index| self.task(*index).state);
            counts.add(ended.or(around).unwrap_or_else(|| self.unreported(item, ready)), 1);
        }
        counts
    }

    fn unreported(&self, item: &Item, ready: bool) -> TaskState {
        let running = !self.report.run.state.is_terminal();
        if running && (ready || item.is_report) { TaskState::Running } else { TaskState::Pending }
    }

    /// How the iterations of a loop stand, or how often a group outside of loops did.
    pub(in crate::report) fn group(&self, item: &Item) -> Counts {
        let mut counts = Counts::default();
        if item.is_loop {
            for path in self.loops.get(&item.path).into_iter().flatten() {
                self.iterations(path).for_each(|number| counts.add(self.iteration(item, path, number), 1));
            }
        } else {
            self.all(item).iter().for_each(|index| counts.add(self.task(*index).state, 1));
        }
        counts
    }

    /// What became of a group that did not run, and so of the tasks inside.
    pub(in crate::report) fn not_run(&self, item: &Item) -> Option<TaskState> {
        let states = || self.all(item).iter().map(|index| self.task(*index).state);
        let lost = |state| matches!(state, TaskState::Skipped | TaskState::Canceled);
        if states().all(lost) { states().next() } else { None }
    }

    /// Whether everything in front of each task of a DAG has ended, so that it can be under way.
    pub(in crate::report) fn ready(&self, dag: &Dag, ready: bool) -> Vec<bool> {
        let mut out = vec![ready; dag.items.len()];
        for edge in &dag.edges {
            out[edge.to] &= !self.all(&dag.items[edge.from]).is_empty();
        }
        out
    }

    /// How the run stands. While only the tasks that make this report are under way, what the others came to.
    pub(in crate::report) fn outcome(&self, root: &Dag) -> RunState {
        let state = self.report.run.state;
        if state.is_terminal() || self.report.tasks.is_empty() {
            return state;
        }
        let mut counts = Counts::default();
        for item in root.items.iter().filter(|item| !item.is_report) {
            let Some(index) = self.index(&item.path) else { return state };
            counts.add(self.task(index).state, 1);
        }
        if counts.total() == root.items.len() {
            return state;
        }
        match counts.overall() {
            TaskState::Failed => RunState::Failed,
            TaskState::Canceled => RunState::Canceled,
            TaskState::Running | TaskState::Pending => state,
            _ => RunState::Succeeded,
        }
    }

    /// How long a task took; none where it did not run.
    pub(in crate::report) fn took(&self, index: usize) -> Option<Duration> {
        self.span(index).map(|span| span.end.since(span.start))
    }
}

/// A path without the numbers of iterations.
pub(super) fn place_of(path: &str) -> String {
    place(path, |_, _| {})
}

/// `a/loop[3]/b` as `a/loop/b`; the iterations on the way are told, each with its loop's path.
fn place<'r>(path: &'r str, mut iteration: impl FnMut(&'r str, usize)) -> String {
    let mut out = String::with_capacity(path.len());
    let mut start = 0;
    for part in path.split('/') {
        if start > 0 {
            out.push('/');
        }
        let end = start + part.len();
        match part.strip_suffix(']').and_then(|part| part.rsplit_once('[')) {
            Some((name, number)) if number.parse::<usize>().is_ok() => {
                out.push_str(name);
                if let Ok(number) = number.parse() {
                    iteration(&path[..start + name.len()], number);
                }
            }
            _ => out.push_str(part),
        }
        start = end + 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterations_are_found_in_paths() {
        let mut iterations = Vec::new();
        let mut place = |path| place(path, |path, number| iterations.push((path, number)));
        assert_eq!(place("all/for[2]/in[10]/fit"), "all/for/in/fit");
        assert_eq!(place("all/for[0]/odd[x]"), "all/for/odd[x]");
        assert_eq!(iterations, [("all/for", 2), ("all/for[2]/in", 10), ("all/for", 0)]);
    }
}
