//! Selectors: expressions in CEL that take a part out of a parameter's value.

use std::sync::Arc;

use cel::{Context, ExecutionError, Value};
use serde_json::Value as Json;

use super::expression::{Expression, to_cel, to_json};
use crate::error::shortened;

/// A compiled `parameterExpressionSelector`, such as `parseJson(string_value)["k"]`.
#[derive(Debug)]
pub(crate) struct Selector(Expression);

impl Selector {
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        Expression::compile("selector", text).map(Self)
    }

    /// The part of `value` that is meant. The expression sees it as text: a text as it is, anything else as JSON.
    pub(crate) fn select(&self, value: &Json) -> Result<Json, String> {
        let context = || {
            let mut context = Context::default();
            context.add_variable_from_value("string_value", text_of(value));
            let parse_json = |text: Arc<String>| -> Result<Value, ExecutionError> {
                let json = serde_json::from_str::<Json>(&text);
                json.map(|json| to_cel(&json))
                    .map_err(|error| ExecutionError::function_error("parseJson", error))
            };
            context.add_function("parseJson", parse_json).map_err(|error| error.to_string())?;
            Ok(context)
        };
        let found = self.0.evaluate(context, |found| match found {
            Ok(found) => to_json(&found),
            Err(error) => Err(error.to_string()),
        });
        found.map_err(|problem| {
            let value = shortened(value.to_string(), 300);
            format!("{} of {value}: {}", self.0, shortened(problem, 300))
        })
    }
}

/// A value as text: a text as it is, anything else as JSON.
fn text_of(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_taken_out() {
        let select = |text: &str, value: Json| Selector::compile(text)?.select(&value);
        let part = r#"parseJson(string_value)["k"]"#;
        assert_eq!(
            select(part, json!({"k": {"b": [1, 2.5, null], "a": true}})),
            Ok(json!({"a": true, "b": [1, 2.5, null]}))
        );
        assert_eq!(select(part, json!(r#"{"k": "text"}"#)), Ok(json!("text")));
        assert_eq!(
            select("parseJson(string_value)[1]", json!([1, 9007199254740993_i64])),
            Ok(json!(9007199254740993_i64))
        );
        assert_eq!(select("string_value", json!(3.5)), Ok(json!("3.5")));
        assert!(select(part, json!({"other": 1})).unwrap_err().contains("selector `parseJson"));
        assert!(select(part, json!("{")).unwrap_err().contains("EOF"));
        assert!(Selector::compile("parseJson(").unwrap_err().contains("not valid CEL"));
    }

    #[test]
    fn what_the_journal_could_not_hold_is_refused() {
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let select =
            |depth: usize| Selector::compile("parseJson(string_value)").unwrap().select(&json!(deep(depth)));
        assert_eq!(select(100).unwrap().to_string(), deep(100));
        let problem = select(101).unwrap_err();
        assert!(problem.contains("nested more than 100 deep") && problem.len() < 1_500, "{problem}");
        assert!(select(200).unwrap_err().contains("recursion limit"));
    }
}
