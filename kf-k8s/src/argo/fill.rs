//! KFP's placeholders in texts, values and commands, replaced by what Argo fills in.

use std::cell::RefCell;

use kf_pipeline::placeholder::{self, Lookup, Placeholder};
use serde_json::Value as Json;

use super::text::Text;

/// What stands around the number of something to fill in, while a text is taken apart. Unicode gives these no meaning.
const OPEN: char = '\u{f0000}';
const CLOSE: char = '\u{f0001}';

/// Says what a placeholder becomes; none where it stands for nothing here.
pub(super) type Find<'a> = dyn Fn(Placeholder<'_>) -> Result<Option<Text>, String> + 'a;

/// The things to fill in that were found so far.
#[derive(Default)]
struct Found(RefCell<Vec<Text>>);

impl Found {
    fn mark(&self, text: Text) -> String {
        let mut texts = self.0.borrow_mut();
        texts.push(text);
        format!("{OPEN}{}{CLOSE}", texts.len() - 1)
    }

    /// A text with marks in it.
    fn filled(&self, marked: &str) -> Text {
        let texts = self.0.borrow();
        let mut all = Text::default();
        let mut pieces = marked.split(OPEN);
        all.push_literal(pieces.next().unwrap_or_default());
        for piece in pieces {
            let number =
                piece.split_once(CLOSE).and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
            match number.and_then(|(number, rest): (usize, _)| Some((texts.get(number)?, rest))) {
                Some((text, rest)) => {
                    all.push(text.clone());
                    all.push_literal(rest);
                }
                None => all.push_literal(piece),
            }
        }
        all
    }

    fn json(&self, value: &Json, all: &mut Text) {
        match value {
            Json::String(text) => self.string(text, all),
            Json::Array(items) => {
                all.push_literal("[");
                for (index, item) in items.iter().enumerate() {
                    all.push_literal(if index > 0 { "," } else { "" });
                    self.json(item, all);
                }
                all.push_literal("]");
            }
            Json::Object(fields) => {
                all.push_literal("{");
                for (index, (key, value)) in fields.iter().enumerate() {
                    all.push_literal(if index > 0 { "," } else { "" });
                    self.string(key, all);
                    all.push_literal(":");
                    self.json(value, all);
                }
                all.push_literal("}");
            }
            Json::Null => all.push_literal("null"),
            other => all.push_literal(&placeholder::as_text(other)),
        }
    }

    fn string(&self, text: &str, all: &mut Text) {
        let filled = self.filled(text);
        match filled.as_literal() {
            Some(literal) => all.push_literal(&Json::from(literal).to_string()),
            None => all.push(Text::of_code(format!("toJson({})", filled.code()))),
        }
    }

    fn lookup<'a>(&'a self, find: &'a Find<'a>) -> Box<Lookup<'a>> {
        Box::new(|placeholder| Ok(find(placeholder)?.map(|text| Json::from(self.mark(text)))))
    }
}

/// A text with its placeholders replaced.
pub(super) fn text(text: &str, find: &Find<'_>) -> Result<Text, String> {
    let found = Found::default();
    let marked = placeholder::replace_text(text, &*found.lookup(find))?;
    Ok(found.filled(&marked))
}

/// The words of a command, each with its placeholders replaced.
pub(super) fn words(
    command: &[String],
    find: &Find<'_>,
    present: &placeholder::Present<'_>,
) -> Result<Vec<Text>, String> {
    let found = Found::default();
    let marked = placeholder::words(command, &*found.lookup(find), present)?;
    Ok(marked.iter().map(|word| found.filled(word)).collect())
}

/// A value's JSON, with the placeholders in its texts and keys replaced.
pub(super) fn json(value: &Json, find: &Find<'_>) -> Result<Text, String> {
    let found = Found::default();
    let marked = placeholder::replace(value, &*found.lookup(find))?;
    let mut all = Text::default();
    found.json(&marked, &mut all);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::text::Reference;
    use super::*;

    #[test]
    fn placeholders_become_things_to_fill_in() {
        let find: &Find<'_> = &|placeholder| match placeholder {
            Placeholder::InputParameter(name) => Ok(Some(Reference::Input(name.to_owned()).into())),
            Placeholder::OutputMetadata => Err("none".into()),
            _ => Ok(None),
        };
        let a = "{{$.inputs.parameters['a']}}";
        assert_eq!(text(&format!("<{a}>"), find).unwrap().template().unwrap(), "<{{inputs.parameters.a}}>");
        let value = json!({"k": [format!("<{a}>"), 1.0, null], "l": "x"});
        assert_eq!(
            json(&value, find).unwrap().template().unwrap(),
            r#"{"k":[{{=toJson(('<' + inputs.parameters['a'] + '>'))}},1,null],"l":"x"}"#
        );
        assert!(text("{{$.outputs.output_file}}", find).unwrap_err().contains("none"));
        // What stands for nothing here is left, and refused when it is written.
        assert!(text("{{$.pipeline_google_cloud_location}}", find).unwrap().template().is_err());
        let words = words(
            &["{\"IfPresent\": {\"InputName\": \"b\", \"Then\": \"x\"}}".into(), a.into()],
            find,
            &|_| false,
        );
        assert_eq!(words.unwrap().len(), 1);
    }
}
