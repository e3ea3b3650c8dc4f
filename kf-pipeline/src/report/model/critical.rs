//! The critical path: the chain of tasks that the end of a run waited for.

use std::time::Duration;

use kf_core::Timestamp;

/// When a task ran, from its first attempt's start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) struct Span {
    pub(in crate::report) start: Timestamp,
    pub(in crate::report) end: Timestamp,
}

/// A task of the critical path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) struct Step {
    pub(in crate::report) task: usize,
    /// How long it took, attempts and the waits between them together.
    pub(in crate::report) took: Duration,
    /// How long it waited for its start when nothing before it was left to end.
    pub(in crate::report) waited: Duration,
}

/// The tasks, first to last, each of which began when the one before had ended, up to the task that ended last.
/// `spans` has none for a task that did not run; `after` tells which tasks each one comes after. A task with no span is
/// not on the path, and the path goes through it to what it comes after. `begin` is when the first could have started.
pub(in crate::report) fn critical_path(
    spans: &[Option<Span>],
    after: &[Vec<usize>],
    begin: Timestamp,
) -> Vec<Step> {
    let last = |tasks: &mut dyn Iterator<Item = usize>| {
        tasks
            .filter_map(|task| Some((spans.get(task).copied().flatten()?, task)))
            .max_by_key(|(span, task)| (span.end, span.start, *task))
    };
    let mut seen = vec![false; spans.len()];
    let mut path = Vec::new();
    let mut at = last(&mut (0..spans.len()));
    while let Some((span, task)) = at {
        seen[task] = true;
        let before = reached(task, spans, after, &mut seen);
        at = last(&mut before.into_iter());
        let ready = at.map_or(begin, |(before, _)| before.end);
        path.push(Step { task, took: span.end.since(span.start), waited: span.start.since(ready) });
    }
    path.reverse();
    path
}

/// The tasks with a span that `task` comes after, straight or through tasks without one.
fn reached(task: usize, spans: &[Option<Span>], after: &[Vec<usize>], seen: &mut [bool]) -> Vec<usize> {
    let before = |task: usize| after.get(task).into_iter().flatten().copied();
    let (mut open, mut found): (Vec<usize>, _) = (before(task).collect(), Vec::new());
    while let Some(next) = open.pop() {
        match spans.get(next) {
            Some(Some(_)) if !seen[next] => found.push(next),
            Some(None) if !seen[next] => {
                seen[next] = true;
                open.extend(before(next));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn span((start, end): (i64, i64)) -> Option<Span> {
        Some(Span { start: at(start), end: at(end) })
    }

    fn path(spans: &[Option<Span>], after: &[&[usize]]) -> Vec<(usize, u64, u64)> {
        let after: Vec<Vec<usize>> = after.iter().map(|list| list.to_vec()).collect();
        let steps = critical_path(spans, &after, at(0));
        steps
            .iter()
            .map(|step| (step.task, step.took.as_millis() as u64, step.waited.as_millis() as u64))
            .collect()
    }

    #[test]
    fn the_slower_arm_of_a_diamond_is_on_it() {
        let spans = [(0, 10), (10, 90), (12, 50), (95, 100)].map(span);
        let after: [&[usize]; 4] = [&[], &[0], &[0], &[1, 2]];
        assert_eq!(path(&spans, &after), [(0, 10, 0), (1, 80, 0), (3, 5, 5)]);
    }

    #[test]
    fn it_goes_through_what_did_not_run() {
        // 1 was skipped, after 0 had ended; 2 comes after 1.
        let spans = [span((0, 10)), None, span((11, 20)), None];
        let after: [&[usize]; 4] = [&[], &[0], &[1, 3], &[]];
        assert_eq!(path(&spans, &after), [(0, 10, 0), (2, 9, 1)]);
    }

    #[test]
    fn a_cached_task_takes_its_moment() {
        let spans = [(3, 3), (3, 40)].map(span);
        assert_eq!(path(&spans, &[&[], &[0]]), [(0, 0, 3), (1, 37, 0)]);
    }

    #[test]
    fn nothing_ran_and_circles_end() {
        assert_eq!(path(&[], &[]), []);
        assert_eq!(path(&[None, None], &[&[1], &[0]]), []);
        assert_eq!(path(&[span((0, 5)), span((0, 5))], &[&[1, 0, 9], &[0]]).len(), 2);
    }

    proptest! {
        #[test]
        fn it_ends_with_the_last_and_each_step_comes_after_the_one_before(
            times in prop::collection::vec(prop::option::weighted(0.8, (0_i64..1_000, 0_i64..1_000)), 0..40),
            links in prop::collection::vec((0_usize..40, 0_usize..40), 0..120),
        ) {
            let spans: Vec<Option<Span>> =
                times.iter().map(|time| time.and_then(|(start, took)| span((start, start + took)))).collect();
            let mut after = vec![Vec::new(); spans.len()];
            for (from, to) in links.into_iter().filter(|(from, to)| from < to && *to < spans.len()) {
                after[to].push(from);
            }
            let steps = critical_path(&spans, &after, at(0));
            let ends = spans.iter().flatten().map(|span| span.end);
            prop_assert_eq!(steps.last().and_then(|step| spans[step.task]).map(|span| span.end), ends.max());
            for pair in steps.windows(2) {
                let mut seen = vec![false; spans.len()];
                let before = reached(pair[1].task, &spans, &after, &mut seen);
                prop_assert!(before.contains(&pair[0].task));
                let ended = |task: &usize| spans[*task].map(|span| span.end);
                prop_assert!(before.iter().all(|task| ended(task) <= ended(&pair[0].task)));
            }
        }
    }
}
