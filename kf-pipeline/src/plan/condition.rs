//! Conditions: expressions in CEL over a task's input parameters.

use std::collections::HashMap;

use cel::{Context, Value};
use serde_json::Value as Json;

use super::expression::{Expression, to_cel};

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
        let values: HashMap<String, Value> =
            parameters.map(|(name, value)| (name.to_owned(), to_cel(value))).collect();
        let inputs: HashMap<String, Value> = HashMap::from([("parameter_values".to_owned(), values.into())]);
        let mut context = Context::default();
        context.add_variable_from_value("inputs", inputs);
        match self.0.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("{} gives {other:?}, not true or false", self.0)),
            Err(error) => Err(format!("{} can't be evaluated: {error}", self.0)),
        }
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
            holds("inputs.parameter_values['x'] + 1", json!(1)).unwrap_err().contains("not true or false")
        );
        assert!(holds("inputs.parameter_values['x'] ==", json!(1)).unwrap_err().contains("not valid CEL"));
    }
}
