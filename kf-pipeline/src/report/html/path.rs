//! The critical path as a card: its longest tasks in order, where they lie in the run's time.

use std::time::Duration;

use crate::report::model::{Facts, Step};
use crate::report::text::{Safe, clipped, duration, plural, put};

/// How many tasks of it are shown.
const STEPS: usize = 12;

pub(super) fn draw(out: &mut String, steps: &[Step], facts: &Facts<'_>) {
    out.push_str("<section class=critical><h2>Critical path</h2>");
    if steps.is_empty() {
        out.push_str("<p class=note>No task has run.</p></section>\n");
        return;
    }
    let whole = |steps: &[Step]| steps.iter().map(|step| step.took + step.waited).sum::<Duration>();
    let total = whole(steps).max(Duration::from_millis(1));
    let waited: Duration = steps.iter().map(|step| step.waited).sum();
    put!(out, "<p>{} in {}", plural(steps.len(), "task"), duration(total));
    if waited >= Duration::from_millis(1) {
        put!(out, ", {} of it waiting to start", duration(waited));
    }
    out.push_str(": the run can't end sooner than they do.</p><ol>");
    let mut longest: Vec<usize> = (0..steps.len()).collect();
    longest.sort_by_key(|place| std::cmp::Reverse(steps[*place].took + steps[*place].waited));
    longest.truncate(STEPS);
    let share = |time: Duration| time.as_secs_f64() / total.as_secs_f64() * 100.0;
    let mut at = Duration::ZERO;
    for (place, step) in steps.iter().enumerate() {
        let start = at + step.waited;
        if longest.contains(&place) {
            let task = facts.task(step.task);
            let path = Safe(&clipped(&task.path, 300)).to_string();
            put!(
                out,
                "<li><a href=\"#t{}\" title=\"{path}\">{}</a>\
                 <svg class=\"share s-{}{}\" height=10 aria-hidden=true><rect class=waited x=\"{:.2}%\" y=4 width=\"{:.2}%\" height=2 />\
                 <rect x=\"{:.2}%\" width=\"{:.2}%\" height=10 rx=2 /></svg>\
                 <span class=num>{}</span><span class=num>{:.0} %</span>",
                step.task,
                Safe(&short(&task.path)),
                super::icons::word(task.state),
                if facts.tolerated(step.task).is_some() { " tolerated" } else { "" },
                share(at),
                share(step.waited),
                share(start).min(99.5),
                share(step.took).max(0.5),
                duration(step.took),
                share(step.took),
            );
            let lost: Duration =
                task.failed_attempts.iter().map(|failed| failed.ended_at.since(failed.started_at)).sum();
            if !lost.is_zero() {
                let attempts = plural(task.failed_attempts.len(), "failed attempt");
                put!(out, "<small>{attempts} took {} of it</small>", duration(lost));
            }
        }
        at = start + step.took;
    }
    out.push_str("</ol>");
    if steps.len() > longest.len() {
        let rest = total.saturating_sub(longest.iter().map(|place| whole(&steps[*place..=*place])).sum());
        let shorter = plural(steps.len() - longest.len(), "shorter task");
        put!(
            out,
            "<p class=note>{shorter} between them, {} together, are marked in the list.</p>",
            duration(rest)
        );
    }
    out.push_str("</section>\n");
}

/// `fit [2]` of `exit-handler-1/for-loop-1[2]/fit`.
fn short(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let around = path.strip_suffix(name).unwrap_or_default();
    let numbers: String =
        around.split('/').filter_map(|part| part.rfind('[').map(|start| &part[start..])).collect();
    let name = clipped(name, 60);
    if numbers.is_empty() { name } else { format!("{name} {}", clipped(&numbers, 30)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_iterations() {
        assert_eq!(short("exit-handler-1/for-loop-1[2]/fit"), "fit [2]");
        assert_eq!(short("a[1]/b[2]/c[3]"), "c[3] [1][2]");
        assert_eq!(short("split"), "split");
    }
}
