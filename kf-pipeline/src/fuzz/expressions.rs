//! Conditions and selectors.

use serde_json::{Value as Json, json};

use super::fuzz;
use super::mutate::{self, Random};
use crate::plan::{Condition, Selector};

const SEEDS: &[&str] = &[
    "inputs.parameter_values['x'] >= 0.95",
    "int(inputs.parameter_values['n']) == 3 && !(inputs.parameter_values['x'] == 'b')",
    "inputs.parameter_values['pipelinechannel--flip-coin-op-Output'] == 'heads' || true",
    "parseJson(string_value)[\"k\"]",
    "parseJson(string_value)[1].a.b",
    "string_value",
    "[1, 2, 3].map(a, a * 2).filter(b, b > 2).exists(c, c == 4)",
    "{'a': 1, 'b': [2, 3.5, null, true, b'x', 7u]}.all(k, has(inputs.parameter_values.x) ? size(k) > 0 : false)",
    "inputs.parameter_values['s'].contains('a') && 'abc'.startsWith('a') && 'x' in ['x', 'y']",
    "-5 % 3 + 7 / 2 - (1.5 * 2.0) > double('3') ? string(1) : 'a' + \"b\"",
    "size(inputs.parameter_values['l']) == 3 && inputs.parameter_values['l'][0] < 10",
    "max(1, 2) == 2 && min([3, 1]) == 1 && 9223372036854775807 + 1 > 0",
];

const TOKENS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "&&",
    "||",
    "?",
    ":",
    ",",
    ".",
    "==",
    "<=",
    "in",
    "null",
    "true",
    "'",
    "\"",
    "'''",
    "r'",
    "b'",
    "\\",
    "\\u0000",
    "0x",
    "9223372036854775808",
    "-9223372036854775808",
    "0u",
    "1e999",
    ".map(a, a + a)",
    ".filter(a, true)",
    "has(",
    "size(",
    "int(",
    "string(",
    "double(",
    "uint(",
    "bytes(",
    "inputs.parameter_values['s']",
    "[1, 2, 3, 4, 5, 6, 7, 8]",
    "é",
    "\0",
    "\n",
    " ",
    "//",
    "matches",
    "duration",
    "a.b",
    "parseJson(string_value)",
    ".map(a, [a, a])",
    "'aaaaaaaa'",
    "0",
    " / 0",
    " % 0",
    "-1",
];

fn values() -> Vec<(&'static str, Json)> {
    vec![
        ("x", json!(0.96)),
        ("n", json!(3.0)),
        ("s", json!("a text of some words")),
        ("l", json!([1, 2, 3])),
        ("m", json!({"k": {"b": [1, 2.5, null], "a": true}})),
        ("none", json!(null)),
        ("big", json!(u64::MAX)),
    ]
}

fn check(input: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(input);
    let values = values();
    let bounded = |problem: String| match problem.len() > 4_000 {
        true => Err(format!("a message of {} bytes", problem.len())),
        false => Ok(()),
    };
    match Condition::compile(&text) {
        Err(problem) => bounded(problem)?,
        Ok(condition) => {
            let holds = condition.holds(values.iter().map(|(name, value)| (*name, value)));
            holds.map_or_else(bounded, |_| Ok(()))?;
        }
    }
    match Selector::compile(&text) {
        Err(problem) => bounded(problem)?,
        Ok(selector) => {
            for (_, value) in &values {
                selector.select(value).map_or_else(bounded, |_| Ok(()))?;
            }
        }
    }
    Ok(())
}

fn next(random: &mut Random) -> Vec<u8> {
    mutate::text(random, SEEDS, TOKENS)
}

#[test]
fn expressions_bear_any_text() {
    fuzz("expressions", next, check);
}
