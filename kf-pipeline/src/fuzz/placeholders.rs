//! Placeholders.

use serde_json::{Value as Json, json};

use super::fuzz;
use super::mutate::{self, Random};
use crate::placeholder::{self, ArtifactPart, Placeholder, RunNames};

const SEEDS: &[&str] = &[
    "{{$}}",
    "{{$.json_escape[1]}}",
    "--x={{$.inputs.parameters['a-b c']}} {{$.inputs.parameters[\"x\"]}}",
    "{{$.inputs.artifacts['x']}}{{$.inputs.artifacts['x'].uri}}{{$.outputs.artifacts['x'].path}}",
    "{{$.inputs.artifacts['x'].metadata['k']}} {{$.inputs.artifacts['x'].metadata}}",
    "{{$.outputs.parameters['x'].output_file}}",
    "{{$.outputs.output_file}}{{$.outputMetadataUri}}",
    "{{$.pipeline_job_uuid}}/{{$.pipeline_task_name}}/{{$.pipeline_task_uuid}}/{{$.workspace_path}}",
    "{{$.pipeline_job_resource_name}} {{$.pipeline_job_create_time_utc}} {{$.pipeline_root}}",
    "{{${{$.inputs.parameters['n']}}}}",
    "a {{$.pipeline_google_cloud_location}} é{{$ {{$",
];

const TOKENS: &[&str] = &[
    "{{$",
    "}}",
    "{{",
    "}",
    "$",
    ".",
    "inputs",
    "outputs",
    "parameters",
    "artifacts",
    "['",
    "']",
    "[\"",
    "\"]",
    "[",
    "]",
    "'",
    "metadata",
    ".uri",
    ".path",
    "json_escape[",
    "99999999999",
    "é",
    "\u{1F600}",
    "\0",
    "\n",
    " ",
    "output_file",
];

/// Every input has a value that is a placeholder itself.
fn known(names: &RunNames, placeholder: Placeholder<'_>) -> Result<Option<Json>, String> {
    Ok(match placeholder {
        Placeholder::InputParameter("none") => Some(Json::Null),
        Placeholder::InputParameter(name) if name.len() > 40 => return Err(format!("no {name}")),
        Placeholder::InputParameter(_) => Some(json!("{{$.inputs.parameters['x']}}{{$")),
        Placeholder::InputArtifact(_, ArtifactPart::Metadata(None)) => Some(json!({"k": [1, 2.5]})),
        Placeholder::ExecutorInput { escapes } => Some(json!("\\\"".repeat(1 << escapes))),
        other => names.look_up("outer/loop[2]/train[10]", other),
    })
}

fn check(input: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(input);
    let names = RunNames { uuid: "{{$.pipeline_root}}".to_owned(), ..RunNames::default() };
    let lookup = |placeholder: Placeholder<'_>| known(&names, placeholder);
    let replaced = placeholder::replace_text(&text, &lookup);
    if !text.contains("{{$") && replaced.as_deref() != Ok(text.as_ref()) {
        return Err("a text without a placeholder was changed".to_owned());
    }
    if placeholder::replace_text(&text, &|_| Ok(None)).as_deref() != Ok(text.as_ref()) {
        return Err("a text was changed though nothing is known".to_owned());
    }
    if replaced.is_ok_and(|replaced| replaced.len() > 600 * (text.len() + 1)) {
        return Err("a text grew without bounds".to_owned());
    }
    let value = json!({text.as_ref(): [text, {"a": text}]});
    if placeholder::may_hold(&value) != text.contains("{{$") {
        return Err("it can't be told whether there is a placeholder".to_owned());
    }
    // Refused or not: it comes back.
    let _ = placeholder::replace(&value, &lookup);
    let _ = placeholder::replace(&json!(text), &lookup);
    let _ = placeholder::task_name(&text);
    Ok(())
}

fn next(random: &mut Random) -> Vec<u8> {
    mutate::text(random, SEEDS, TOKENS)
}

#[test]
fn placeholders_bear_any_text() {
    fuzz("placeholders", next, check);
}
