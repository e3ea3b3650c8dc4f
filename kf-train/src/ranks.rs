//! A Rust function as what every rank runs.

use std::error::Error as StdError;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use kf_core::worker::{Entry, Request, WorkerError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error_file::{self, ERROR_FILE};
use crate::{Error, Rank, Result};

/// Makes a worker entry of a function that every rank of a job runs.
///
/// The function gets its [`Rank`] and the job's arguments; what rank 0 returns is the job's result. Give the entry to
/// [`Workers`](kf_core::worker::Workers), and start it with [`Job::ranks`](crate::Job::ranks) under the same name.
pub fn ranks<A, R, E, F>(name: impl Into<String>, run: F) -> impl Entry
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
    E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    F: Fn(&Rank, A) -> Result<R, E> + Send + Sync + 'static,
{
    Ranks { name: name.into(), run, types: PhantomData::<fn(A) -> Result<R, E>> }
}

struct Ranks<F, T> {
    name: String,
    run: F,
    types: PhantomData<T>,
}

/// What goes to every rank.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RankRequest {
    /// The job's arguments.
    pub(crate) args: Value,
    /// Where rank 0 leaves its result; in its progress file where not given.
    #[serde(default)]
    pub(crate) result: Option<PathBuf>,
}

impl<A, R, E, F> Entry for Ranks<F, fn(A) -> Result<R, E>>
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
    E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    F: Fn(&Rank, A) -> Result<R, E> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&self, request: Request) -> Result<(), WorkerError> {
        let outcome = self.answer(&request);
        if let Err(error) = &outcome {
            tell_launcher(error.as_ref());
        }
        outcome.map_err(WorkerError::Failed)
    }
}

impl<A, R, E, F> Ranks<F, fn(A) -> Result<R, E>>
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
    E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    F: Fn(&Rank, A) -> Result<R, E> + Send + Sync + 'static,
{
    fn answer(&self, request: &Request) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let mut rank = Rank::from_env()?;
        rank.hear_termination()?;
        rank.note_started();
        let request: RankRequest = request.parse()?;
        let args = serde_json::from_value(request.args)
            .map_err(|error| format!("the job's arguments do not fit `{}`: {error}", self.name))?;
        let run = std::panic::AssertUnwindSafe(|| (self.run)(&rank, args));
        let result = match std::panic::catch_unwind(run) {
            Ok(result) => result.map_err(Into::into)?,
            Err(panic) => {
                tell_launcher(
                    Box::<dyn StdError>::from(format!("panicked: {}", panic_text(&*panic))).as_ref(),
                );
                std::panic::resume_unwind(panic)
            }
        };
        if rank.was_terminated() {
            return Err("it has left before it was done, since it was asked to end (SIGTERM)".into());
        }
        // Which rank is the first one changes where they outlive rounds.
        if rank.is_main() || rank.agent().is_some() {
            let json = kf_core::json::to_json(&result)
                .map_err(|error| format!("what `{}` returned is not JSON: {error}", self.name))?;
            match &request.result {
                Some(path) => write_whole(path, json.to_string().as_bytes())?,
                None => rank.note_result(json),
            }
        }
        Ok(())
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// A reader sees the whole file or none.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("part");
    std::fs::write(&aside, bytes).map_err(Error::io("can't write", &aside))?;
    std::fs::rename(&aside, path).map_err(Error::io("can't write", path))
}

/// Leaves the error where torchrun and our launchers look for it.
fn tell_launcher(error: &(dyn StdError + 'static)) {
    let Some(path) = std::env::var_os(ERROR_FILE) else { return };
    let mut causes = Vec::new();
    let mut of_another_rank = is_of_another_rank(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        of_another_rank |= is_of_another_rank(error);
        causes.push(error.to_string());
        cause = error.source();
    }
    if let Err(error) = error_file::write(Path::new(&path), &error.to_string(), &causes, of_another_rank) {
        tracing::warn!(%error, "the error file can't be written");
    }
}

/// A lost connection or a timeout is what the others see when one rank fails.
fn is_of_another_rank(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref::<Error>(),
        Some(Error::Collective { .. } | Error::CollectiveTimedOut { .. } | Error::NotJoined { .. })
    )
}
