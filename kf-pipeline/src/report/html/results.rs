//! What tasks came to, side by side: numbers as tables, then curves, matrices, pages and texts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kf_core::artifact::{ArtifactKind as _, ArtifactRef, ClassificationMetrics, Metrics};
use serde_json::Value as Json;

use super::artifacts::Artifacts;
use super::roc::{self, Curve};
use super::visuals;
use crate::TaskState;
use crate::report::TaskReport;
use crate::report::model::{Dag, Facts, Item};
use crate::report::text::{Safe, clipped, is_scalar, kind, plural, port, put, shortened, value};

const TABLES: usize = 12;
const ROWS: usize = 500;
const COLUMNS: usize = 12;
/// How many pictures are shown, and of one output in a loop; how large all may be.
const SHOWN: usize = 16;
const SHOWN_EACH: usize = 3;
const BYTES: usize = 6 << 20;

/// A task of the pipeline, and its executions.
pub(super) type Found<'t, 'r> = (&'t Item, Vec<&'r TaskReport>);

pub(super) fn find<'t, 'r>(root: &'t Dag, facts: &Facts<'r>) -> Vec<Found<'t, 'r>> {
    let mut found = Vec::new();
    collect(root, facts, &mut found);
    found
}

fn collect<'t, 'r>(dag: &'t Dag, facts: &Facts<'r>, found: &mut Vec<Found<'t, 'r>>) {
    for item in &dag.items {
        if let Some(inside) = &item.inside {
            collect(inside, facts, found);
            continue;
        }
        let mut reports: Vec<&TaskReport> = facts.all(item).iter().map(|index| facts.task(*index)).collect();
        reports.sort_by_cached_key(|report| iterations(&report.path));
        found.push((item, reports));
    }
}

/// A table for each task that gave numbers; an iteration of a loop is a row.
pub(super) fn numbers(out: &mut String, found: &[Found<'_, '_>]) {
    let done = |task: &&&TaskReport| matches!(task.state, TaskState::Succeeded | TaskState::Cached);
    let with: Vec<(&Item, Vec<&TaskReport>)> = found
        .iter()
        .map(|(item, reports)| (*item, reports.iter().filter(done).copied().collect::<Vec<_>>()))
        .filter(|(_, reports)| reports.iter().any(|report| of(report).next().is_some()))
        .collect();
    if with.is_empty() {
        return;
    }
    out.push_str("<section class=results><h2>Results</h2><div class=tables>");
    for (item, reports) in with.iter().take(TABLES) {
        table(out, item, reports);
    }
    out.push_str("</div>");
    if with.len() > TABLES {
        let more = plural(with.len() - TABLES, "more task");
        put!(out, "<p class=note>Results of {more} are in the list below.</p>");
    }
    out.push_str("</section>\n");
}

/// What a task gave that is a number, and its metrics.
fn of(report: &TaskReport) -> impl Iterator<Item = (&str, &Json)> {
    let parameters = report.outputs.iter().filter(|(_, json)| json.is_number());
    let is_metrics =
        |title: &str| title == Metrics::SCHEMA_TITLE || title == ClassificationMetrics::SCHEMA_TITLE;
    let artifacts = report.output_artifacts.iter().filter(move |io| is_metrics(&io.artifact.schema_title));
    let metrics = artifacts.flat_map(|io| &io.artifact.metadata).filter(|(_, json)| is_scalar(json));
    parameters.chain(metrics).map(|(name, json)| (name.as_str(), json))
}

fn iterations(path: &str) -> Vec<usize> {
    path.split('[').skip(1).filter_map(|rest| rest.split(']').next()?.parse().ok()).collect()
}

fn iteration(path: &str) -> String {
    iterations(path).iter().map(|number| format!("[{number}]")).collect()
}

fn table(out: &mut String, item: &Item, reports: &[&TaskReport]) {
    let shown = &reports[..reports.len().min(ROWS)];
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in shown.iter().flat_map(|report| of(report)) {
        if !columns.contains(&name) && columns.len() < COLUMNS {
            columns.push(name);
        }
    }
    let many = reports.len() > 1;
    // What the rows differ in.
    let differs = |name: &str| {
        let values = shown.iter().map(|report| report.inputs.get(name).map(Json::to_string));
        values.collect::<BTreeSet<_>>().len() > 1
    };
    let given: Vec<&str> = reports[0]
        .inputs
        .iter()
        .filter(|(name, json)| many && is_scalar(json) && differs(name))
        .map(|(name, _)| name.as_str())
        .take(4)
        .collect();
    let sorts = if many { " sorts" } else { "" };
    put!(
        out,
        "<div class=\"wide tall\"><table class=\"numbers{sorts}\"><caption>{}</caption><thead><tr>",
        Safe(&clipped(&item.name, 60))
    );
    if many {
        out.push_str("<th>#");
    }
    for name in &given {
        put!(out, "<th class=given>{}", Safe(&clipped(name, 30)));
    }
    for name in &columns {
        put!(out, "<th>{}", Safe(&clipped(port(name), 30)));
    }
    out.push_str("</thead><tbody>");
    for report in shown {
        out.push_str("<tr>");
        if many {
            put!(out, "<th>{}", iteration(&report.path));
        }
        for name in &given {
            put!(out, "<td class=given>{}", report.inputs.get(*name).map(cell).unwrap_or_default());
        }
        let numbers: BTreeMap<&str, &Json> = of(report).collect();
        for name in &columns {
            put!(out, "<td>{}", numbers.get(name).map(|json| cell(json)).unwrap_or_default());
        }
    }
    out.push_str("</tbody></table>");
    if reports.len() > ROWS {
        put!(out, "<p class=note>{} not shown.</p>", plural(reports.len() - ROWS, "more row"));
    }
    out.push_str("</div>");
}

/// A value in a cell; what is rounded keeps its digits in the title.
fn cell(json: &Json) -> String {
    let (text, full) = (value(json), json.to_string());
    match json {
        Json::Number(_) if text != full => format!("<span title=\"{}\">{}</span>", Safe(&full), Safe(&text)),
        _ => shortened(&text, 60),
    }
}

/// Draws curves, matrices, pages and texts. Each artifact's are there once, with the id `v` and its number: some shown,
/// the others in templates, for the script to show with their tasks.
pub(super) fn pictures(
    out: &mut String,
    found: &[Found<'_, '_>],
    facts: &Facts<'_>,
    artifacts: &Artifacts<'_>,
) {
    let (mut cards, mut kept) = (String::new(), String::new());
    let mut drawn = HashSet::new();
    let mut left = SHOWN;
    for (item, reports) in found.iter().filter(|(item, _)| !item.is_report) {
        for port in ports(reports) {
            let made: Vec<(&TaskReport, &ArtifactRef)> = reports
                .iter()
                .flat_map(|report| report.output_artifacts.iter().map(move |io| (*report, io)))
                .filter(|(_, io)| io.port == port)
                .map(|(report, io)| (report, &io.artifact))
                .collect();
            let compared = compare(&mut cards, &mut left, item, port, &made);
            let mut each = if compared { 0 } else { SHOWN_EACH };
            for (report, artifact) in made {
                if cards.len() + kept.len() > BYTES {
                    break;
                }
                let Some(number) = artifacts.number(artifact).filter(|number| drawn.insert(*number)) else {
                    continue;
                };
                let Some(picture) = visuals::draw(facts.report, artifact) else { continue };
                if left == 0 || each == 0 {
                    put!(kept, "<template id=v{number}>{picture}</template>\n");
                    continue;
                }
                (left, each) = (left - 1, each - 1);
                let mut name = format!("{} {}", clipped(&item.name, 60), iteration(&report.path));
                name.truncate(name.trim_end().len());
                head(&mut cards, &name, port, artifact);
                put!(cards, "<div class=visual id=v{number}>{picture}</div></figure>\n");
            }
        }
    }
    if !cards.is_empty() {
        put!(
            out,
            "<section class=pictures><h2>Plots and pages</h2><div class=cards>{cards}</div></section>\n"
        );
    }
    out.push_str(&kept);
}

fn ports<'r>(reports: &[&'r TaskReport]) -> BTreeSet<&'r str> {
    reports.iter().flat_map(|report| &report.output_artifacts).map(|io| io.port.as_str()).collect()
}

fn head(out: &mut String, name: &str, port_name: &str, artifact: &ArtifactRef) {
    put!(
        out,
        "<figure><figcaption>{} <small>{} · {}</small></figcaption>",
        Safe(name),
        Safe(&clipped(port(port_name), 60)),
        Safe(&clipped(kind(&artifact.schema_title), 40))
    );
}

/// The ROC curves of a loop's iterations over each other, with the first of their matrices; whether there are any.
fn compare(
    out: &mut String,
    left: &mut usize,
    item: &Item,
    port: &str,
    made: &[(&TaskReport, &ArtifactRef)],
) -> bool {
    let curves: Vec<(String, Curve)> = made
        .iter()
        .filter_map(|(report, artifact)| Some((iteration(&report.path), visuals::curve(artifact)?)))
        .take(roc::CURVES)
        .collect();
    let ([_, _, ..], Some((_, first))) = (curves.as_slice(), made.first()) else { return false };
    if *left == 0 {
        return false;
    }
    *left -= 1;
    head(out, &format!("{}, iterations compared", clipped(&item.name, 60)), port, first);
    out.push_str("<div class=visual>");
    roc::draw(out, &curves);
    let matrices = made.iter().filter_map(|(report, artifact)| Some((report, visuals::matrix(artifact)?)));
    for (report, matrix) in matrices.take(SHOWN_EACH) {
        put!(out, "<div><h4>{}</h4>", iteration(&report.path));
        matrix.draw(out);
        out.push_str("</div>");
    }
    out.push_str("</div></figure>\n");
    true
}
