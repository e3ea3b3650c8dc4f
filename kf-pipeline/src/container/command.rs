//! Commands with their placeholders replaced.

use serde_json::Value as Json;

use crate::placeholder::{ArtifactPart, Lookup, Placeholder, replace_text};

/// Whether an input is there, by name: `IfPresent` asks.
pub type Present<'a> = dyn Fn(&str) -> bool + 'a;

/// The words of a command with their placeholders replaced. `Concat` becomes one word, `IfPresent` any number.
///
/// # Errors
/// What `lookup` refuses, and structures that are neither of the two.
pub fn words(command: &[String], lookup: &Lookup<'_>, present: &Present<'_>) -> Result<Vec<String>, String> {
    let mut words = Vec::with_capacity(command.len());
    for word in command {
        match structure(word) {
            Some(structure) => expand(&structure, lookup, present, &mut words)?,
            None => words.push(replace_text(word, lookup)?),
        }
    }
    Ok(words)
}

/// A placeholder that is a structure, as JSON text.
fn structure(word: &str) -> Option<Json> {
    if !word.trim_start().starts_with('{') {
        return None;
    }
    let value: Json = serde_json::from_str(word).ok()?;
    let (name, _) = value.as_object().filter(|fields| fields.len() == 1)?.iter().next()?;
    ["Concat", "IfPresent"].contains(&name.as_str()).then_some(value)
}

fn expand(
    part: &Json,
    lookup: &Lookup<'_>,
    present: &Present<'_>,
    words: &mut Vec<String>,
) -> Result<(), String> {
    match part {
        Json::String(text) => match structure(text) {
            Some(inner) => expand(&inner, lookup, present, words)?,
            None => words.push(replace_text(text, lookup)?),
        },
        Json::Array(parts) => {
            for part in parts {
                expand(part, lookup, present, words)?;
            }
        }
        Json::Object(fields) => {
            if let Some(parts) = fields.get("Concat") {
                let parts = parts.as_array().ok_or("`Concat` holds a list of parts")?;
                let mut inner = Vec::new();
                for part in parts {
                    expand(part, lookup, present, &mut inner)?;
                }
                words.push(inner.concat());
            } else if let Some(test) = fields.get("IfPresent") {
                let input = test.get("InputName").and_then(Json::as_str);
                let input = input.ok_or("`IfPresent` names an input under `InputName`")?;
                let branch = if present(input) { test.get("Then") } else { test.get("Else") };
                if let Some(branch) = branch {
                    expand(branch, lookup, present, words)?;
                }
            } else {
                return Err(format!("`{part}` is neither `Concat` nor `IfPresent`"));
            }
        }
        Json::Null => {}
        other => words.push(other.to_string()),
    }
    Ok(())
}

/// What a placeholder is called in a message.
pub(super) fn called(placeholder: Placeholder<'_>) -> String {
    match placeholder {
        Placeholder::InputParameter(name) => format!("input `{name}`"),
        Placeholder::InputArtifact(name, ArtifactPart::Metadata(Some(key))) => {
            format!("metadata `{key}` of input artifact `{name}`")
        }
        Placeholder::InputArtifact(name, _) => format!("input artifact `{name}`"),
        Placeholder::OutputArtifact(name, _) => format!("output artifact `{name}`"),
        Placeholder::OutputFile(name) => format!("output `{name}`"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words_of(command: &[&str]) -> Result<Vec<String>, String> {
        let lookup: &Lookup<'_> = &|placeholder| match placeholder {
            Placeholder::InputParameter("a") => Ok(Some(json!("one"))),
            Placeholder::InputParameter("b") => Ok(Some(json!(2.0))),
            _ => Ok(None),
        };
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        words(&command, lookup, &|name| ["a", "b"].contains(&name))
    }

    #[test]
    fn structures_nest() {
        let concat = r#"{"Concat": ["<", "{{$.inputs.parameters['a']}}", {"IfPresent": {"InputName": "b", "Then": {"Concat": ["+", "{{$.inputs.parameters['b']}}"]}}}, ">"]}"#;
        assert_eq!(words_of(&["echo", concat]), Ok(vec!["echo".into(), "<one+2>".into()]));
        let list = r#"{"IfPresent": {"InputName": "a", "Then": ["--a", "{{$.inputs.parameters['a']}}"], "Else": "none"}}"#;
        assert_eq!(words_of(&[list]), Ok(vec!["--a".into(), "one".into()]));
        let absent = r#"{"IfPresent": {"InputName": "c", "Then": "x"}}"#;
        assert_eq!(words_of(&[absent]), Ok(Vec::new()));
        let absent = r#"{"IfPresent": {"InputName": "c", "Then": "x", "Else": ["y", "z"]}}"#;
        assert_eq!(words_of(&[absent]), Ok(vec!["y".into(), "z".into()]));
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        let other = r#"{"Concat": 1, "b": 2}"#;
        assert_eq!(
            words_of(&[other, "{\"a\": 1}", "{not json"]),
            Ok(vec![other.into(), "{\"a\": 1}".into(), "{not json".into()])
        );
        assert!(words_of(&[r#"{"Concat": 1}"#]).unwrap_err().contains("list"));
    }
}
