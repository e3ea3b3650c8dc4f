//! Names that Argo takes.

use std::collections::{BTreeMap, HashSet};

/// How long a name may be; Argo allows 128 characters.
const LONGEST: usize = 120;

/// Words of the expressions that `depends` is one of.
const WORDS: [&str; 11] = ["and", "else", "false", "if", "in", "let", "matches", "nil", "not", "or", "true"];

/// Names in the form that Argo takes, each of its own. Those that are in that form already stay as they are.
pub(super) fn parameters<'a>(names: impl Iterator<Item = &'a String> + Clone) -> BTreeMap<String, String> {
    all(names, |c| c.is_ascii_alphanumeric() || c == '-' || c == '_', &[])
}

/// As [`parameters`], for tasks and templates, which have no `_`.
pub(super) fn tasks<'a>(names: impl Iterator<Item = &'a String> + Clone) -> BTreeMap<String, String> {
    all(names, |c| c.is_ascii_alphanumeric() || c == '-', &WORDS)
}

/// The name of a template, another than those `taken`.
pub(super) fn template(name: &str, taken: &HashSet<String>) -> String {
    apart(&fitted(name, |c| c.is_ascii_alphanumeric() || c == '-'), taken)
}

/// What the names of a pipeline's workflows begin with: lower-case letters, digits and `-`, at most 40.
pub(super) fn workflow(pipeline: &str) -> String {
    let lower = pipeline.to_lowercase();
    let mut name = fitted(&lower, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    name.truncate(40);
    name.trim_end_matches('-').to_owned()
}

fn all<'a>(
    names: impl Iterator<Item = &'a String> + Clone,
    allowed: fn(char) -> bool,
    words: &[&str],
) -> BTreeMap<String, String> {
    let fits = |name: &&String| fitted(name, allowed) == **name && !words.contains(&name.as_str());
    let mut taken: HashSet<String> = names.clone().filter(fits).cloned().collect();
    names
        .map(|name| {
            if fits(&name) {
                return (name.clone(), name.clone());
            }
            let mut other = fitted(name, allowed);
            if words.contains(&other.as_str()) {
                other.push_str("-task");
            }
            let other = apart(&other, &taken);
            taken.insert(other.clone());
            (name.clone(), other)
        })
        .collect()
}

fn fitted(name: &str, allowed: fn(char) -> bool) -> String {
    let replaced: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).take(LONGEST).collect();
    let trimmed = replaced.trim_matches(|c: char| c == '-');
    if trimmed.is_empty() { "unnamed".to_owned() } else { trimmed.to_owned() }
}

fn apart(name: &str, taken: &HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_argos_and_stay_apart() {
        let names = ["a b", "a-b", "a_b", "a/b", "é"].map(str::to_owned);
        let found = parameters(names.iter());
        assert_eq!(found["a-b"], "a-b");
        assert_eq!(found["a_b"], "a_b");
        assert_eq!((found["a b"].as_str(), found["a/b"].as_str()), ("a-b-2", "a-b-3"));
        assert_eq!(found["é"], "unnamed");
        assert_eq!(tasks(names.iter())["a_b"], "a-b-3");
        assert_eq!(tasks(["in".to_owned()].iter())["in"], "in-task");
        assert_eq!(workflow("My Pipeline_2!"), "my-pipeline-2");
    }
}
