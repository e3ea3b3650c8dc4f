//! Where in a file something stands.

use super::SCHEMA_VERSION;

/// The line, from 1, of a place such as `comp-train/fit`: a component, and a task or output in it; or of the field
/// `schemaVersion`. None where the file is not written in blocks, or has no such place.
pub(crate) fn line_of(text: &str, place: &str) -> Option<u64> {
    let (component, inside) = place.split_once('/').unwrap_or((place, ""));
    let lines: Vec<(usize, &str)> = text.lines().map(indented).collect();
    let named = |name: &str, from: usize, to: usize| {
        let key = |line: &str| {
            let key = line.split_once(':').map(|(key, _)| key.trim_matches(['"', '\'']));
            key == Some(name)
        };
        (from..to).find(|&at| key(lines[at].1))
    };
    let block = |at: usize| {
        let inner =
            lines[at + 1..].iter().take_while(|(indent, line)| line.is_empty() || *indent > lines[at].0);
        (at + 1, at + 1 + inner.count())
    };
    let outermost = |name: &str| {
        let is_it = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        lines.iter().position(|(indent, line)| *indent == 0 && is_it(line))
    };
    let start = match component {
        "root" | SCHEMA_VERSION => outermost(component)?,
        _ => {
            let (from, to) = block(outermost("components")?);
            named(component, from, to)?
        }
    };
    let (from, to) = block(start);
    let tasks = named("tasks", from, to).map_or((from, to), block);
    let found = named(inside, tasks.0, tasks.1).or_else(|| named(inside, from, to)).unwrap_or(start);
    u64::try_from(found + 1).ok()
}

/// How far a line is indented, and what stands there.
fn indented(line: &str) -> (usize, &str) {
    let inner = line.trim_start_matches(' ');
    (line.len() - inner.len(), inner.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found() {
        let text = "# PIPELINE\ncomponents:\n  comp-a:\n    executorLabel: exec-a\n  comp-b:\n    dag:\n      outputs: {}\n      tasks:\n        \
                    'a':\n          x: 1\nroot:\n  dag:\n    tasks:\n      a:\n        componentRef: {name: comp-a}\n";
        for (place, line) in [
            ("comp-a", Some(3)),
            ("comp-b/a", Some(9)),
            ("root/a", Some(14)),
            ("root", Some(11)),
            ("comp-c/a", None),
            ("root/z", Some(11)),
        ] {
            assert_eq!(line_of(text, place), line, "{place}");
        }
        assert_eq!(line_of("{}", "root"), None);
    }
}
