//! Conditions and selectors of pipelines, which are CEL, as expressions of Argo.

use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use cel::{IdedExpr, Program};
use serde_json::Value as Json;

use super::shape::Shape;
use super::text::{Text, quoted};

/// The stack that expressions are read on: what the plan has taken is at most 64 deep, and each level takes much.
const STACK: usize = 64 << 20;

/// Says what a task's parameter is.
pub(super) type Parameter<'a> = dyn Fn(&str) -> Result<(Text, Shape), String> + Sync + 'a;

/// A condition as an expression that is true or false.
///
/// # Errors
/// Names what in it has no like.
pub(super) fn condition(text: &str, parameter: &Parameter<'_>) -> Result<String, String> {
    read(text, |root| match term(root, parameter)? {
        Term { code, kind: Kind::Truth } => Ok(code),
        Term { code, kind: Kind::Value(Shape::Boolean) } => Ok(truth(&code)),
        _ => Err("it is neither a comparison nor a parameter that is true or false".to_owned()),
    })
    .map_err(|problem| format!("its condition `{text}`: {problem}"))
}

/// The part of a value that a selector takes, as JSON.
///
/// # Errors
/// Names what in it has no like.
pub(super) fn selected(text: &str, value: &Text, shape: Shape) -> Result<(Text, Shape), String> {
    let found = read(text, path);
    match found.map_err(|problem| format!("its selector `{text}`: {problem}"))? {
        None => Ok((shape.convert(value.clone(), Shape::Text), Shape::Text)),
        Some(path) => {
            let code = format!("toJson(jsonpath({}, {}))", value.code(), quoted(&path));
            Ok((Text::of_code(code), Shape::Any))
        }
    }
}

fn read<T: Send>(text: &str, then: impl FnOnce(&IdedExpr) -> Result<T, String> + Send) -> Result<T, String> {
    let read = || {
        let program = Program::compile(text).map_err(|error| error.to_string())?;
        then(program.expression())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, read);
        let ended = thread.map_err(|error| error.to_string())?.join();
        ended.unwrap_or_else(|_| Err("it can't be read".to_owned()))
    })
}

/// The path of `parseJson(string_value)["a"][0]`; none for `string_value` itself.
fn path(expr: &IdedExpr) -> Result<Option<String>, String> {
    match &expr.expr {
        Expr::Ident(name) if name == "string_value" => Ok(None),
        Expr::Call(call) if call.func_name == "parseJson" => match call.args.as_slice() {
            [inner] if path(inner)?.is_none() => Ok(Some("$".to_owned())),
            _ => Err("`parseJson` of something else than `string_value`".to_owned()),
        },
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [of, index] = call.args.as_slice() else { return Err(unknown(&expr.expr)) };
            let of = path(of)?.ok_or("a part of a text")?;
            match literal(&index.expr) {
                Some(Json::String(key)) if !key.contains(['\'', '\\']) => Ok(Some(format!("{of}['{key}']"))),
                Some(Json::Number(number)) if number.is_u64() => Ok(Some(format!("{of}[{number}]"))),
                _ => Err("an index that is neither a plain text nor a number".to_owned()),
            }
        }
        Expr::Select(select) if !select.test => {
            let of = path(&select.operand)?.ok_or("a part of a text")?;
            Ok(Some(format!("{of}['{}']", select.field)))
        }
        other => Err(unknown(other)),
    }
}

/// An expression of Argo, and what it gives.
struct Term {
    code: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// True or false.
    Truth,
    /// A number, no text.
    Number,
    /// A text in quotes.
    Quoted,
    /// The text of a parameter.
    Value(Shape),
}

fn term(expr: &IdedExpr, parameter: &Parameter<'_>) -> Result<Term, String> {
    let told = |code: String, kind| Ok(Term { code, kind });
    if let Some(value) = literal(&expr.expr) {
        return match value {
            Json::Bool(value) => told(value.to_string(), Kind::Truth),
            Json::String(text) => told(quoted(&text), Kind::Quoted),
            Json::Number(number) => told(number.to_string(), Kind::Number),
            _ => Err("a `null` in it".to_owned()),
        };
    }
    let Expr::Call(call) = &expr.expr else { return Err(unknown(&expr.expr)) };
    if let Some(name) = parameter_name(call) {
        let (text, shape) = parameter(name)?;
        return told(text.code(), Kind::Value(shape));
    }
    let terms = call.args.iter().map(|arg| term(arg, parameter)).collect::<Result<Vec<_>, _>>()?;
    match (call.func_name.as_str(), terms.as_slice()) {
        (operators::LOGICAL_NOT, [inner]) => told(format!("!({})", as_truth(inner)?), Kind::Truth),
        (operators::LOGICAL_AND, [left, right]) => {
            told(format!("({} && {})", as_truth(left)?, as_truth(right)?), Kind::Truth)
        }
        (operators::LOGICAL_OR, [left, right]) => {
            told(format!("({} || {})", as_truth(left)?, as_truth(right)?), Kind::Truth)
        }
        ("int", [inner]) => match inner.kind {
            Kind::Value(Shape::Text) => told(format!("asInt({})", inner.code), Kind::Number),
            Kind::Value(Shape::Integer) => told(as_number(inner)?, Kind::Number),
            _ => told(format!("int({})", as_number(inner)?), Kind::Number),
        },
        ("double", [inner]) => told(as_number(inner)?, Kind::Number),
        (name, [left, right]) => match comparison(name) {
            Some(sign) => told(compared(sign, left, right)?, Kind::Truth),
            None => Err(unknown(&expr.expr)),
        },
        _ => Err(unknown(&expr.expr)),
    }
}

/// `x` of `inputs.parameter_values['x']`.
fn parameter_name(call: &CallExpr) -> Option<&str> {
    let [of, index] = call.args.as_slice() else { return None };
    let Expr::Select(select) = &of.expr else { return None };
    let inputs = matches!(&select.operand.expr, Expr::Ident(name) if name == "inputs");
    match &index.expr {
        Expr::Literal(LiteralValue::String(name))
            if call.func_name == operators::INDEX && inputs && select.field == "parameter_values" =>
        {
            Some(name)
        }
        _ => None,
    }
}

fn comparison(name: &str) -> Option<&'static str> {
    Some(match name {
        operators::EQUALS => "==",
        operators::NOT_EQUALS => "!=",
        operators::LESS => "<",
        operators::LESS_EQUALS => "<=",
        operators::GREATER => ">",
        operators::GREATER_EQUALS => ">=",
        _ => return None,
    })
}

fn compared(sign: &str, left: &Term, right: &Term) -> Result<String, String> {
    let is = |kind: Kind| left.kind == kind || right.kind == kind;
    let is_number = is(Kind::Number) || is(Kind::Value(Shape::Number)) || is(Kind::Value(Shape::Integer));
    if is(Kind::Truth) || is(Kind::Value(Shape::Boolean)) {
        return match sign {
            "==" | "!=" => Ok(format!("({}) {sign} ({})", as_truth(left)?, as_truth(right)?)),
            _ => Err("an order of what is true or false".to_owned()),
        };
    }
    let side = match is_number {
        true => as_number,
        false => as_text,
    };
    if !is_number && left.kind == Kind::Value(Shape::Any) && right.kind == left.kind {
        return Err("it compares two values whose types are known only when it runs".to_owned());
    }
    Ok(format!("{} {sign} {}", side(left)?, side(right)?))
}

fn as_truth(term: &Term) -> Result<String, String> {
    match term.kind {
        Kind::Truth => Ok(term.code.clone()),
        Kind::Value(Shape::Boolean | Shape::Any) => Ok(truth(&term.code)),
        _ => Err(format!("`{}` is neither true nor false", term.code)),
    }
}

fn truth(code: &str) -> String {
    format!("sprig.lower({code}) == 'true'")
}

fn as_number(term: &Term) -> Result<String, String> {
    match term.kind {
        Kind::Number => Ok(term.code.clone()),
        Kind::Value(Shape::Integer | Shape::Number | Shape::Any) => Ok(format!("asFloat({})", term.code)),
        _ => Err(format!("`{}` is no number", term.code)),
    }
}

fn as_text(term: &Term) -> Result<String, String> {
    match term.kind {
        Kind::Quoted | Kind::Value(Shape::Text) => Ok(term.code.clone()),
        Kind::Value(Shape::Any) => {
            let text = Text::of_code(term.code.clone());
            Ok(Shape::Any.convert(text, Shape::Text).code())
        }
        _ => Err(format!("`{}` is no text", term.code)),
    }
}

/// A literal, with a sign too.
fn literal(expr: &Expr) -> Option<Json> {
    match expr {
        Expr::Literal(LiteralValue::Boolean(value)) => Some((**value).into()),
        Expr::Literal(LiteralValue::Double(value)) => serde_json::Number::from_f64(**value).map(Json::Number),
        Expr::Literal(LiteralValue::Int(value)) => Some((**value).into()),
        Expr::Literal(LiteralValue::UInt(value)) => Some((**value).into()),
        Expr::Literal(LiteralValue::String(value)) => Some((**value).into()),
        Expr::Literal(LiteralValue::Null) => Some(Json::Null),
        Expr::Call(call) if call.func_name == operators::NEGATE => match literal(&call.args.first()?.expr)? {
            Json::Number(number) => match number.as_i64() {
                Some(number) => Some(number.checked_neg()?.into()),
                None => serde_json::Number::from_f64(-number.as_f64()?).map(Json::Number),
            },
            _ => None,
        },
        _ => None,
    }
}

fn unknown(expr: &Expr) -> String {
    let what = match expr {
        Expr::Call(call) => format!("`{}`", call.func_name),
        Expr::Comprehension(_) => "a walk over a list".to_owned(),
        Expr::Ident(name) => format!("`{name}`"),
        Expr::List(_) => "a list".to_owned(),
        Expr::Map(_) | Expr::Struct(_) => "a map".to_owned(),
        Expr::Select(select) => format!("`.{}`", select.field),
        Expr::Literal(_) | Expr::Unspecified => "a value".to_owned(),
    };
    format!("{what} in it, which is not carried over")
}

#[cfg(test)]
mod tests;
