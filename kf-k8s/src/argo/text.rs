//! Text that Argo completes when it runs.
//!
//! Argo replaces `{{inputs.parameters.x}}` by a value, and `{{=…}}` by what an expression gives. Expressions are those of
//! expr-lang.org with Argo's `jsonpath`, `toJson`, `asInt`, `asFloat` and the functions of `sprig`.

/// Something that Argo knows when it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// An input of the template.
    Input(String),
    /// An output of a task of the same DAG.
    Output { task: String, name: String },
    /// The item of a loop.
    Item,
    /// A parameter of the whole workflow.
    Argument(String),
    /// Something else, as `workflow.name`.
    Other(&'static str),
}

impl Reference {
    fn tag(&self) -> String {
        match self {
            Self::Input(name) => format!("{{{{inputs.parameters.{name}}}}}"),
            Self::Output { task, name } => format!("{{{{tasks.{task}.outputs.parameters.{name}}}}}"),
            Self::Item => "{{item}}".to_owned(),
            Self::Argument(name) => format!("{{{{workflow.parameters.{name}}}}}"),
            Self::Other(path) => format!("{{{{{path}}}}}"),
        }
    }

    fn code(&self) -> String {
        match self {
            Self::Input(name) => format!("inputs.parameters['{name}']"),
            Self::Output { task, name } => format!("tasks['{task}'].outputs.parameters['{name}']"),
            Self::Item => "item".to_owned(),
            Self::Argument(name) => format!("workflow.parameters['{name}']"),
            Self::Other(path) => (*path).to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Reference(Reference),
    Code(String),
}

/// Text in parts, some of which Argo fills in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(Vec<Part>);

impl From<Reference> for Text {
    fn from(reference: Reference) -> Self {
        Self(vec![Part::Reference(reference)])
    }
}

impl Text {
    pub(super) fn literal(text: impl Into<String>) -> Self {
        let mut all = Self::default();
        all.push_literal(&text.into());
        all
    }

    /// What an expression gives, as text.
    pub(super) fn of_code(code: String) -> Self {
        Self(vec![Part::Code(code)])
    }

    pub(super) fn push_literal(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Literal(before)) => before.push_str(text),
            _ => self.0.push(Part::Literal(text.to_owned())),
        }
    }

    pub(super) fn push(&mut self, text: Self) {
        for part in text.0 {
            match part {
                Part::Literal(text) => self.push_literal(&text),
                other => self.0.push(other),
            }
        }
    }

    /// The text, where there is nothing to fill in.
    pub(super) fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The output that it is, and nothing besides.
    pub(super) fn as_reference(&self) -> Option<String> {
        match self.0.as_slice() {
            [Part::Reference(reference)] => Some(reference.tag()),
            _ => None,
        }
    }

    /// As a field of a template holds it.
    ///
    /// # Errors
    /// Where there is something of its own that Argo would take for a thing to fill in.
    pub(super) fn template(&self) -> Result<String, String> {
        let mut all = String::new();
        for (index, part) in self.0.iter().enumerate() {
            match part {
                Part::Literal(text) if text.contains("{{") => {
                    let at = text.find("{{").unwrap_or_default();
                    let shown: String = text[at..].chars().take(60).collect();
                    return Err(format!("its text has `{shown}`, and Argo takes all in `{{{{` for its own"));
                }
                // A brace before a tag would be taken for a part of it.
                Part::Literal(text) if index + 1 < self.0.len() && text.ends_with('{') => {
                    all.push_str(&text[..text.len() - 1]);
                    all.push_str("{{='{'}}");
                }
                Part::Literal(text) => all.push_str(text),
                Part::Reference(reference) => all.push_str(&reference.tag()),
                Part::Code(code) => all.push_str(&format!("{{{{={code}}}}}")),
            }
        }
        Ok(all)
    }

    /// As a part of an expression.
    pub(super) fn code(&self) -> String {
        let part = |part: &Part| match part {
            Part::Literal(text) => quoted(text),
            Part::Reference(reference) => reference.code(),
            Part::Code(code) => format!("({code})"),
        };
        match self.0.as_slice() {
            [] => "''".to_owned(),
            [one] => part(one),
            several => format!("({})", several.iter().map(part).collect::<Vec<_>>().join(" + ")),
        }
    }
}

/// A text in an expression: without the braces that Argo would take for the tag's.
pub(super) fn quoted(text: &str) -> String {
    let mut all = String::from("'");
    let mut before = None;
    let mut split = false;
    for c in text.chars() {
        if before == Some(c) && "{}".contains(c) {
            all.push_str("' + '");
            split = true;
        }
        match c {
            '\\' | '\'' => all.extend(['\\', c]),
            '\n' => all.push_str("\\n"),
            '\r' => all.push_str("\\r"),
            '\t' => all.push_str("\\t"),
            c => all.push(c),
        }
        before = Some(c);
    }
    all.push('\'');
    if split { format!("({all})") } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_as_a_template_and_as_an_expression() {
        let mut text = Text::literal("it's {");
        text.push(Reference::Input("a-b".into()).into());
        text.push(Text::of_code("asInt(item)".into()));
        assert_eq!(text.template().unwrap(), "it's {{='{'}}{{inputs.parameters.a-b}}{{=asInt(item)}}");
        assert_eq!(text.code(), r"('it\'s {' + inputs.parameters['a-b'] + (asInt(item)))");
        assert_eq!(Text::default().code(), "''");
        assert_eq!(quoted("{\"a\":{\"b\":1}}\n"), r#"('{"a":{"b":1}' + '}\n')"#);
    }

    #[test]
    fn what_argo_would_take_for_its_own_is_refused() {
        let problem = Text::literal("see {{workflow.name}}").template().unwrap_err();
        assert!(problem.contains("`{{workflow.name}}`"), "{problem}");
        assert!(Text::literal("f'{{x}}'").template().is_err());
        assert_eq!(Text::literal("{\"a\":{}}").template().unwrap(), "{\"a\":{}}");
    }
}
