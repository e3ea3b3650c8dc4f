//! The run as a list of rows: groups, loops and iterations with what is inside of them after them.

use std::collections::HashSet;

use kf_core::Timestamp;

use super::facts::{Counts, Facts};
use super::tree::{Dag, Item};
use crate::TaskState;
use crate::report::text::{clipped, value};

/// How many rows there are at most.
const ROWS: usize = 60_000;
/// Up to how many iterations a loop is unfolded, and up to how many its iterations are.
const UNFOLDED: usize = 8;
const ITERATIONS_UNFOLDED: usize = 3;

/// What a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Kind {
    Task,
    /// A pipeline in a pipeline.
    Group,
    /// Tasks that run only where a condition holds.
    Branch,
    Loop,
    Iteration,
}

/// One row.
#[derive(Debug)]
pub(in crate::report) struct Row {
    /// In how many rows it lies.
    pub(in crate::report) depth: usize,
    pub(in crate::report) kind: Kind,
    pub(in crate::report) name: String,
    /// The iteration that it is of, the condition, or the items.
    pub(in crate::report) note: String,
    pub(in crate::report) state: TaskState,
    /// Its task in the report.
    pub(in crate::report) task: Option<usize>,
    /// From the first start to the last end of what is inside.
    pub(in crate::report) span: Option<(Timestamp, Timestamp)>,
    /// Of a loop: how its iterations stand.
    pub(in crate::report) counts: Option<Counts>,
    /// Whether it, or something inside, is on the critical path.
    pub(in crate::report) critical: bool,
    pub(in crate::report) open: bool,
    /// Whether it has failed, and something makes up for that.
    pub(in crate::report) tolerated: bool,
    /// Whether it makes this very report.
    pub(in crate::report) is_report: bool,
}

/// The rows of a run.
#[derive(Debug, Default)]
pub(in crate::report) struct Rows {
    pub(in crate::report) rows: Vec<Row>,
    /// The tasks that have one.
    pub(in crate::report) listed: HashSet<usize>,
    /// How many tasks have none, since there are too many.
    pub(in crate::report) left_out: usize,
}

impl Rows {
    pub(in crate::report) fn of(root: &Dag, facts: &Facts<'_>, critical: &HashSet<usize>) -> Self {
        let mut list = List { facts, critical, rows: Rows::default() };
        list.dag(root, "", &Around { ready: true, not_run: None, depth: 0, label: String::new() });
        list.rows
    }
}

/// What a row lies in.
#[derive(Clone)]
struct Around {
    /// Whether everything before has ended.
    ready: bool,
    /// The state of a group that did not run.
    not_run: Option<TaskState>,
    depth: usize,
    /// The iteration, for rows that stand for one.
    label: String,
}

struct List<'a, 'r> {
    facts: &'a Facts<'r>,
    critical: &'a HashSet<usize>,
    rows: Rows,
}

impl List<'_, '_> {
    fn dag(&mut self, dag: &Dag, prefix: &str, around: &Around) {
        let ready = self.facts.ready(dag, around.ready);
        for (item, ready) in dag.items.iter().zip(ready) {
            if self.rows.rows.len() >= ROWS {
                self.rows.left_out += item.leaves();
                continue;
            }
            let path = if prefix.is_empty() { item.name.clone() } else { format!("{prefix}/{}", item.name) };
            let around = Around { ready, ..around.clone() };
            match &item.inside {
                _ if item.is_loop => self.each(item, &path, &around),
                Some(inside) => self.group(item, inside, &path, &around),
                None => self.task(item, &path, &around),
            }
        }
    }

    fn group(&mut self, item: &Item, inside: &Dag, path: &str, around: &Around) {
        let state = self.facts.index(path).map(|index| self.facts.task(index).state);
        let lost = state.filter(|state| matches!(state, TaskState::Skipped | TaskState::Canceled));
        let mut inner = Around { not_run: lost.or(around.not_run), ..around.clone() };
        // What an exit handler guards is the pipeline itself.
        if item.name.starts_with("exit-handler-") && item.condition.is_none() {
            return self.dag(inside, path, &inner);
        }
        inner.depth += 1;
        let condition = item.condition.as_deref();
        let at = self.begin(Row {
            kind: if condition.is_some() { Kind::Branch } else { Kind::Group },
            name: clipped(&item.name, 120),
            note: condition.map(|condition| clipped(condition, 240)).unwrap_or_default(),
            ..blank(around.depth)
        });
        self.dag(inside, path, &inner);
        self.end(at, state.or(around.not_run));
    }

    fn each(&mut self, item: &Item, path: &str, around: &Around) {
        let numbers: Vec<usize> = self.facts.iterations(path).collect();
        let state_of = |path: &str| self.facts.index(path).map(|index| self.facts.task(index).state);
        let mut counts = Counts::default();
        for number in &numbers {
            counts.add(self.facts.iteration(item, path, *number), 1);
        }
        let over = item.loop_items.as_deref().map(|items| format!("over {items}")).unwrap_or_default();
        let at = self.begin(Row {
            kind: Kind::Loop,
            name: clipped(&item.name, 120),
            note: clipped(&over, 80),
            counts: Some(counts),
            open: numbers.len() <= UNFOLDED,
            ..blank(around.depth)
        });
        for number in &numbers {
            if self.rows.rows.len() >= ROWS {
                self.rows.left_out += item.leaves();
                continue;
            }
            let inner = Around { ready: true, not_run: None, depth: around.depth + 1, label: String::new() };
            self.iteration(item, &format!("{path}[{number}]"), *number, numbers.len(), inner);
        }
        let known = match numbers.is_empty() {
            true => around.not_run,
            // One that has ended says so.
            false if !self.facts.report.run.state.is_terminal() => Some(TaskState::Running),
            false => Some(counts.overall()),
        };
        self.end(at, state_of(path).or(known));
    }

    fn iteration(&mut self, item: &Item, path: &str, number: usize, of: usize, mut around: Around) {
        let label = format!("[{number}]");
        let Some(inside) = &item.inside else {
            return self.task(item, path, &Around { label, ..around });
        };
        let given = self.item_given(inside, path).map(|(name, value)| format!("{name} = {value}"));
        let given = given.unwrap_or_default();
        if matches!(inside.items.as_slice(), [only] if only.inside.is_none()) {
            around.label = format!("{label} {given}");
            return self.dag(inside, path, &around);
        }
        let state = self.facts.index(path).map(|index| self.facts.task(index).state);
        let at = self.begin(Row {
            kind: Kind::Iteration,
            name: label,
            note: given,
            open: of <= ITERATIONS_UNFOLDED || state == Some(TaskState::Failed),
            ..blank(around.depth)
        });
        around.depth += 1;
        self.dag(inside, path, &around);
        self.end(at, state);
        let row = &mut self.rows.rows[at];
        row.tolerated = self.facts.index(path).is_some_and(|index| self.facts.tolerated(index).is_some());
    }

    /// The item of an iteration, as one of the tasks inside took it.
    fn item_given(&self, inside: &Dag, path: &str) -> Option<(String, String)> {
        inside.items.iter().find_map(|item| {
            let input = item.takes_item.first()?;
            let index = self.facts.index(&format!("{path}/{}", item.name))?;
            let given = self.facts.task(index).inputs.get(input)?;
            Some((clipped(input, 40), clipped(&value(given), 40)))
        })
    }

    fn begin(&mut self, row: Row) -> usize {
        self.rows.rows.push(row);
        self.rows.rows.len() - 1
    }

    /// Fills in what the rows inside tell.
    fn end(&mut self, at: usize, state: Option<TaskState>) {
        let (before, inside) = self.rows.rows.split_at_mut(at + 1);
        let row = &mut before[at];
        let spans = || inside.iter().filter_map(|row| row.span);
        let start = spans().map(|(start, _)| start).min();
        row.span = start.and_then(|start| Some((start, spans().map(|(_, end)| end).max()?)));
        row.critical = inside.iter().any(|row| row.critical);
        row.state = state.unwrap_or_else(|| {
            let mut counts = Counts::default();
            inside.iter().filter(|inner| inner.kind == Kind::Task).for_each(|row| counts.add(row.state, 1));
            counts.overall()
        });
    }

    fn task(&mut self, item: &Item, path: &str, around: &Around) {
        let index = self.facts.index(path);
        let known = index.map(|index| self.facts.task(index).state).or(around.not_run);
        let state = known.unwrap_or_else(|| {
            let state = self.facts.leaf(item, around.ready, None).overall();
            if state.is_terminal() { TaskState::Pending } else { state }
        });
        let span = index.and_then(|index| self.facts.span(index));
        self.rows.listed.extend(index);
        self.rows.rows.push(Row {
            name: clipped(&item.name, 120),
            note: around.label.clone(),
            state,
            task: index,
            span: span.map(|span| (span.start, span.end)),
            critical: index.is_some_and(|index| self.critical.contains(&index)),
            is_report: item.is_report,
            tolerated: index.is_some_and(|index| self.facts.tolerated(index).is_some()),
            ..blank(around.depth)
        });
    }
}

fn blank(depth: usize) -> Row {
    Row {
        depth,
        kind: Kind::Task,
        name: String::new(),
        note: String::new(),
        state: TaskState::Pending,
        task: None,
        span: None,
        counts: None,
        critical: false,
        open: true,
        is_report: false,
        tolerated: false,
    }
}
