//! Conditions: expressions in CEL over a task's input parameters.

use std::collections::HashMap;

use cel::{Context, Value};
use serde_json::Value as Json;

use super::expression::{Expression, to_cel, to_json};
use crate::error::{shortened, shown};

/// A compiled condition.
#[derive(Debug)]
pub(crate) struct Condition(Expression);

impl Condition {
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        Expression::compile("condition", text).map(Self)
    }

    /// Whether the condition holds; an error where that can't be said.
    pub(crate) fn holds<'a>(
        &self,
        parameters: impl Iterator<Item = (&'a str, &'a Json)>,
    ) -> Result<bool, String> {
        let given: Vec<(&str, &Json)> = parameters.collect();
        let context = || {
            let values: HashMap<String, Value> =
                given.into_iter().map(|(name, value)| (name.to_owned(), to_cel(value))).collect();
            let inputs = HashMap::from([("parameter_values".to_owned(), Value::from(values))]);
            let mut context = Context::default();
            context.add_variable_from_value("inputs", inputs);
            Ok(context)
        };
        let holds = self.0.evaluate(context, |found| match found {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => {
                let found = to_json(&other).map_or_else(|found| shortened(found, 300), |json| shown(&json));
                Err(format!("gives {found}, not true or false"))
            }
            Err(error) => Err(format!("can't be evaluated: {}", shortened(error.to_string(), 300))),
        });
        holds.map_err(|problem| format!("{} {problem}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(text: &str, value: Json) -> Result<bool, String> {
        Condition::compile(text)?.holds([("x", &value)].into_iter())
    }

    #[test]
    fn what_pipelines_ask() {
        let x = "inputs.parameter_values['x']";
        assert_eq!(holds(&format!("{x} >= 0.95"), json!(0.96)), Ok(true));
        assert_eq!(holds(&format!("{x} >= 0.95"), json!(0.94)), Ok(false));
        assert_eq!(holds(&format!("{x} >= 0.95"), json!(1)), Ok(true));
        assert_eq!(holds(&format!("int({x}) == 3"), json!(3.0)), Ok(true));
        assert_eq!(holds(&format!("{x} == 'a' && !({x} == 'b')"), json!("a")), Ok(true));
        assert_eq!(holds(&format!("{x} == true"), json!(true)), Ok(true));
    }

    #[test]
    fn what_cannot_be_said_is_an_error_and_not_false() {
        assert!(
            holds("inputs.parameter_values['y'] == 1", json!(1)).unwrap_err().contains("can't be evaluated")
        );
        assert!(
            holds("inputs.parameter_values['x'] + 1", json!(1))
                .unwrap_err()
                .contains("gives 2, not true or false")
        );
        assert!(holds("inputs.parameter_values['x'] ==", json!(1)).unwrap_err().contains("not valid CEL"));
    }

    #[test]
    fn what_would_overflow_the_stack_or_take_very_long_is_refused_in_few_words() {
        let nested =
            |open: &str, close: &str, depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let doubled = |times| format!("'x'{}.size() > 0", ".map(a, a + a)".repeat(times));
        for (text, words) in [
            (nested("int(", ")", 70), "nested more than 64 deep"),
            (nested("[", "]", 70), "nested more than 64 deep"),
            (format!("1{}", " + 1".repeat(80)), "nested more than 64 deep"),
            (nested("(", ")", 500), "not valid CEL"),
            (format!("'{}' == ''", "x".repeat(5_000)), "has 5008 bytes; at most 4096"),
            (format!("[{}] == []", doubled(3)), "goes over lists 3 times"),
            ("[1].map(a, [2].map(b, [3].exists(c, c > 0)))".to_owned(), "goes over lists 3 times"),
        ] {
            let problem = Condition::compile(&text).unwrap_err();
            assert!(problem.contains(words) && problem.len() < 1_500, "{text}: {problem}");
        }
        let problem = holds("[inputs.parameter_values['x']]", json!("x".repeat(100_000))).unwrap_err();
        assert!(problem.contains("not true or false") && problem.len() < 1_500, "{problem}");
        // As deep as is taken, on the stack of this thread.
        assert_eq!(holds(&format!("{} == 1", nested("int(", ")", 60)), json!(1)), Ok(true));
        assert_eq!(holds(&format!("1{} == 31", " + 1".repeat(30)), json!(1)), Ok(true));
        assert_eq!(holds("[1, 2].map(a, a * 2).exists(b, b == 4)", json!(1)), Ok(true));
    }
}
