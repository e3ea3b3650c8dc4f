//! A container's command, laid out where its container is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kf_core::process::Exit;

use super::command::words;
use super::executor_input::{ExecutorInput, work_dir};
use super::executor_output;
use crate::engine::{Attempt, AttemptEnd};
use crate::placeholder::{Placeholder, replace_text};
use crate::plan::ContainerTask;

/// What a command is started with.
pub(crate) struct LaidOut {
    pub(crate) words: Vec<String>,
    /// Beside the environment that its container has.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: PathBuf,
}

/// Replaces placeholders, and lays out files.
///
/// # Errors
/// Says what a placeholder lacks, or what can't be written.
pub(crate) fn lay_out(attempt: &Attempt, task: &ContainerTask) -> Result<LaidOut, String> {
    let failed = |error: std::io::Error| format!("lay out `{}`: {error}", attempt.scratch().display());
    std::fs::create_dir_all(work_dir(attempt)).map_err(failed)?;
    std::fs::create_dir_all(&attempt.names.workspace).map_err(failed)?;
    let input = ExecutorInput::lay_out(attempt, task).map_err(failed)?;
    let lookup = |placeholder: Placeholder<'_>| input.look_up(placeholder);
    let present = |name: &str| input.is_present(name);
    let command: Vec<String> = [task.container.command.as_slice(), &task.container.args].concat();
    let env =
        task.container.env.iter().map(|variable| {
            Ok::<_, String>((variable.name.clone(), replace_text(&variable.value, &lookup)?))
        });
    Ok(LaidOut {
        words: words(&command, &lookup, &present)?,
        env: env.collect::<Result<_, _>>()?,
        cwd: work_dir(attempt),
    })
}

/// How an attempt ended whose command ended so.
pub(crate) fn end_of(attempt: &Attempt, task: &ContainerTask, exit: Exit) -> AttemptEnd {
    let message = match exit.success() {
        true => match executor_output::read(attempt, task) {
            Ok(outputs) => return AttemptEnd::Succeeded(outputs),
            Err(problem) => problem,
        },
        false if attempt.cancel.is_cancelled() => return AttemptEnd::Canceled,
        false => format!("its command ended with {exit}"),
    };
    AttemptEnd::Failed { message, permanent: false }
}
