//! What the page's script lists: rows, tasks and artifacts as JSON inside the page.

use std::time::Duration;

use kf_core::Timestamp;
use kf_core::artifact::Metadata;
use kf_core::metadata::Io;
use kf_core::process::Usage;
use serde_json::{Value as Json, json};

use super::artifacts::Artifacts;
use super::icons::word;
use crate::AttemptEvent;
use crate::TaskState;
use crate::report::model::{Counts, Facts, Kind, Row, Rows, STATES};
use crate::report::text::{is_scalar, kind, plain, plain_part, port, value};
use crate::report::{LogTail, TaskReport};

/// How much is said of each task and artifact.
#[derive(Clone, Copy)]
struct Measure {
    /// Characters of a value.
    value: usize,
    /// Characters of an error.
    error: usize,
    /// Parameters, artifacts, attempts and metadata entries.
    entries: usize,
    log: bool,
}

const FULL: Measure = Measure { value: 1_000, error: 6_000, entries: 40, log: true };
const SHORT: Measure = Measure { value: 60, error: 300, entries: 6, log: false };
/// Up to how many bytes tasks are told of in full, and at all.
const FULL_BYTES: usize = 8 << 20;
const BYTES: usize = 14 << 20;

/// The JSON, safe inside of a `script` element.
pub(super) fn write(rows: &Rows, facts: &Facts<'_>, artifacts: &Artifacts<'_>) -> String {
    let since = |at: Timestamp| at.as_millis().saturating_sub(facts.start.as_millis());
    let list: Vec<Json> = rows.rows.iter().map(|row| row_json(row, &since)).collect();
    let mut left = Left(0);
    let all = &facts.report.tasks;
    // What failed is told of first, while there is room.
    let mut order: Vec<usize> = (0..all.len()).filter(|index| rows.listed.contains(index)).collect();
    order.sort_by_key(|index| all[*index].state != TaskState::Failed);
    let mut tasks = vec![Json::Null; all.len()];
    for index in order {
        let tolerated = facts.tolerated(index);
        tasks[index] = left.measured(|measure| task_json(&all[index], tolerated, artifacts, measure, &since));
    }
    let artifacts: Vec<Json> = artifacts
        .list
        .iter()
        .map(|artifact| {
            left.measured(|measure| {
                json!([
                    plain_part(kind(&artifact.schema_title), 60),
                    plain_part(&artifact.uri, 400),
                    artifact.digest.map(|digest| digest.to_string()).unwrap_or_default(),
                    artifact.size,
                    pairs(&artifact.metadata, measure),
                ])
            })
        })
        .collect();
    let all = json!({
        "start": facts.start.as_millis(),
        "states": STATES.map(word),
        "rows": list,
        "tasks": tasks,
        "artifacts": artifacts,
        "leftOut": rows.left_out,
    });
    safe(&all)
}

/// JSON that ends no `script` element.
fn safe(json: &Json) -> String {
    json.to_string().replace('<', "\\u003c")
}

/// What has been written so far decides how much the next may say.
struct Left(usize);

impl Left {
    fn measured(&mut self, make: impl Fn(Measure) -> Json) -> Json {
        if self.0 > BYTES {
            return Json::Null;
        }
        let json = make(if self.0 > FULL_BYTES { SHORT } else { FULL });
        self.0 += safe(&json).len();
        json
    }
}

fn row_json(row: &Row, since: &impl Fn(Timestamp) -> i64) -> Json {
    let kind = match row.kind {
        Kind::Task => 0,
        Kind::Group => 1,
        Kind::Branch => 2,
        Kind::Loop => 3,
        Kind::Iteration => 4,
    };
    let flags = u8::from(row.critical)
        | u8::from(row.open) << 1
        | u8::from(row.is_report) << 2
        | u8::from(row.tolerated) << 3;
    let (from, to) = row.span.map_or((Json::Null, Json::Null), |(from, to)| {
        (Json::from(since(from)), Json::from(since(to).max(since(from))))
    });
    let state = STATES.iter().position(|state| *state == row.state);
    let counts: Option<Vec<usize>> =
        row.counts.map(|counts: Counts| STATES.map(|state| counts.of(state)).to_vec());
    json!([row.depth, kind, plain(&row.name), plain(&row.note), state, row.task, from, to, flags, counts])
}

fn task_json(
    task: &TaskReport,
    tolerated: Option<&str>,
    artifacts: &Artifacts<'_>,
    measure: Measure,
    since: &impl Fn(Timestamp) -> i64,
) -> Json {
    let mut out = serde_json::Map::new();
    let mut put = |name: &str, json: Json| {
        if !matches!(&json, Json::Null) && json != json!([]) {
            out.insert(name.to_owned(), json);
        }
    };
    put("path", plain_part(&task.path, 400).into());
    if !task.component.is_empty() {
        put("component", plain_part(&task.component, 120).into());
    }
    put("attempts", task.attempts.into());
    put("ended", since(task.ended_at).into());
    put("error", task.error.as_deref().map(|error| plain_part(error, measure.error)).into());
    put("tolerated", tolerated.map(|what| plain_part(what, 300)).into());
    let failed = task.failed_attempts.iter().take(measure.entries).map(|failed| {
        let (from, to) = (since(failed.started_at), since(failed.ended_at));
        let error = plain_part(&failed.error, measure.error);
        json!([
            failed.attempt,
            from,
            to.max(from),
            error,
            used(&failed.usage),
            events(&failed.events, measure, since)
        ])
    });
    put("failed", failed.collect());
    put("used", used(&task.usage));
    put("events", events(&task.events, measure, since));
    put("cached", task.cached_from.as_ref().map(|from| json!([from.run.as_str(), plain(&from.task)])).into());
    put("in", pairs(&task.inputs, measure));
    put("out", pairs(&task.outputs, measure));
    put("reads", ios(&task.input_artifacts, artifacts, measure));
    put("makes", ios(&task.output_artifacts, artifacts, measure));
    let log = |log: &LogTail| json!([plain(&log.text), plain(&log.path.display().to_string()), log.size]);
    put("log", task.log.as_ref().filter(|_| measure.log).map(log).into());
    Json::Object(out)
}

/// Milliseconds that it ran, milliseconds of processors, bytes; null where nothing is known.
fn used(usage: &Usage) -> Json {
    if usage.is_unknown() {
        return Json::Null;
    }
    let millis =
        |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    json!([millis(usage.wall), millis(usage.cpu), usage.peak_memory])
}

/// When each was told, and what.
fn events(events: &[AttemptEvent], measure: Measure, since: &impl Fn(Timestamp) -> i64) -> Json {
    let shown = events.iter().take(measure.entries);
    let shown = shown.map(|event| json!([since(event.at), plain_part(&event.message, measure.value)]));
    with_rest(shown.collect(), events.len(), measure)
}

/// Names and values as text; where the whole value is a number or a word, so much is said. What is left out is a
/// number at the end.
fn pairs(parameters: &Metadata, measure: Measure) -> Json {
    let shown = parameters.iter().take(measure.entries).map(|(name, json)| {
        let text = plain_part(&value(json), measure.value);
        let exact = json.to_string();
        match json {
            Json::Number(_) if exact != text => json!([plain_part(port(name), 100), text, 1, exact]),
            _ => json!([plain_part(port(name), 100), text, u8::from(is_scalar(json))]),
        }
    });
    with_rest(shown.collect(), parameters.len(), measure)
}

fn ios(list: &[Io], artifacts: &Artifacts<'_>, measure: Measure) -> Json {
    let is_list = |io: &Io| list.iter().any(|other| other.port == io.port && other.index > 0);
    let shown = list.iter().take(measure.entries).map(|io| {
        let place = if is_list(io) { format!("[{}]", io.index) } else { String::new() };
        let name = format!("{}{place}", plain_part(port(&io.port), 80));
        json!([name, artifacts.number(&io.artifact)])
    });
    with_rest(shown.collect(), list.len(), measure)
}

fn with_rest(mut shown: Vec<Json>, all: usize, measure: Measure) -> Json {
    if all > measure.entries {
        shown.push((all - measure.entries).into());
    }
    shown.into()
}
