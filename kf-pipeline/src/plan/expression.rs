//! Expressions in CEL, and JSON as its values, and back.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::objects::Key;
use cel::{Context, ExecutionError, Program, Value};
use serde_json::Value as Json;

/// A compiled expression. As text it is what it is for and how it is written.
pub(super) struct Expression {
    what: &'static str,
    text: String,
    program: Program,
}

impl Expression {
    /// Compiles the text of a `what`, such as a condition.
    pub(super) fn compile(what: &'static str, text: &str) -> Result<Self, String> {
        let program =
            Program::compile(text).map_err(|error| format!("{what} `{text}` is not valid CEL: {error}"))?;
        Ok(Self { what, text: text.to_owned(), program })
    }

    pub(super) fn execute(&self, context: &Context<'_, '_>) -> Result<Value, ExecutionError> {
        self.program.execute(context)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.what, self.text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

pub(super) fn to_cel(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64().unwrap_or(f64::INFINITY)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => items.iter().map(to_cel).collect::<Vec<_>>().into(),
        Json::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), to_cel(value))).collect::<HashMap<_, _>>().into()
        }
    }
}

/// A value as JSON; an error where JSON has nothing like it.
pub(super) fn to_json(value: &Value) -> Result<Json, String> {
    match value {
        Value::Null => Ok(Json::Null),
        Value::Bool(value) => Ok((*value).into()),
        Value::Int(number) => Ok((*number).into()),
        Value::UInt(number) => Ok((*number).into()),
        Value::Float(number) => serde_json::Number::from_f64(*number)
            .map(Json::Number)
            .ok_or_else(|| format!("{number}, which JSON can't hold")),
        Value::String(text) => Ok(text.as_str().into()),
        Value::List(items) => items.iter().map(to_json).collect::<Result<Vec<_>, _>>().map(Json::Array),
        Value::Map(map) => {
            let entry = |(key, value): (&Key, &Value)| match key {
                Key::String(name) => Ok((name.to_string(), to_json(value)?)),
                other => Err(format!("a map with the key {other:?}, which is no text")),
            };
            // CEL's maps know no order.
            let mut fields = map.map.iter().map(entry).collect::<Result<Vec<_>, String>>()?;
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Ok(Json::Object(fields.into_iter().collect()))
        }
        other => Err(format!("{other:?}, which JSON can't hold")),
    }
}
