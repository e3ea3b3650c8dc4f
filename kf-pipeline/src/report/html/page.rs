//! The page around the drawing, the timeline and the list.

use std::collections::HashSet;

use kf_core::Digest;
use kf_core::metadata::RunState;
use serde_json::Value as Json;

use super::artifacts::Artifacts;
use super::icons::{SYMBOLS, icon, of_run, word};
use super::{data, path, results, svg};
use crate::TaskState;
use crate::report::Report;
use crate::report::model::{Counts, Dag, Facts, Rows, after, critical_path};
use crate::report::text::{Safe, clipped, count, duration, first_line, plural, put, shortened, time, value};

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("assets/words.js"),
    include_str!("assets/detail.js"),
    include_str!("assets/tree.js"),
    include_str!("assets/page.js"),
    "})();\n"
);
/// Up to how wide a drawing has the critical path and the results beside it.
const BESIDE: f64 = 640.0;
const FAILURES: usize = 6;
const ARGUMENTS: usize = 40;

/// The whole report.
pub(in crate::report) fn render(report: &Report) -> String {
    let root = Dag::of(&report.pipeline);
    let facts = Facts::of(report, &root);
    let outcome = facts.outcome(&root);
    let spans: Vec<_> = (0..report.tasks.len()).map(|index| facts.span(index)).collect();
    let steps = critical_path(&spans, &after(&root, &facts), facts.start);
    let critical: HashSet<usize> = steps.iter().map(|step| step.task).collect();
    let rows = Rows::of(&root, &facts, &critical);
    let artifacts = Artifacts::of(report);
    let found = results::find(&root, &facts);
    let data = data::write(&rows, &facts, &artifacts);
    let mut dag = String::new();
    let size = svg::draw(&mut dag, &root, &facts, &rows.listed, &critical);

    let mut out = String::with_capacity(data.len() + 256 * 1024);
    head(&mut out, report, outcome, artifacts.any_page(report));
    out.push_str("<body>");
    out.push_str(SYMBOLS);
    out.push_str("<main>\n");
    header(&mut out, report, &facts, &root, outcome);
    waiting(&mut out, report);
    failures(&mut out, report, &facts, &rows, outcome);
    let beside = if size.width <= BESIDE { " beside" } else { "" };
    put!(out, "<div class=\"overview{beside}\">");
    put!(
        out,
        "<section class=drawing><h2>Pipeline</h2><div class=wide>{dag}</div></section>\n<div class=side>"
    );
    path::draw(&mut out, &steps, &facts);
    results::numbers(&mut out, &found);
    out.push_str("</div></div>\n");
    tasks(&mut out, &root, &rows);
    results::pictures(&mut out, &found, &facts, &artifacts);
    footer(&mut out, report);
    put!(out, "</main><aside id=detail hidden tabindex=-1 aria-label=\"Task\"></aside>\n");
    put!(out, "<script type=\"application/json\" id=data>{data}</script>\n");
    put!(out, "<script>{SCRIPT}</script></body></html>\n");
    out
}

/// Nothing is loaded, and no script runs but the report's own. Pages of artifacts, which take this policy over, may
/// bring styles and pictures inside of them.
fn head(out: &mut String, report: &Report, outcome: RunState, pages: bool) {
    let hash = |text: &str| format!("'sha256-{}'", base64(Digest::of(text).as_bytes()));
    let style = if pages { "'unsafe-inline'".to_owned() } else { hash(STYLE) };
    put!(
        out,
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src {}; style-src {style}; \
         img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'\">\
         <meta name=referrer content=no-referrer><meta name=color-scheme content=\"light dark\">\
         <title>{} · {outcome}</title><style>{STYLE}</style></head>",
        hash(SCRIPT),
        Safe(&clipped(&report.run.pipeline, 100)),
    );
}

/// The frame of the list, which the script fills.
fn tasks(out: &mut String, root: &Dag, rows: &Rows) {
    out.push_str("<section class=tasks><h2>Tasks and timeline</h2>");
    if root.items.is_empty() {
        out.push_str("<p class=note>The pipeline has no tasks.</p></section>\n");
        return;
    }
    out.push_str(
        "<div class=tools hidden><input type=search placeholder=\"Find a task\" aria-label=\"Find a task\">\
         <span class=filters></span>\
         <button type=button class=only aria-pressed=false>Critical path</button>\
         <button type=button class=fold>Unfold all</button></div>\
         <div id=tree></div>\
         <noscript><p class=note>The list of tasks needs scripts, which are off here.</p></noscript>",
    );
    if rows.left_out > 0 {
        put!(out, "<p class=note>{} are not listed.</p>", plural(rows.left_out, "more task"));
    }
    out.push_str("</section>\n");
}

fn header(out: &mut String, report: &Report, facts: &Facts<'_>, root: &Dag, outcome: RunState) {
    let run = &report.run;
    let state = of_run(outcome);
    put!(out, "<header><div class=top><h1>{}</h1>", shortened(&run.pipeline, 120));
    put!(out, "<span class=\"badge s-{}\">", word(state));
    icon(out, state);
    put!(out, "{outcome}</span><button type=button class=theme hidden></button></div>");
    if let Some(description) = &report.pipeline.pipeline_spec.pipeline_info.description {
        put!(out, "<p>{}</p>", shortened(description, 600));
    }
    let fact = |out: &mut String, name: &str, value: &str| put!(out, "<div><dt>{name}<dd>{value}</div>");
    out.push_str("<dl class=facts>");
    fact(out, "Run", &format!("<code>{}</code>", Safe(run.id.as_str())));
    if let Some(of) = &report.rerun_of {
        fact(out, "Runs again", &format!("<code>{}</code>", Safe(of.as_str())));
    }
    fact(out, "Started", &time(run.created_at));
    if let Some(ended) = run.ended_at {
        fact(out, "Ended", &time(ended));
    }
    let took = duration(run.ended_at.unwrap_or(report.at).since(run.created_at));
    fact(out, "Duration", &if run.ended_at.is_some() { took } else { format!("{took} so far") });
    out.push_str("</dl>\n");
    progress(out, &tally(root, facts));
    arguments(out, &run.args);
    if !run.state.is_terminal() {
        let note = if outcome == run.state {
            "The run is under way; this is how it stood when the report was written."
        } else {
            "Written by the run's own last task: everything else has ended."
        };
        put!(out, "<p class=note>{note}</p>");
    }
    out.push_str("</header>\n");
}

/// How many tasks are in each state, without the one that makes this report.
fn tally(root: &Dag, facts: &Facts<'_>) -> Counts {
    fn add(dag: &Dag, facts: &Facts<'_>, ready: bool, around: Option<TaskState>, counts: &mut Counts) {
        for (item, ready) in dag.items.iter().zip(facts.ready(dag, ready)) {
            if let Some(inside) = &item.inside {
                add(inside, facts, ready, facts.not_run(item).or(around), counts);
                continue;
            }
            for (state, count) in facts.leaf(item, ready, around).present() {
                if !(item.is_report && state == TaskState::Running) {
                    counts.add(state, count);
                }
            }
        }
    }
    let mut counts = Counts::default();
    add(root, facts, true, None, &mut counts);
    counts
}

fn progress(out: &mut String, counts: &Counts) {
    out.push_str("<div class=counts><svg class=stack height=8 aria-hidden=true>");
    // A single one among thousands is seen too.
    let least = counts.total() as f64 / 100.0;
    let whole: f64 = counts.present().map(|(_, number)| (number as f64).max(least)).sum();
    let mut at = 0.0;
    for (state, number) in counts.present() {
        let width = (number as f64).max(least) / whole * 100.0;
        put!(out, "<rect class=\"s-{}\" x=\"{at:.3}%\" width=\"{width:.3}%\" height=8 />", word(state));
        at += width;
    }
    put!(out, "</svg><ul><li>{}", plural(counts.total(), "task"));
    for (state, number) in counts.present() {
        out.push_str("<li>");
        icon(out, state);
        put!(out, "{} {}", count(number), word(state));
    }
    out.push_str("</ul></div>\n");
}

fn arguments(out: &mut String, args: &str) {
    let args = match serde_json::from_str(args) {
        Ok(Json::Object(args)) => args,
        _ => return,
    };
    if args.is_empty() {
        return;
    }
    out.push_str("<dl class=args>");
    for (name, json) in args.iter().take(ARGUMENTS) {
        put!(out, "<div><dt>{}<dd>{}</div>", shortened(name, 80), shortened(&value(json), 240));
    }
    out.push_str("</dl>");
    if args.len() > ARGUMENTS {
        put!(out, "<p class=note>{} not shown.</p>", plural(args.len() - ARGUMENTS, "more argument"));
    }
}

/// What the run waits for a person to decide.
fn waiting(out: &mut String, report: &Report) {
    if report.waiting.is_empty() {
        return;
    }
    out.push_str("<section class=\"failure s-running\"><h2>");
    icon(out, TaskState::Running);
    match report.waiting.len() {
        1 => out.push_str("A task waits for a person"),
        number => put!(out, "{} wait for a person", plural(number, "task")),
    }
    out.push_str("</h2><ul>");
    for approval in report.waiting.iter().take(FAILURES) {
        let task = Safe(&clipped(&approval.task, 200)).to_string();
        let message = shortened(&approval.message, 400);
        put!(out, "<li><b>{task}</b> since {}: <span>{message}</span>", time(approval.asked_at));
    }
    if report.waiting.len() > FAILURES {
        put!(out, "<li>and {}", plural(report.waiting.len() - FAILURES, "more task"));
    }
    out.push_str("</ul></section>\n");
}

/// What went wrong: the run's error, and the tasks that failed.
fn failures(out: &mut String, report: &Report, facts: &Facts<'_>, rows: &Rows, outcome: RunState) {
    let all = (0..report.tasks.len())
        .filter(|index| facts.task(*index).state == TaskState::Failed && facts.task(*index).attempts > 0);
    let (tolerated, failed): (Vec<usize>, Vec<usize>) =
        all.partition(|index| facts.tolerated(*index).is_some());
    if report.run.error.is_some() || !failed.is_empty() {
        alarming(out, report, facts, rows, outcome, &failed);
    }
    if !tolerated.is_empty() {
        out.push_str("<section class=\"failure s-failed tolerated\"><h2>");
        match tolerated.len() {
            1 => out.push_str("1 failure was tolerated"),
            number => put!(out, "{} were tolerated", plural(number, "failure")),
        }
        out.push_str("</h2><ul>");
        list_failed(out, &tolerated, facts, rows);
        out.push_str("</ul></section>\n");
    }
}

fn alarming(
    out: &mut String,
    report: &Report,
    facts: &Facts<'_>,
    rows: &Rows,
    outcome: RunState,
    failed: &[usize],
) {
    let state = of_run(outcome);
    put!(
        out,
        "<section class=\"failure s-{}\"><h2>",
        word(if state == TaskState::Succeeded { TaskState::Failed } else { state })
    );
    icon(out, if state == TaskState::Canceled { state } else { TaskState::Failed });
    match (state, failed.len()) {
        (TaskState::Canceled, _) => out.push_str("The run was cancelled"),
        (_, 0) => out.push_str("The run failed"),
        (_, number) => put!(out, "{} failed", plural(number, "task")),
    }
    out.push_str("</h2>");
    if let Some(error) = &report.run.error {
        put!(out, "<pre>{}</pre>", shortened(error, 4_000));
    }
    out.push_str("<ul>");
    list_failed(out, failed, facts, rows);
    out.push_str("</ul></section>\n");
}

fn list_failed(out: &mut String, failed: &[usize], facts: &Facts<'_>, rows: &Rows) {
    for index in failed.iter().take(FAILURES) {
        let task = facts.task(*index);
        let path = Safe(&clipped(&task.path, 200)).to_string();
        match rows.listed.contains(index) {
            true => put!(out, "<li><a href=\"#t{index}\">{path}</a>"),
            false => put!(out, "<li><b>{path}</b>"),
        }
        put!(out, " after {}", plural(task.attempts as usize, "attempt"));
        if let Some(error) = &task.error {
            put!(out, ": <span>{}</span>", Safe(&first_line(error, 400)));
        }
        if let Some(what) = facts.tolerated(*index) {
            put!(out, " — {}", Safe(&clipped(what, 200)));
        }
    }
    if failed.len() > FAILURES {
        put!(out, "<li>and {}", plural(failed.len() - FAILURES, "more task"));
    }
}

fn footer(out: &mut String, report: &Report) {
    put!(out, "<footer>Written {} by kf-pipeline {}", time(report.at), env!("CARGO_PKG_VERSION"));
    let spec = report.run.spec_digest;
    put!(
        out,
        " · pipeline <code title=\"{spec}\">{}</code> · times since the first task's start</footer>",
        &spec.to_hex()[..12]
    );
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let shown = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(shown, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
