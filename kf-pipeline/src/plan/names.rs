//! Names that become those of files and folders where a task runs.

use crate::spec::ComponentSpec;
use crate::{Error, Result};

/// Longer ones are refused by file systems, which count bytes; room is left for the number of a loop's iteration.
const LONGEST: usize = 240;

/// Checks a task's name, which is a part of its path in the run.
pub(super) fn task(place: &str, name: &str) -> Result<()> {
    match problem(name).or_else(|| name.contains(['[', ']']).then_some("has `[` or `]`")) {
        None => Ok(()),
        Some(problem) => {
            Err(Error::plan(place, format!("a task's name names its folder, and this {problem}")))
        }
    }
}

/// Checks the names of a component's inputs and outputs.
pub(super) fn ports(component: &str, spec: &ComponentSpec) -> Result<()> {
    let inputs = &spec.input_definitions;
    let outputs = &spec.output_definitions;
    let inputs = inputs.parameters.keys().chain(inputs.artifacts.keys()).map(|name| ("input", name));
    let outputs = outputs.parameters.keys().chain(outputs.artifacts.keys()).map(|name| ("output", name));
    for (what, name) in inputs.chain(outputs) {
        if let Some(problem) = problem(name) {
            let shown: String = name.chars().take(80).collect();
            let problem = format!(
                "{what} {shown:?}: the name of an input or output names its file, and this {problem}"
            );
            return Err(Error::plan(component, problem));
        }
    }
    Ok(())
}

/// Why a name can't be that of a file; none where it can.
fn problem(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is empty"),
        "." | ".." => Some("leads elsewhere"),
        _ if name.contains('/') => Some("has a `/`"),
        _ if name.contains(char::is_control) => Some("has control characters"),
        _ if name.len() > LONGEST => Some("is longer than 240 bytes"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_file_is_refused() {
        for bad in ["", ".", "..", "/etc", "a/b", "../x", "a\0b", "a\nb", &"x".repeat(241)] {
            assert!(problem(bad).is_some(), "{bad:?}");
        }
        for good in ["a", "pipelinechannel--a-Output", "..a", "ein Name", "é", "-", &"x".repeat(240)] {
            assert_eq!(problem(good), None, "{good:?}");
        }
    }
}
