//! Expressions in CEL, and JSON as its values, and back.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr};
use cel::objects::Key;
use cel::{Context, ExecutionError, IdedExpr, Program, Value};
use serde_json::Value as Json;

use crate::deep::{DEEPEST_VALUE, on_stack_of};
use crate::error::shortened;

/// Longer expressions are refused.
const LONGEST: usize = 4096;
/// How many calls, operators and lists may lie in one another.
const DEEPEST: usize = 64;
/// Expressions up to this deep are evaluated on the stack of whoever asks: a level takes about 35 KiB where nothing is
/// optimised.
const FLAT: usize = 12;
/// The stack that expressions are read on, and deep ones evaluated.
const STACK: usize = 64 << 20;
/// So many of `map`, `filter`, `all`, `exists` and `exists_one` may be in one expression: each multiplies what the
/// others cost.
const MOST_LOOPS: usize = 2;
/// What is shown of an expression in messages.
const SHOWN: usize = 300;

/// A compiled expression. As text it is what it is for and how it is written.
pub(super) struct Expression {
    what: &'static str,
    text: String,
    program: Program,
    depth: usize,
}

impl Expression {
    /// Compiles the text of a `what`, such as a condition.
    pub(super) fn compile(what: &'static str, text: &str) -> Result<Self, String> {
        let shown = || shortened(text, SHOWN);
        if text.len() > LONGEST {
            let length = text.len();
            return Err(format!("{what} `{}` has {length} bytes; at most {LONGEST} are taken", shown()));
        }
        let read = on_stack_of(STACK, || {
            let program = Program::compile(text)
                .map_err(|error| format!("is not valid CEL: {}", shortened(error.to_string(), 2 * SHOWN)))?;
            let depth = measure(program.expression())?;
            Ok((program, depth))
        });
        let (program, depth) = read
            .and_then(|read| read)
            .map_err(|problem: String| format!("{what} `{}` {problem}", shown()))?;
        Ok(Self { what, text: text.to_owned(), program, depth })
    }

    /// Evaluates it with what `context` gives, and lets `read` make something of the value.
    pub(super) fn evaluate<T: Send>(
        &self,
        context: impl FnOnce() -> Result<Context<'static, 'static>, String> + Send,
        read: impl FnOnce(Result<Value, ExecutionError>) -> Result<T, String> + Send,
    ) -> Result<T, String> {
        let evaluate = || read(self.program.execute(&context()?));
        if self.depth <= FLAT { evaluate() } else { on_stack_of(STACK, evaluate)? }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.what, shortened(&self.text, SHOWN))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// How deep an expression is.
///
/// # Errors
/// Where its evaluation could overflow the stack or take very long.
fn measure(expression: &IdedExpr) -> Result<usize, String> {
    let (mut loops, mut deepest, mut left) = (0, 0, vec![(expression, 1)]);
    while let Some((IdedExpr { expr, .. }, depth)) = left.pop() {
        deepest = deepest.max(depth);
        if depth > DEEPEST {
            return Err(format!("is nested more than {DEEPEST} deep; make it several conditions or tasks"));
        }
        let mut inner = |inner| left.push((inner, depth + 1));
        let entries = match expr {
            Expr::Comprehension(parts) => {
                loops += 1;
                [&parts.iter_range, &parts.accu_init, &parts.loop_cond, &parts.loop_step, &parts.result]
                    .into_iter()
                    .for_each(inner);
                continue;
            }
            Expr::Call(call) => {
                call.target.as_deref().into_iter().chain(&call.args).for_each(inner);
                continue;
            }
            Expr::List(list) => {
                list.elements.iter().for_each(inner);
                continue;
            }
            Expr::Select(select) => {
                inner(&select.operand);
                continue;
            }
            Expr::Map(map) => &map.entries,
            Expr::Struct(fields) => &fields.entries,
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => continue,
        };
        for entry in entries {
            match &entry.expr {
                EntryExpr::StructField(field) => inner(&field.value),
                EntryExpr::MapEntry(entry) => [&entry.key, &entry.value].into_iter().for_each(&mut inner),
            }
        }
    }
    if loops > MOST_LOOPS {
        return Err(format!(
            "goes over lists {loops} times (map, filter, all, exists, exists_one); at most {MOST_LOOPS} are taken"
        ));
    }
    Ok(deepest)
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
    json_in(value, 1)
}

fn json_in(value: &Value, depth: usize) -> Result<Json, String> {
    if depth > DEEPEST_VALUE {
        return Err(format!("a value nested more than {DEEPEST_VALUE} deep"));
    }
    match value {
        Value::Null => Ok(Json::Null),
        Value::Bool(value) => Ok((*value).into()),
        Value::Int(number) => Ok((*number).into()),
        Value::UInt(number) => Ok((*number).into()),
        Value::Float(number) => serde_json::Number::from_f64(*number)
            .map(Json::Number)
            .ok_or_else(|| format!("{number}, which JSON can't hold")),
        Value::String(text) => Ok(text.as_str().into()),
        Value::List(items) => {
            items.iter().map(|item| json_in(item, depth + 1)).collect::<Result<Vec<_>, _>>().map(Json::Array)
        }
        Value::Map(map) => {
            let entry = |(key, value): (&Key, &Value)| match key {
                Key::String(name) => Ok((name.to_string(), json_in(value, depth + 1)?)),
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
