//! Placeholders: `{{$.inputs.parameters['x']}}` and its kin, replaced when what they stand for is known.
//!
//! The forms are those of the KFP v2 IR. What is not among them stays as it is written. What a placeholder was
//! replaced by is not looked at again, so that a value never turns into a placeholder.
//!
//! Who carries pipelines elsewhere finds with [`replace_text`], [`replace`] and [`words`] what a text, a value or a command
//! asks for.

use serde_json::{Map, Value as Json};

pub use crate::container::{Present, words};

/// What stands between `{{$` and `}}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placeholder<'a> {
    /// The whole executor input as JSON.
    ExecutorInput {
        /// Inside of how many JSON texts it lies, for each of which it is escaped once.
        escapes: u32,
    },
    /// The value of an input parameter.
    InputParameter(&'a str),
    /// Something of an input artifact.
    InputArtifact(&'a str, ArtifactPart<'a>),
    /// Something of an output artifact.
    OutputArtifact(&'a str, ArtifactPart<'a>),
    /// The file that an output parameter is written to.
    OutputFile(&'a str),
    /// The file that the executor output is written to.
    OutputMetadata,
    /// Something of the run.
    Run(RunField),
    /// Something of the task.
    Task(TaskField),
}

/// What of an artifact is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactPart<'a> {
    /// All that is known of it, as KFP's `RuntimeArtifact`.
    Whole,
    /// Where it lies.
    Uri,
    /// The file or folder with its content.
    Path,
    /// What is said of it, or what is said under this key.
    Metadata(Option<&'a str>),
}

/// What of a run is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunField {
    /// The name of its resource: the pipeline's, and a part of the run's id.
    ResourceName,
    /// Its id.
    Uuid,
    /// When it was made, in RFC 3339.
    CreatedAt,
    /// Where its artifacts lie.
    Root,
    /// The folder that its tasks share.
    Workspace,
}

/// What of a task is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskField {
    /// Its name.
    Name,
    /// An id that it has in its run.
    Uuid,
}

/// What placeholders say of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunNames {
    /// The pipeline's name and a part of the id, as upstream names a run's resource.
    pub(crate) resource_name: String,
    pub(crate) uuid: String,
    /// RFC 3339.
    pub(crate) created_at: String,
    pub(crate) root: String,
    pub(crate) workspace: String,
    /// What final statuses call a success.
    pub(crate) succeeded: &'static str,
}

impl RunNames {
    /// What a placeholder that the task at `path` holds says of the run or of the task; none where it is about something
    /// else.
    pub(crate) fn look_up(&self, path: &str, placeholder: Placeholder<'_>) -> Option<Json> {
        match placeholder {
            Placeholder::Run(field) => Some(self.field(field).into()),
            Placeholder::Task(TaskField::Name) => Some(task_name(path).into()),
            Placeholder::Task(TaskField::Uuid) => Some(task_uuid(&self.uuid, path).into()),
            _ => None,
        }
    }

    fn field(&self, field: RunField) -> &str {
        match field {
            RunField::ResourceName => &self.resource_name,
            RunField::Uuid => &self.uuid,
            RunField::CreatedAt => &self.created_at,
            RunField::Root => &self.root,
            RunField::Workspace => &self.workspace,
        }
    }
}

/// The name of the task at `path`, without the iteration.
pub(crate) fn task_name(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or(path);
    last.split_once('[').map_or(last, |(name, _)| name)
}

/// An id in the form of a UUID that is the same for the same task of the same run.
fn task_uuid(run: &str, path: &str) -> String {
    let hex = kf_core::Digest::of(format!("{run}/{path}")).to_hex();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// Whether there may be a placeholder in a value.
pub fn may_hold(value: &Json) -> bool {
    match value {
        Json::String(text) => text.contains("{{$"),
        Json::Array(items) => items.iter().any(may_hold),
        Json::Object(fields) => fields.iter().any(|(key, value)| key.contains("{{$") || may_hold(value)),
        _ => false,
    }
}

/// Says what a placeholder stands for; none where it is to stay.
pub type Lookup<'a> = dyn Fn(Placeholder<'_>) -> Result<Option<Json>, String> + 'a;

/// Text with its placeholders replaced.
///
/// # Errors
/// What `lookup` refuses.
pub fn replace_text(text: &str, lookup: &Lookup<'_>) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{$") {
        result.push_str(&rest[..start]);
        let found = &rest[start..];
        let Some(end) = found.find("}}") else {
            rest = found;
            break;
        };
        let (whole, after) = found.split_at(end + 2);
        let value = match parse(&whole[3..end]) {
            Some(placeholder) => lookup(placeholder)?,
            None => None,
        };
        match value {
            Some(value) => {
                result.push_str(&as_text(&value));
                rest = after;
            }
            // There may be another one further in.
            None => {
                result.push_str(&whole[..3]);
                rest = &found[3..];
            }
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// A value with the placeholders in its texts and keys replaced. A text that is nothing but a placeholder becomes the
/// value that this stands for; inside of lists and structs it becomes its text, as upstream does.
///
/// # Errors
/// What `lookup` refuses.
pub fn replace(value: &Json, lookup: &Lookup<'_>) -> Result<Json, String> {
    if let Json::String(text) = value {
        let inner = text.strip_prefix("{{$").and_then(|rest| rest.strip_suffix("}}"));
        if let Some(placeholder) = inner.filter(|inner| !inner.contains("}}")).and_then(parse)
            && let Some(value) = lookup(placeholder)?
        {
            return Ok(value);
        }
    }
    replace_inside(value, lookup)
}

/// A value with the placeholders in its texts and keys replaced by texts.
fn replace_inside(value: &Json, lookup: &Lookup<'_>) -> Result<Json, String> {
    Ok(match value {
        Json::String(text) => replace_text(text, lookup)?.into(),
        Json::Array(items) => {
            items.iter().map(|item| replace_inside(item, lookup)).collect::<Result<_, _>>()?
        }
        Json::Object(fields) => Json::Object(replace_fields(fields, lookup)?),
        other => other.clone(),
    })
}

/// As [`replace_inside`], of an object's fields.
pub(crate) fn replace_fields(
    fields: &Map<String, Json>,
    lookup: &Lookup<'_>,
) -> Result<Map<String, Json>, String> {
    let entry =
        |(key, value): (&String, &Json)| Ok((replace_text(key, lookup)?, replace_inside(value, lookup)?));
    fields.iter().map(entry).collect()
}

/// Up to here every whole number is a float of its own.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A value as it stands in a command: text as it is, numbers as Go's `FormatFloat(x, 'f', -1, 64)` prints them,
/// anything else as JSON, nothing for a null.
pub fn as_text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // Rust's `Display` has neither exponents nor a needless `.0`.
            Some(float) => float.to_string(),
            None => number.to_string(),
        },
        other => with_whole_numbers(other).to_string(),
    }
}

/// A list or struct as Kubeflow's backend hands it on: a number in it that is whole has no fraction, though YAML and
/// KFP's compiler write `1.0` for a Python `1`.
pub(crate) fn with_whole_numbers(value: &Json) -> Json {
    match value {
        Json::Array(items) => items.iter().map(with_whole_numbers).collect(),
        Json::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), with_whole_numbers(value))).collect()
        }
        Json::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < LARGEST_EXACT);
            whole.map_or_else(|| value.clone(), |float| Json::from(float as i64))
        }
        other => other.clone(),
    }
}

fn parse(inner: &str) -> Option<Placeholder<'_>> {
    let inner = inner.trim();
    if inner.is_empty() {
        return Some(Placeholder::ExecutorInput { escapes: 0 });
    }
    let rest = inner.strip_prefix('.')?;
    if let Some(level) = rest.strip_prefix("json_escape[") {
        let escapes = level.strip_suffix(']')?.parse().ok().filter(|level| *level <= 8)?;
        return Some(Placeholder::ExecutorInput { escapes });
    }
    if let Some(rest) = rest.strip_prefix("inputs.") {
        if let Some(rest) = rest.strip_prefix("parameters") {
            let (name, rest) = key(rest)?;
            return rest.is_empty().then_some(Placeholder::InputParameter(name));
        }
        let (name, rest) = key(rest.strip_prefix("artifacts")?)?;
        return Some(Placeholder::InputArtifact(name, part(rest)?));
    }
    if let Some(rest) = rest.strip_prefix("outputs.") {
        if rest == "output_file" || rest == "outputFile" {
            return Some(Placeholder::OutputMetadata);
        }
        if let Some(rest) = rest.strip_prefix("parameters") {
            let (name, rest) = key(rest)?;
            let file = [".output_file", ".outputFile"].contains(&rest);
            return file.then_some(Placeholder::OutputFile(name));
        }
        let (name, rest) = key(rest.strip_prefix("artifacts")?)?;
        return Some(Placeholder::OutputArtifact(name, part(rest)?));
    }
    Some(match rest {
        "outputMetadataUri" | "output_metadata_uri" => Placeholder::OutputMetadata,
        "pipeline_job_name" | "pipeline_job_resource_name" => Placeholder::Run(RunField::ResourceName),
        "pipeline_job_uuid" => Placeholder::Run(RunField::Uuid),
        "pipeline_job_create_time_utc" | "pipeline_job_schedule_time_utc" => {
            Placeholder::Run(RunField::CreatedAt)
        }
        "pipeline_root" => Placeholder::Run(RunField::Root),
        "workspace_path" => Placeholder::Run(RunField::Workspace),
        "pipeline_task_name" => Placeholder::Task(TaskField::Name),
        "pipeline_task_uuid" => Placeholder::Task(TaskField::Uuid),
        _ => return None,
    })
}

/// `['name']` or `["name"]`, and what follows.
fn key(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('[')?;
    let quote = text.chars().next().filter(|quote| "'\"".contains(*quote))?;
    let (name, rest) = text[1..].split_once(quote)?;
    Some((name, rest.strip_prefix(']')?))
}

fn part(text: &str) -> Option<ArtifactPart<'_>> {
    Some(match text {
        "" => ArtifactPart::Whole,
        ".uri" => ArtifactPart::Uri,
        ".path" => ArtifactPart::Path,
        ".metadata" => ArtifactPart::Metadata(None),
        _ => {
            let (name, rest) = key(text.strip_prefix(".metadata")?)?;
            rest.is_empty().then_some(ArtifactPart::Metadata(Some(name)))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn known(placeholder: Placeholder<'_>) -> Result<Option<Json>, String> {
        match placeholder {
            Placeholder::InputParameter("n") => Ok(Some(json!(3.0))),
            Placeholder::InputParameter("text") => Ok(Some(json!("{{$.inputs.parameters['n']}}"))),
            Placeholder::InputParameter("list") => Ok(Some(json!([1, 2.5, "x"]))),
            Placeholder::InputParameter("none") => Ok(Some(Json::Null)),
            Placeholder::InputParameter(other) => Err(format!("no {other}")),
            _ => Ok(None),
        }
    }

    #[test]
    fn forms() {
        let cases = [
            ("", Placeholder::ExecutorInput { escapes: 0 }),
            (".json_escape[1]", Placeholder::ExecutorInput { escapes: 1 }),
            (".inputs.parameters['a-b c']", Placeholder::InputParameter("a-b c")),
            (".inputs.parameters[\"x\"]", Placeholder::InputParameter("x")),
            (".inputs.artifacts['x']", Placeholder::InputArtifact("x", ArtifactPart::Whole)),
            (".inputs.artifacts['x'].uri", Placeholder::InputArtifact("x", ArtifactPart::Uri)),
            (".outputs.artifacts['x'].path", Placeholder::OutputArtifact("x", ArtifactPart::Path)),
            (
                ".inputs.artifacts['x'].metadata['k']",
                Placeholder::InputArtifact("x", ArtifactPart::Metadata(Some("k"))),
            ),
            (
                ".inputs.artifacts['x'].metadata",
                Placeholder::InputArtifact("x", ArtifactPart::Metadata(None)),
            ),
            (".outputs.parameters['x'].output_file", Placeholder::OutputFile("x")),
            (".outputs.output_file", Placeholder::OutputMetadata),
            (".outputMetadataUri", Placeholder::OutputMetadata),
            (".pipeline_job_uuid", Placeholder::Run(RunField::Uuid)),
            (".pipeline_task_name", Placeholder::Task(TaskField::Name)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for strange in
            [".pipeline_google_cloud_location", ".inputs.parameters.x", ".inputs.parameters['x", "x"]
        {
            assert_eq!(parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn text_is_replaced_once_and_what_is_unknown_stays() {
        let text = |text: &str| replace_text(text, &known);
        assert_eq!(
            text("a{{$.inputs.parameters['n']}}b{{$.inputs.parameters['list']}}"),
            Ok("a3b[1,2.5,\"x\"]".into())
        );
        assert_eq!(text("{{$.inputs.parameters['text']}}"), Ok("{{$.inputs.parameters['n']}}".into()));
        assert_eq!(text("<{{$.inputs.parameters['none']}}>"), Ok("<>".into()));
        let unknown = "{{$.pipeline_google_cloud_location}} {{$ {{$";
        assert_eq!(text(unknown), Ok(unknown.into()));
        assert_eq!(text("{{${{$.inputs.parameters['n']}}"), Ok("{{$3".into()));
        assert_eq!(text("é{{$.inputs.parameters['é']}}"), Err("no é".into()));
    }

    #[test]
    fn values_keep_their_type_where_they_stand_alone() {
        let whole = json!("{{$.inputs.parameters['list']}}");
        assert_eq!(replace(&whole, &known), Ok(json!([1, 2.5, "x"])));
        let nested = json!({"{{$.inputs.parameters['n']}}": ["{{$.inputs.parameters['n']}}", 1]});
        assert_eq!(replace(&nested, &known), Ok(json!({"3": ["3", 1]})));
        assert!(may_hold(&nested) && !may_hold(&json!({"a": ["{$"]})));
    }

    #[test]
    fn numbers_are_printed_as_go_prints_them() {
        let list = json!([1.0, 2.5, {"a": [-3.0, 1e-3]}, "1.0", 9_007_199_254_740_993_i64]);
        assert_eq!(as_text(&list), r#"[1,2.5,{"a":[-3,0.001]},"1.0",9007199254740993]"#);
        let printed = |value: Json| as_text(&value);
        assert_eq!(printed(json!(3.0)), "3");
        assert_eq!(printed(json!(1e21)), "1000000000000000000000");
        assert_eq!(printed(json!(0.000_000_1)), "0.0000001");
        assert_eq!(printed(json!(true)), "true");
    }

    #[test]
    fn names_of_tasks() {
        assert_eq!(task_name("outer/loop[2]/train[10]"), "train");
        assert_eq!(task_uuid("r", "a"), task_uuid("r", "a"));
        assert_eq!(task_uuid("r", "a").len(), 36);
    }
}
