//! A container's command, where its container is.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use kf_core::process::Exit;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::container::in_place;
use crate::engine::{Attempt, AttemptEnd};
use crate::plan::ContainerTask;

/// Runs it in this process's own surroundings, with what it prints going where this process prints.
pub(super) async fn run(attempt: &Attempt, task: &ContainerTask) -> AttemptEnd {
    match start(attempt, task).await {
        Ok(end) => end,
        Err(message) => AttemptEnd::Failed { message, permanent: false },
    }
}

async fn start(attempt: &Attempt, task: &ContainerTask) -> Result<AttemptEnd, String> {
    let laid_out = in_place::lay_out(attempt, task)?;
    let (program, args) = laid_out.words.split_first().ok_or("nothing is left of its command")?;
    let mut command = Command::new(program);
    command.args(args).envs(laid_out.env).current_dir(&laid_out.cwd).stdin(Stdio::null()).process_group(0);
    for hidden in [kf_core::worker::ENTRY, kf_core::worker::REQUEST, super::FOLDER, super::REPLY] {
        command.env_remove(hidden);
    }
    let mut child = command.spawn().map_err(|error| format!("can't start `{program}`: {error}"))?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let status = tokio::select! {
        status = child.wait() => status,
        () = attempt.cancel.cancelled() => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::TERM);
            }
            child.wait().await
        }
    };
    let status = status.map_err(|error| format!("lost sight of `{program}`: {error}"))?;
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    };
    Ok(in_place::end_of(attempt, task, exit))
}
