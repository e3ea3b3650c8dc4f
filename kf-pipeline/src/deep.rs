//! What is nested deep: a stack of its own for what goes through it, and a limit for what a run keeps.

use serde_json::Value as Json;

/// How many lists and objects may lie in one another in a value of a run: its journal is JSON, which is read 128 deep.
pub(crate) const DEEPEST_VALUE: usize = 100;

/// Refuses a value that a run's journal can't hold.
pub(crate) fn refuse_deep<'a>(values: impl IntoIterator<Item = &'a Json>) -> Result<(), String> {
    match values.into_iter().any(|value| is_deeper(value, DEEPEST_VALUE)) {
        true => Err(format!("lists and objects lie more than {DEEPEST_VALUE} deep in one another")),
        false => Ok(()),
    }
}

fn is_deeper(value: &Json, than: usize) -> bool {
    match value {
        Json::Array(_) | Json::Object(_) if than == 0 => true,
        Json::Array(items) => items.iter().any(|item| is_deeper(item, than - 1)),
        Json::Object(fields) => fields.values().any(|value| is_deeper(value, than - 1)),
        _ => false,
    }
}

/// Does something on a thread with so many bytes of stack.
///
/// # Errors
/// Where there is no thread to be had, or the work panics.
pub(crate) fn on_stack_of<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let cannot = |problem: &str| format!("can't be read on a thread of its own: {problem}");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("kf-read".to_owned()).stack_size(bytes);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| cannot(&error.to_string()))?;
        thread.join().map_err(|_| cannot("it panicked"))
    })
}
