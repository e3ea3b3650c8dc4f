//! What a parameter's text holds: all of Argo's parameters are text.

use kf_pipeline::placeholder::as_text;
use kf_pipeline::spec::ParameterType;
use serde_json::Value as Json;

use super::text::Text;

/// What a parameter's text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The text itself.
    Text,
    /// JSON of a whole number.
    Integer,
    /// JSON of a number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// JSON of a list.
    List,
    /// JSON of anything, text in quotes too.
    Any,
}

impl From<ParameterType> for Shape {
    fn from(kind: ParameterType) -> Self {
        match kind {
            ParameterType::String => Self::Text,
            ParameterType::NumberInteger => Self::Integer,
            ParameterType::NumberDouble => Self::Number,
            ParameterType::Boolean => Self::Boolean,
            ParameterType::List => Self::List,
            _ => Self::Any,
        }
    }
}

impl Shape {
    /// A value as such a parameter's text.
    pub(super) fn text_of(self, value: &Json) -> String {
        match value {
            Json::String(text) if self != Self::Text => Json::from(text.as_str()).to_string(),
            Json::Null => "null".to_owned(),
            other => as_text(other),
        }
    }

    /// Text of a parameter of this shape as that of another.
    pub(super) fn convert(self, text: Text, wanted: Self) -> Text {
        match (self == Self::Text, wanted == Self::Text) {
            (true, false) => match text.as_literal() {
                Some(literal) => Text::literal(Json::from(literal).to_string()),
                None => Text::of_code(format!("toJson({})", text.code())),
            },
            (false, true) if self == Self::Any => {
                let code = text.code();
                Text::of_code(format!("{code} startsWith '\"' ? jsonpath({code}, '$') : {code}"))
            }
            _ => text,
        }
    }

    /// What a loop gave as one list, of which this is the shape of each: Argo lists texts, but for lists and objects, which
    /// it reads where all are such.
    pub(super) fn collected(self, list: &Text) -> Text {
        let each = match self {
            Self::Text => "sprig.kindIs('string', #) ? # : toJson(#)",
            _ => "sprig.kindIs('string', #) ? jsonpath(#, '$') : #",
        };
        Text::of_code(format!("toJson(map(jsonpath({}, '$'), {{{each}}}))", list.code()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::text::Reference;
    use super::*;

    #[test]
    fn values_are_written_as_their_parameters_hold_them() {
        for (shape, value, expected) in [
            (Shape::Text, json!("a\"b"), "a\"b"),
            (Shape::Text, json!([1, "x"]), r#"[1,"x"]"#),
            (Shape::Any, json!("a\"b"), r#""a\"b""#),
            (Shape::Integer, json!(3.0), "3"),
            (Shape::Boolean, json!(true), "true"),
            (Shape::Any, json!({"a": null}), r#"{"a":null}"#),
        ] {
            assert_eq!(shape.text_of(&value), expected, "{value}");
        }
    }

    #[test]
    fn text_becomes_json_and_json_text_only_where_they_differ() {
        let input = || Text::from(Reference::Input("x".into()));
        assert_eq!(Shape::Integer.convert(input(), Shape::Text), input());
        assert_eq!(Shape::Text.convert(input(), Shape::Text), input());
        assert_eq!(
            Shape::Text.convert(input(), Shape::Any).template().unwrap(),
            "{{=toJson(inputs.parameters['x'])}}"
        );
        assert!(Shape::Any.convert(input(), Shape::Text).template().unwrap().contains("startsWith '\"'"));
    }
}
