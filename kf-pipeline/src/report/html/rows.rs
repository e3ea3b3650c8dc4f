//! The list of tasks: a row each, folded around what it took and gave.

use std::collections::{BTreeSet, HashSet};

use super::detail;
use super::facts::{Counts, Facts};
use super::icons::{icon, word};
use super::text::{Safe, clipped, count, duration, first_line, is_scalar, kind, plural, port, put, value};
use super::tree::{Dag, Item};
use crate::TaskState;
use crate::report::TaskReport;

/// How many rows there are at most, and of how many iterations of one loop.
const ROWS: usize = 1_000;
const ITERATIONS: usize = 60;
/// Up to how many iterations a loop is unfolded.
const UNFOLDED: usize = 6;
/// From how long a list rows come without details.
const BYTES: usize = 3_000_000;

/// Writes the list.
pub(super) struct Rows<'a, 'r> {
    pub(super) out: String,
    facts: &'a Facts<'r>,
    /// The reports that have a row with the id `t` and their place.
    pub(super) listed: HashSet<usize>,
    left: usize,
    left_out: usize,
}

impl<'a, 'r> Rows<'a, 'r> {
    pub(super) fn of(root: &Dag, facts: &'a Facts<'r>) -> Self {
        let mut rows = Self { out: String::new(), facts, listed: HashSet::new(), left: ROWS, left_out: 0 };
        rows.dag(root, "", &Around { ready: true, not_run: None, label: String::new() });
        if rows.left_out > 0 {
            put!(rows.out, "<p class=note>{} are not listed.</p>", plural(rows.left_out, "more task"));
        }
        rows
    }

    fn dag(&mut self, dag: &Dag, prefix: &str, around: &Around) {
        let ready = self.facts.ready(dag, around.ready);
        for (item, ready) in dag.items.iter().zip(ready) {
            if self.left == 0 {
                self.left_out += item.leaves();
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
        let report = self.facts.index(path).map(|index| self.facts.task(index));
        let lost = report
            .map(|report| report.state)
            .filter(|state| matches!(state, TaskState::Skipped | TaskState::Canceled));
        let around = Around { not_run: lost.or(around.not_run), ..around.clone() };
        let Some(condition) = &item.condition else {
            return self.dag(inside, path, &around);
        };
        let state = report.map(|report| report.state).or(around.not_run).unwrap_or(TaskState::Pending);
        self.out.push_str("<section class=group><h3>");
        icon(&mut self.out, state);
        put!(self.out, "<span>when <code>{}</code></span>", Safe(&clipped(condition, 200)));
        put!(self.out, "<small>{}</small></h3><div class=inner>\n", Safe(&clipped(path, 200)));
        self.dag(inside, path, &around);
        self.out.push_str("</div></section>\n");
    }

    fn each(&mut self, item: &Item, path: &str, around: &Around) {
        let facts = self.facts;
        let all: Vec<usize> = facts.iterations(path).collect();
        let report = facts.index(path).map(|index| facts.task(index));
        let lost = report.map(|report| report.state).filter(|_| all.is_empty());
        if all.is_empty() {
            let state = lost.or(around.not_run).unwrap_or(TaskState::Pending);
            self.out.push_str("<section class=group><h3>");
            icon(&mut self.out, state);
            let note = if state == TaskState::Succeeded { "no iterations" } else { word(state) };
            put!(self.out, "<span>{}</span><small>{note}</small></h3></section>\n", Safe(&heading(item)));
            return;
        }
        let mut counts = Counts::default();
        let state_of =
            |number: usize| facts.index(&format!("{path}[{number}]")).map(|index| facts.task(index).state);
        let mut failed = Vec::new();
        for number in &all {
            let state = state_of(*number).unwrap_or(TaskState::Running);
            counts.add(state, 1);
            if state == TaskState::Failed {
                failed.push(*number);
            }
        }
        // Failed ones first, then from the start.
        let mut shown: BTreeSet<usize> = failed.iter().copied().take(ITERATIONS * 2 / 3).collect();
        for number in &all {
            if shown.len() == ITERATIONS {
                break;
            }
            shown.insert(*number);
        }
        let open = all.len() <= UNFOLDED || !failed.is_empty();
        put!(self.out, "<details class=group{}><summary>", if open { " open" } else { "" });
        icon(&mut self.out, report.map_or(counts.overall(), |report| report.state));
        put!(self.out, "<span>{}</span><small>{}", Safe(&heading(item)), plural(all.len(), "iteration"));
        for (state, number) in counts.present() {
            put!(self.out, " · {} {}", count(number), word(state));
        }
        self.out.push_str("</small></summary><div class=inner>\n");
        for number in &shown {
            if self.left == 0 {
                break;
            }
            self.iteration(item, path, *number, around);
        }
        if shown.len() < all.len() {
            put!(
                self.out,
                "<p class=note>{} are not listed.</p>",
                plural(all.len() - shown.len(), "more iteration")
            );
        }
        self.out.push_str("</div></details>\n");
    }

    fn iteration(&mut self, item: &Item, path: &str, number: usize, around: &Around) {
        let path = format!("{path}[{number}]");
        let Some(inside) = &item.inside else {
            let label = format!("{}[{number}]", around.label);
            return self.task(item, &path, &Around { label, ..around.clone() });
        };
        let given = self.item_given(inside, &path);
        let single = matches!(inside.items.as_slice(), [only] if only.inside.is_none());
        let given = given.map(|(name, value)| format!("{name} {value}"));
        let label = format!("{}[{number}]", around.label);
        let inner = Around { ready: true, not_run: None, label: label.clone() };
        if single {
            let label = given.map_or(label.clone(), |given| format!("{label} {given}"));
            return self.dag(inside, &path, &Around { label, ..inner });
        }
        let report = self.facts.index(&path).map(|index| self.facts.task(index));
        let state = report.map_or(TaskState::Running, |report| report.state);
        let open = if state == TaskState::Failed { " open" } else { "" };
        put!(self.out, "<details class=group{open}><summary>");
        icon(&mut self.out, state);
        let given = Safe(given.as_deref().unwrap_or_default()).to_string();
        put!(self.out, "<span>{} <em>{given}</em></span></summary><div class=inner>\n", Safe(&label));
        self.dag(inside, &path, &inner);
        self.out.push_str("</div></details>\n");
    }

    /// The item of an iteration, as one of the tasks inside took it.
    fn item_given(&self, inside: &Dag, path: &str) -> Option<(String, String)> {
        inside.items.iter().find_map(|item| {
            let input = item.takes_item.first()?;
            let index = self.facts.index(&format!("{path}/{}", item.name))?;
            let given = self.facts.task(index).inputs.get(input)?;
            Some((input.clone(), clipped(&value(given), 40)))
        })
    }

    fn task(&mut self, item: &Item, path: &str, around: &Around) {
        self.left -= 1;
        let index = self.facts.index(path);
        let report = index.map(|index| self.facts.task(index));
        let state = report
            .map(|report| report.state)
            .or(around.not_run)
            .unwrap_or_else(|| self.facts.leaf(item, around.ready, None).overall());
        let state = match report {
            None if state.is_terminal() && around.not_run.is_none() => TaskState::Pending,
            _ => state,
        };
        let folded = report.is_some_and(detail::has_any) && self.out.len() < BYTES;
        let bad = state == TaskState::Failed;
        if folded {
            put!(
                self.out,
                "<details class=\"row s-{}\"{}><summary>",
                word(state),
                if bad { " open" } else { "" }
            );
        } else {
            put!(self.out, "<div class=\"row s-{}\"", word(state));
            if let Some(index) = index {
                put!(self.out, " id=t{index}");
            }
            self.out.push_str("><div class=summary>");
        }
        icon(&mut self.out, state);
        put!(self.out, "<span class=task>{}", Safe(&clipped(&item.name, 80)));
        if !around.label.is_empty() {
            put!(self.out, " <em>{}</em>", Safe(&around.label));
        }
        self.out.push_str("</span>");
        self.cells(item, index, state);
        if folded && let (Some(report), Some(index)) = (report, index) {
            put!(self.out, "</summary><div class=body id=t{index}>");
            detail::write(&mut self.out, report, item, &self.facts.report.contents);
            self.out.push_str("</div></details>\n");
        } else {
            self.out.push_str("</div></div>\n");
        }
        self.listed.extend(index);
    }

    fn cells(&mut self, item: &Item, index: Option<usize>, state: TaskState) {
        let report = index.map(|index| self.facts.task(index));
        let started = report.and_then(|report| report.started_at);
        let started =
            started.map(|at| format!("+{}", duration(at.since(self.facts.start)))).unwrap_or_default();
        let took = index.and_then(|index| self.facts.took(index)).map(duration).unwrap_or_default();
        let attempts = match report.map_or(0, |report| report.attempts) {
            0 | 1 => String::new(),
            attempts => format!("{attempts} attempts"),
        };
        let at = if started.is_empty() { String::new() } else { format!("<span class=num>{started}</span>") };
        let at = if at.is_empty() { "<span></span>".to_owned() } else { at };
        put!(self.out, "<span class=state>{}</span>{at}<span class=num>{took}</span>", word(state));
        put!(self.out, "<span class=attempts>{attempts}</span><span class=gist>");
        match report {
            None if item.is_report && state == TaskState::Running => self.out.push_str("writing this report"),
            None => {}
            Some(report) => gist(&mut self.out, report),
        }
        self.out.push_str("</span>");
    }
}

/// What became of the groups around a task.
#[derive(Clone)]
struct Around {
    /// Whether everything before has ended.
    ready: bool,
    /// The state of a group that did not run.
    not_run: Option<TaskState>,
    /// The iterations on the way.
    label: String,
}

fn heading(item: &Item) -> String {
    let over =
        item.loop_items.as_deref().map(|items| format!(" over {}", clipped(items, 60))).unwrap_or_default();
    format!("{} · for each{over}", item.name)
}

/// What a task came to, in a few words: its error, or what it gave.
fn gist(out: &mut String, report: &TaskReport) {
    if let Some(error) = &report.error {
        put!(out, "{}", Safe(&first_line(error, 110)));
        return;
    }
    let parameters = report.outputs.iter().filter(|(_, json)| is_scalar(json));
    let mut parts: Vec<String> = parameters
        .take(3)
        .map(|(name, json)| {
            format!("{} <b>{}</b>", Safe(&clipped(port(name), 30)), Safe(&clipped(&value(json), 24)))
        })
        .collect();
    for io in report.output_artifacts.iter().take(3) {
        let (port, kind) = (port(&io.port), kind(&io.artifact.schema_title));
        let says_more = !["artifact", "result"].contains(&port) && !port.eq_ignore_ascii_case(kind);
        let words = if says_more { format!("{port} ({kind})") } else { kind.to_owned() };
        parts.push(Safe(&clipped(&words, 44)).to_string());
    }
    out.push_str(&parts.join("<s>·</s>"));
}
