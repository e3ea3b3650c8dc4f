//! Which executions each execution of a run came after: the pipeline's order, unrolled over its iterations.

use kf_core::Timestamp;

use super::critical::Span;
use super::facts::Facts;
use super::tree::{Dag, Item};

/// For each task of the report, those that it had to wait for. Of a loop or group before it, that is the task inside
/// that ended last; of a loop with a limit, an iteration also comes after the one whose end made room for it.
pub(in crate::report) fn after(root: &Dag, facts: &Facts<'_>) -> Vec<Vec<usize>> {
    let mut walk = Walk { facts, after: vec![Vec::new(); facts.report.tasks.len()] };
    walk.dag(root, "", &[]);
    walk.after
}

/// Executions of a group: the first that started, and the last that ended.
#[derive(Clone, Copy)]
struct Ran {
    first: (Timestamp, usize),
    last: (Timestamp, usize),
}

impl Ran {
    fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

struct Walk<'a, 'r> {
    facts: &'a Facts<'r>,
    after: Vec<Vec<usize>>,
}

impl Walk<'_, '_> {
    /// `entry` is what everything inside comes after.
    fn dag(&mut self, dag: &Dag, prefix: &str, entry: &[usize]) -> Option<Ran> {
        // What comes after each item waits for these.
        let mut ends: Vec<Vec<usize>> = Vec::with_capacity(dag.items.len());
        let mut before = vec![Vec::new(); dag.items.len()];
        for edge in &dag.edges {
            before[edge.to].push(edge.from);
        }
        let mut all: Option<Ran> = None;
        for (item, before) in dag.items.iter().zip(before) {
            let path = if prefix.is_empty() { item.name.clone() } else { format!("{prefix}/{}", item.name) };
            let mut waits: Vec<usize> =
                before.into_iter().flat_map(|from: usize| ends[from].iter().copied()).collect();
            waits.sort_unstable();
            waits.dedup();
            if waits.is_empty() {
                waits.extend(entry);
            }
            let ran =
                if item.is_loop { self.each(item, &path, &waits) } else { self.once(item, &path, &waits) };
            // Nothing ran: what comes after it waits for what it would have waited for.
            ends.push(ran.map_or(waits, |ran| vec![ran.last.1]));
            all = all.map_or(ran, |all| Some(ran.map_or(all, |ran| all.and(ran))));
        }
        all
    }

    fn once(&mut self, item: &Item, path: &str, waits: &[usize]) -> Option<Ran> {
        if let Some(inside) = &item.inside {
            return self.dag(inside, path, waits);
        }
        let index = self.facts.index(path)?;
        let span = self.facts.span(index)?;
        self.after[index].extend(waits);
        Some(Ran { first: (span.start, index), last: (span.end, index) })
    }

    fn each(&mut self, item: &Item, path: &str, waits: &[usize]) -> Option<Ran> {
        let numbers: Vec<usize> = self.facts.iterations(path).collect();
        let mut iterations: Vec<Ran> = numbers
            .into_iter()
            .filter_map(|number| self.once(item, &format!("{path}[{number}]"), waits))
            .collect();
        if item.limit > 0 && iterations.len() > item.limit {
            iterations.sort_by_key(|ran| ran.first);
            let mut ends: Vec<(Timestamp, usize)> = iterations.iter().map(|ran| ran.last).collect();
            ends.sort_unstable();
            for ran in &iterations[item.limit..] {
                let (start, first) = ran.first;
                if let Some((_, made_room)) = ends[..ends.partition_point(|(end, _)| *end <= start)].last()
                    && *made_room != first
                {
                    self.after[first].push(*made_room);
                }
            }
        }
        iterations.into_iter().reduce(Ran::and)
    }
}

impl Facts<'_> {
    /// When a task ran; none where it did not, or in an earlier run only, which this one does again.
    pub(in crate::report) fn span(&self, index: usize) -> Option<Span> {
        let task = self.task(index);
        if task.ended_at < self.report.run.created_at {
            return None;
        }
        Some(Span { start: task.started_at?, end: task.ended_at })
    }
}
