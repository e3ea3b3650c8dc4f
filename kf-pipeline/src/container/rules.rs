//! Which image is carried how.

/// How steps of an image are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runner {
    /// Lightweight Python components, in a virtual environment of what they install. For other steps of the image, later
    /// rules are asked.
    Python,
    /// Any step: lightweight Python components as under [`Python`](Self::Python), other commands as they stand, with
    /// the programs of this machine.
    Local,
}

/// Rules in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(pub(super) Vec<(String, Runner)>);

impl Rules {
    /// The first rule that takes this step.
    pub(super) fn find(&self, image: &str, lightweight: bool) -> Option<Runner> {
        let fits = |(pattern, runner): &&(String, Runner)| {
            matches(pattern, image) && (lightweight || *runner == Runner::Local)
        };
        self.0.iter().find(fits).map(|(_, runner)| *runner)
    }
}

/// Whether `text` is what `pattern` says, in which `*` stands for anything.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("alpine", "alpine", true),
            ("alpine", "alpine:3", false),
            ("*", "", true),
            ("python:*", "python:3.11", true),
            ("*/python*:3*", "docker.io/library/python:3.11-slim", true),
            ("*/python*:3*", "docker.io/library/python:2", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_takes_a_step_counts() {
        let rules = Rules(vec![("*".to_owned(), Runner::Python), ("alpine*".to_owned(), Runner::Local)]);
        assert_eq!(rules.find("alpine:3", true), Some(Runner::Python));
        assert_eq!(rules.find("alpine:3", false), Some(Runner::Local));
        assert_eq!(rules.find("python", false), None);
    }
}
