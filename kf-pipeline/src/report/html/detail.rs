//! What a task took and gave, how its attempts ended, and what its artifacts say.

use std::collections::BTreeMap;

use kf_core::Digest;
use kf_core::artifact::ArtifactKind as _;
use kf_core::artifact::{Html, Metadata};
use kf_core::metadata::Io;
use serde_json::Value as Json;

use super::text::{
    Safe, clipped, count, duration, first_line, is_scalar, kind, plural, port, put, shortened, size, time,
    value,
};
use super::tree::Item;
use crate::report::TaskReport;

const VALUE: usize = 1_000;
const ERROR: usize = 6_000;
/// How many parameters, artifacts, attempts and metadata entries of one task are shown.
const ENTRIES: usize = 40;
/// How many classes of a confusion matrix are shown.
const CLASSES: usize = 30;

pub(super) fn has_any(task: &TaskReport) -> bool {
    task.attempts > 0
        || task.error.is_some()
        || !(task.inputs.is_empty() && task.outputs.is_empty())
        || !(task.input_artifacts.is_empty() && task.output_artifacts.is_empty())
}

pub(super) fn write(out: &mut String, task: &TaskReport, item: &Item, contents: &BTreeMap<Digest, String>) {
    if let Some(error) = &task.error {
        put!(out, "<pre class=error>{}</pre>", shortened(error, ERROR));
    }
    attempts(out, task);
    out.push_str("<div class=columns>");
    parameters(out, "Parameters in", &task.inputs);
    parameters(out, "Parameters out", &task.outputs);
    out.push_str("</div>");
    artifacts(out, task);
    for io in task.output_artifacts.iter().take(ENTRIES) {
        metadata(out, io);
        content(out, io, contents);
    }
    put!(out, "<p class=fine>{}", Safe(&clipped(&task.path, 300)));
    let component = if task.component.is_empty() { &item.component } else { &task.component };
    let what = if item.is_import { "importer" } else { "component" };
    put!(out, " · {what} {}", Safe(&clipped(component, 100)));
    if let Some(started) = task.started_at {
        put!(out, " · started {}", time(started));
    }
    put!(out, " · ended {}</p>", time(task.ended_at));
}

fn attempts(out: &mut String, task: &TaskReport) {
    for attempt in task.failed_attempts.iter().take(ENTRIES) {
        let took = duration(attempt.ended_at.since(attempt.started_at));
        put!(
            out,
            "<details class=attempt><summary>Attempt {} failed after {took}: {}</summary><pre class=error>{}</pre></details>",
            attempt.attempt,
            Safe(&first_line(&attempt.error, 120)),
            shortened(&attempt.error, ERROR),
        );
    }
    more(out, task.failed_attempts.len(), "failed attempt");
}

fn more(out: &mut String, number: usize, word: &str) {
    if number > ENTRIES {
        put!(out, "<p class=note>{} not shown.</p>", plural(number - ENTRIES, &format!("more {word}")));
    }
}

fn parameters(out: &mut String, title: &str, parameters: &Metadata) {
    if parameters.is_empty() {
        return;
    }
    put!(out, "<div><h4>{title}</h4><table class=pairs>");
    for (name, json) in parameters.iter().take(ENTRIES) {
        put!(out, "<tr><th>{}<td>{}", shortened(port(name), 100), shown(json));
    }
    out.push_str("</table>");
    more(out, parameters.len(), "parameter");
    out.push_str("</div>");
}

/// A value in a cell; what is rounded keeps its digits in the title.
pub(super) fn shown(json: &Json) -> String {
    let (text, full) = (value(json), json.to_string());
    match json {
        Json::Number(_) if text != full => format!("<span title=\"{}\">{}</span>", Safe(&full), Safe(&text)),
        _ => shortened(&text, VALUE),
    }
}

fn artifacts(out: &mut String, task: &TaskReport) {
    let ins = task.input_artifacts.iter().map(|io| ("in", io));
    let outs = task.output_artifacts.iter().map(|io| ("out", io));
    let total = task.input_artifacts.len() + task.output_artifacts.len();
    if total == 0 {
        return;
    }
    out.push_str("<h4>Artifacts</h4><div class=wide><table class=artifacts><tr><th><th>name<th>kind<th class=num>size<th>digest<th>place");
    for (way, io) in ins.chain(outs).take(ENTRIES) {
        let artifact = &io.artifact;
        put!(out, "<tr><td>{way}<td>{}", shortened(port(&io.port), 60));
        let is_list = |list: &[Io]| list.iter().any(|other| other.port == io.port && other.index > 0);
        if is_list(if way == "in" { &task.input_artifacts } else { &task.output_artifacts }) {
            put!(out, "[{}]", io.index);
        }
        put!(
            out,
            "<td title=\"{}\">{}",
            Safe(&clipped(&artifact.schema_title, 200)),
            Safe(&clipped(kind(&artifact.schema_title), 40))
        );
        match artifact.digest {
            Some(digest) => {
                put!(
                    out,
                    "<td class=num title=\"{} bytes\">{}",
                    count(artifact.size as usize),
                    size(artifact.size)
                );
                put!(out, "<td><code title=\"{digest}\">{}</code>", &digest.to_hex()[..12]);
            }
            None => out.push_str("<td><td>not read"),
        }
        put!(out, "<td class=uri>{}", shortened(&artifact.uri, 300));
    }
    out.push_str("</table></div>");
    more(out, total, "artifact");
}

fn metadata(out: &mut String, io: &Io) {
    let all = &io.artifact.metadata;
    if all.is_empty() {
        return;
    }
    put!(
        out,
        "<h4>{} <small>{}</small></h4>",
        shortened(port(&io.port), 60),
        Safe(&clipped(kind(&io.artifact.schema_title), 40))
    );
    let matrix = all.get("confusionMatrix").and_then(Matrix::read);
    let rest = all.iter().filter(|(name, _)| matrix.is_none() || *name != "confusionMatrix");
    out.push_str("<table class=pairs>");
    for (name, json) in rest.take(ENTRIES) {
        let class = if is_scalar(json) { "" } else { " class=long" };
        put!(out, "<tr><th>{}<td{class}>{}", shortened(name, 100), shown(json));
    }
    out.push_str("</table>");
    more(out, all.len(), "entry");
    if let Some(matrix) = matrix {
        matrix.draw(out);
    }
}

/// The content of an HTML or Markdown artifact. HTML is shown where it can neither run scripts nor reach out.
fn content(out: &mut String, io: &Io, contents: &BTreeMap<Digest, String>) {
    let Some(text) = io.artifact.digest.and_then(|digest| contents.get(&digest)) else { return };
    put!(
        out,
        "<h4>{} <small>{}</small></h4>",
        shortened(port(&io.port), 60),
        Safe(&clipped(kind(&io.artifact.schema_title), 40))
    );
    if io.artifact.schema_title == Html::SCHEMA_TITLE {
        put!(
            out,
            "<iframe sandbox loading=lazy title=\"{}\" srcdoc=\"{}\"></iframe>",
            Safe(&clipped(&io.port, 60)),
            Safe(text)
        );
    } else {
        put!(out, "<pre class=text>{}</pre>", Safe(text));
    }
}

/// A confusion matrix in the form of KFP's `ClassificationMetrics`.
struct Matrix {
    classes: Vec<String>,
    rows: Vec<Vec<f64>>,
}

impl Matrix {
    fn read(json: &Json) -> Option<Self> {
        let json = json.get("struct").unwrap_or(json);
        let classes: Option<Vec<String>> = json
            .get("annotationSpecs")?
            .as_array()?
            .iter()
            .map(|class| Some(class.get("displayName")?.as_str()?.to_owned()))
            .collect();
        let rows: Option<Vec<Vec<f64>>> = json
            .get("rows")?
            .as_array()?
            .iter()
            .map(|row| row.get("row").unwrap_or(row).as_array()?.iter().map(Json::as_f64).collect())
            .collect();
        let (classes, rows) = (classes?, rows?);
        let fits = rows.len() == classes.len() && rows.iter().all(|row| row.len() == classes.len());
        (fits && (1..=CLASSES).contains(&classes.len())).then_some(Self { classes, rows })
    }

    fn draw(&self, out: &mut String) {
        out.push_str("<table class=matrix><caption>confusion matrix: a row for each true class, a column for each predicted</caption><tr><th>");
        for class in &self.classes {
            put!(out, "<th>{}", Safe(&clipped(class, 12)));
        }
        for (class, row) in self.classes.iter().zip(&self.rows) {
            put!(out, "<tr><th>{}", Safe(&clipped(class, 24)));
            let total: f64 = row.iter().sum();
            for cell in row {
                let share = if total > 0.0 { (cell / total * 100.0).clamp(0.0, 100.0) } else { 0.0 };
                put!(out, "<td style=\"--share:{share:.0}%\">{}", Safe(&clipped(&cell.to_string(), 12)));
            }
        }
        out.push_str("</table>");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_confusion_matrix_is_drawn_only_where_it_is_one() {
        let class = |name: &str| json!({ "displayName": name });
        let whole = json!({ "annotationSpecs": [class("cat"), class("<b>")], "rows": [{ "row": [9, 1] }, { "row": [0, 0] }] });
        let mut out = String::new();
        Matrix::read(&whole).unwrap().draw(&mut out);
        assert!(out.contains("<td style=\"--share:90%\">9") && out.contains("&lt;b&gt;"), "{out}");
        for broken in [
            json!({ "annotationSpecs": [class("cat")], "rows": [] }),
            json!({ "annotationSpecs": [class("cat")], "rows": [{ "row": [1, 2] }] }),
            json!({ "annotationSpecs": [{}], "rows": [{ "row": [1] }] }),
            json!({ "annotationSpecs": [class("cat")], "rows": [{ "row": ["x"] }] }),
            json!([]),
        ] {
            assert!(Matrix::read(&broken).is_none(), "{broken}");
        }
    }
}
