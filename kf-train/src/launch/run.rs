//! Submit, listen, and wait for the result.

use futures::{FutureExt, StreamExt};
use serde::de::DeserializeOwned;

use super::{Job, JobEnd, JobEvent, JobHandle, Launcher};
use crate::{Error, Result};

/// Runs a job on a launcher to its end, and returns what rank 0 returned (`()` for a foreign program).
///
/// Where the returned future is dropped, a job of a launcher whose jobs don't outlive their caller is cancelled.
///
/// # Errors
/// [`Error::RankFailed`], [`Error::TimedOut`], [`Error::Canceled`], [`Error::Result`] when what rank 0 returned is no
/// `R`, and those of [`Launcher::submit`].
pub async fn run<R: DeserializeOwned>(launcher: &dyn Launcher, job: Job) -> Result<R> {
    let spec = job.spec()?.clone();
    let name = spec.name.clone();
    let attempt_id = job.attempt_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let handle = launcher.submit(spec, &attempt_id).await?;
    let mut abandoned = CancelOnDrop { launcher, handle: Some(&handle) };
    let mut events = launcher.events(&handle).await?;
    let mut cancel_asked = false;
    let end = loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = job.cancel.cancelled(), if !cancel_asked => {
                cancel_asked = true;
                launcher.cancel(&handle).await?;
                continue;
            }
        };
        if let Some(event) = &event {
            job.on_event.iter().for_each(|sink| sink(event));
        }
        match event {
            Some(JobEvent::Ended(end)) => break end,
            Some(_) => {}
            None => return Err(Error::Unknown { attempt: attempt_id }),
        }
    };
    abandoned.handle = None;
    result_of(name, end)
}

/// What a job's end is to its caller.
pub(crate) fn result_of<R: DeserializeOwned>(name: String, end: JobEnd) -> Result<R> {
    match end {
        JobEnd::Succeeded { result } => serde_json::from_value(result)
            .map_err(|error| Error::Result { job: name, reason: error.to_string() }),
        JobEnd::Failed(failure) => Err(Error::RankFailed { job: name, failure }),
        JobEnd::TimedOut { after } => Err(Error::TimedOut { job: name, after }),
        JobEnd::Canceled => Err(Error::Canceled { job: name }),
        JobEnd::Broken { reason, retryable } => Err(Error::Broken { job: name, reason, retryable }),
    }
}

/// Cancels a job that nobody waits for any more.
struct CancelOnDrop<'a> {
    launcher: &'a dyn Launcher,
    handle: Option<&'a JobHandle>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.filter(|_| !self.launcher.jobs_outlive_caller()) {
            // A job that dies with us is cancelled without waiting.
            let _ = self.launcher.cancel(handle).now_or_never();
        }
    }
}
