//! What ran when: a bar for each task, with its attempts.

use std::collections::HashSet;
use std::time::Duration;

use kf_core::Timestamp;

use super::facts::Facts;
use super::icons::word;
use super::text::{Safe, clipped, count, duration, plural, put};
use super::tree::{Dag, Item};
use crate::TaskState;

/// How many executions of one task get a line each; more share one.
const LINES_EACH: usize = 8;
const LINES: usize = 80;
/// How many bars one line has at most.
const BARS: usize = 300;

struct Line {
    start: Timestamp,
    name: String,
    title: String,
    bars: Vec<Bar>,
    /// Where a click leads to.
    target: Option<usize>,
}

struct Bar {
    from: Timestamp,
    to: Timestamp,
    state: TaskState,
    title: String,
    /// Whether it is an attempt that another followed.
    lost: bool,
}

pub(super) fn draw(out: &mut String, root: &Dag, facts: &Facts<'_>, listed: &HashSet<usize>) {
    let mut lines = Vec::new();
    collect(root, facts, listed, &mut lines);
    if lines.is_empty() {
        out.push_str("<p class=note>No task has run.</p>");
        return;
    }
    lines.sort_by_key(|line| line.start);
    let hidden = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    let ends = lines.iter().flat_map(|line| &line.bars).map(|bar| bar.to);
    let span = ends.max().unwrap_or(facts.start).since(facts.start).max(Duration::from_millis(1));
    let percent = |at: Timestamp| at.since(facts.start).as_secs_f64() / span.as_secs_f64() * 100.0;
    out.push_str("<div class=gantt><div class=axis><span></span><div class=track>");
    let tick = tick(span);
    let mut at = Duration::ZERO;
    while at <= span {
        let left = at.as_secs_f64() / span.as_secs_f64() * 100.0;
        if left < 96.0 {
            put!(out, "<i style=\"left:{left:.2}%\">{}</i>", tick_label(at));
        }
        at += tick;
    }
    out.push_str("</div></div>\n");
    let step = tick.as_secs_f64() / span.as_secs_f64() * 100.0;
    for line in &lines {
        let name = Safe(&line.name);
        out.push_str("<div class=line>");
        let title = Safe(&line.title);
        match line.target {
            Some(index) => put!(out, "<a class=label href=\"#t{index}\" title=\"{title}\">{name}</a>"),
            None => put!(out, "<span class=label title=\"{title}\">{name}</span>"),
        }
        put!(out, "<div class=track style=\"--step:{step:.3}%\">");
        for bar in &line.bars {
            let (left, right) = (percent(bar.from), percent(bar.to));
            put!(
                out,
                "<b class=\"s-{}{}\" style=\"left:{left:.2}%;width:{:.2}%\" title=\"{}\"></b>",
                word(bar.state),
                if bar.lost { " lost" } else { "" },
                (right - left).max(0.0),
                Safe(&bar.title),
            );
        }
        out.push_str("</div></div>\n");
    }
    out.push_str("</div>");
    if hidden > 0 {
        put!(out, "<p class=note>{} that started later are not shown.</p>", plural(hidden, "task"));
    }
}

fn collect(dag: &Dag, facts: &Facts<'_>, listed: &HashSet<usize>, lines: &mut Vec<Line>) {
    for item in &dag.items {
        if let Some(inside) = &item.inside {
            collect(inside, facts, listed, lines);
            continue;
        }
        let ran: Vec<usize> =
            facts.all(item).iter().copied().filter(|index| facts.task(*index).started_at.is_some()).collect();
        if ran.len() > LINES_EACH {
            lines.extend(together(item, facts, &ran, listed));
        } else {
            lines.extend(ran.iter().map(|index| alone(facts, *index, listed)));
        }
    }
}

fn alone(facts: &Facts<'_>, index: usize, listed: &HashSet<usize>) -> Line {
    let task = facts.task(index);
    let start = task.started_at.unwrap_or(task.ended_at);
    let mut from = start;
    let mut bars = Vec::new();
    for failed in task.failed_attempts.iter().take(BARS) {
        bars.push(Bar {
            from: failed.started_at,
            to: failed.ended_at,
            state: TaskState::Failed,
            title: format!(
                "attempt {} failed after {}",
                failed.attempt,
                duration(failed.ended_at.since(failed.started_at))
            ),
            lost: true,
        });
        from = from.max(failed.ended_at);
    }
    let title = match task.attempts {
        0 | 1 => format!("{}, {}", word(task.state), duration(task.ended_at.since(from))),
        number => format!(
            "attempt {number} and the wait before it: {}, {}",
            word(task.state),
            duration(task.ended_at.since(from))
        ),
    };
    bars.push(Bar { from, to: task.ended_at, state: task.state, title, lost: false });
    Line {
        start,
        name: short(&task.path),
        title: clipped(&task.path, 200),
        bars,
        target: listed.contains(&index).then_some(index),
    }
}

/// Many executions of one task on one line: the times in which any was under way.
fn together(item: &Item, facts: &Facts<'_>, ran: &[usize], listed: &HashSet<usize>) -> Option<Line> {
    let mut times: Vec<(Timestamp, Timestamp, bool)> = ran
        .iter()
        .map(|index| facts.task(*index))
        .map(|task| {
            (task.started_at.unwrap_or(task.ended_at), task.ended_at, task.state == TaskState::Failed)
        })
        .collect();
    times.sort_unstable();
    let (start, last) = (times.first()?.0, times.iter().map(|time| time.1).max()?);
    // Gaps too small to see are closed.
    let close = last.since(start) / BARS as u32;
    let mut merged: Vec<(Timestamp, Timestamp, bool)> = Vec::new();
    for (from, to, failed) in times {
        match merged.last_mut() {
            Some(bar) if from <= bar.1.after(close) => {
                bar.1 = bar.1.max(to);
                bar.2 |= failed;
            }
            _ => merged.push((from, to, failed)),
        }
    }
    let bars = merged.into_iter().map(|(from, to, failed)| Bar {
        from,
        to,
        state: if failed { TaskState::Failed } else { TaskState::Succeeded },
        title: duration(to.since(from)),
        lost: false,
    });
    Some(Line {
        start,
        name: format!("{} ×{}", item.name, count(ran.len())),
        title: clipped(&item.path, 200),
        bars: bars.collect(),
        target: ran.iter().copied().find(|index| listed.contains(index)),
    })
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

/// A round time, so that there are three to eight ticks.
fn tick(span: Duration) -> Duration {
    const STEPS: [u64; 3] = [1, 2, 5];
    const LONGER: [u64; 10] = [60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 43_200];
    let millis = (0..5)
        .flat_map(|power| STEPS.map(|step| step * 10_u64.pow(power)))
        .take_while(|millis| *millis <= 20_000);
    let longer = LONGER.into_iter().map(|seconds| 1000 * seconds);
    let fitting = millis.chain(longer).map(Duration::from_millis).find(|tick| span <= *tick * 7);
    fitting.unwrap_or_else(|| span / 5)
}

fn tick_label(at: Duration) -> String {
    match at.as_millis() {
        0 => "0".to_owned(),
        millis @ 1..1000 => format!("{millis} ms"),
        millis if millis < 60_000 => format!("{} s", at.as_secs_f64()),
        millis if millis < 3_600_000 => format!("{}:{:02} min", at.as_secs() / 60, at.as_secs() % 60),
        _ => format!("{}:{:02} h", at.as_secs() / 3600, at.as_secs() / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round() {
        for (millis, expected) in
            [(5, 1), (900, 200), (6_300, 1_000), (61_000, 10_000), (400_000, 60_000), (7_200_000, 1_200_000)]
        {
            assert_eq!(tick(Duration::from_millis(millis)).as_millis(), expected, "{millis}");
        }
        let year = Duration::from_secs(31_536_000);
        assert_eq!(tick(year), year / 5);
    }

    #[test]
    fn names_tell_iterations() {
        assert_eq!(short("exit-handler-1/for-loop-1[2]/fit"), "fit [2]");
        assert_eq!(short("a[1]/b[2]/c[3]"), "c[3] [1][2]");
        assert_eq!(short("split"), "split");
    }
}
