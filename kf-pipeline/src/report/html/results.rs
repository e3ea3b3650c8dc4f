//! The numbers that tasks came to, side by side.

use std::collections::BTreeSet;

use kf_core::artifact::ArtifactKind as _;
use kf_core::artifact::{ClassificationMetrics, Metrics};
use serde_json::Value as Json;

use super::detail::shown;
use super::facts::Facts;
use super::text::{Safe, clipped, is_scalar, plural, port, put};
use super::tree::{Dag, Item};
use crate::TaskState;
use crate::report::TaskReport;

const TABLES: usize = 12;
const ROWS: usize = 12;
const COLUMNS: usize = 8;

/// A table for each task that gave numbers; an iteration of a loop is a row.
pub(super) fn draw(out: &mut String, root: &Dag, facts: &Facts<'_>) {
    let mut found = Vec::new();
    collect(root, facts, &mut found);
    if found.is_empty() {
        return;
    }
    out.push_str("<section class=results><h2>Results</h2><div class=tables>");
    for (item, reports) in found.iter().take(TABLES) {
        table(out, item, reports);
    }
    out.push_str("</div>");
    if found.len() > TABLES {
        put!(
            out,
            "<p class=note>Results of {} are in the list below.</p>",
            plural(found.len() - TABLES, "more task")
        );
    }
    out.push_str("</section>");
}

fn collect<'t, 'r>(dag: &'t Dag, facts: &Facts<'r>, found: &mut Vec<(&'t Item, Vec<&'r TaskReport>)>) {
    for item in &dag.items {
        if let Some(inside) = &item.inside {
            collect(inside, facts, found);
            continue;
        }
        let done = |task: &&TaskReport| matches!(task.state, TaskState::Succeeded | TaskState::Cached);
        let reports: Vec<&TaskReport> =
            facts.all(item).iter().map(|index| facts.task(*index)).filter(done).collect();
        if reports.iter().any(|report| numbers(report).next().is_some()) {
            let mut reports = reports;
            reports.sort_by_cached_key(|report| iterations(&report.path));
            found.push((item, reports));
        }
    }
}

/// What a task gave that is a number, and its metrics.
fn numbers(report: &TaskReport) -> impl Iterator<Item = (&str, &Json)> {
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

fn table(out: &mut String, item: &Item, reports: &[&TaskReport]) {
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in reports.iter().take(ROWS).flat_map(|report| numbers(report)) {
        if !columns.contains(&name) && columns.len() < COLUMNS {
            columns.push(name);
        }
    }
    let many = reports.len() > 1;
    // What the rows differ in.
    let differs = |name: &str| {
        reports
            .iter()
            .map(|report| report.inputs.get(name).map(Json::to_string))
            .collect::<BTreeSet<_>>()
            .len()
            > 1
    };
    let given: Vec<&str> = reports[0]
        .inputs
        .iter()
        .filter(|(name, json)| many && is_scalar(json) && differs(name))
        .map(|(name, _)| name.as_str())
        .take(3)
        .collect();
    put!(
        out,
        "<div class=wide><table class=numbers><caption>{}</caption><tr>",
        Safe(&clipped(&item.name, 60))
    );
    if many {
        out.push_str("<th>");
    }
    for name in &given {
        put!(out, "<th class=given>{}", Safe(&clipped(name, 30)));
    }
    for name in &columns {
        put!(out, "<th>{}", Safe(&clipped(port(name), 30)));
    }
    for report in reports.iter().take(ROWS) {
        out.push_str("<tr>");
        if many {
            let numbers: Vec<String> =
                iterations(&report.path).iter().map(|number| format!("[{number}]")).collect();
            put!(out, "<th>{}", numbers.concat());
        }
        for name in &given {
            put!(out, "<td class=given>{}", report.inputs.get(*name).map(shown).unwrap_or_default());
        }
        for name in &columns {
            let json = numbers(report).find(|(other, _)| other == name).map(|(_, json)| json);
            put!(out, "<td>{}", json.map(shown).unwrap_or_default());
        }
    }
    out.push_str("</table>");
    if reports.len() > ROWS {
        put!(out, "<p class=note>{} not shown.</p>", plural(reports.len() - ROWS, "more row"));
    }
    out.push_str("</div>");
}
