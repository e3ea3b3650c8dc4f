//! Names of mutexes and semaphores.

use crate::placeholder::{self, Placeholder};
use crate::spec::InputDefinitions;

/// The longest name; it is for people to read.
const LONGEST: usize = 500;

/// What is wrong with a name, which may hold placeholders: one that is left as it stands would tell apart what it is to
/// keep from running at once.
pub(super) fn problem(name: &str, inputs: &InputDefinitions) -> Option<String> {
    if name.trim().is_empty() || name.len() > LONGEST {
        return Some(format!(
            "a mutex has a name of 1 to {LONGEST} bytes, and this one is of {}",
            name.len()
        ));
    }
    let stands_for = |placeholder: Placeholder<'_>| match placeholder {
        Placeholder::InputParameter(input) if inputs.parameters.contains_key(input) => Ok(Some("".into())),
        Placeholder::InputParameter(input) => {
            Err(format!("its mutex `{name}` names input `{input}`, which it does not have"))
        }
        Placeholder::Run(_) | Placeholder::Task(_) => Ok(Some("".into())),
        _ => Ok(None),
    };
    match placeholder::replace_text(name, &stands_for) {
        Ok(rest) if rest.contains("{{$") => {
            Some(format!("its mutex `{name}` has a placeholder that is cut off or stands for nothing here"))
        }
        Ok(_) => None,
        Err(problem) => Some(problem),
    }
}
