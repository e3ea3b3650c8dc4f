//! Bad input and bad luck: each a clear error, and nothing is lost.

mod artifacts;
mod components;
mod disk;
mod engines;
mod events;
mod limits;
mod stage;
mod starts;
mod stops;
mod subprocesses;
mod tasks;

use kf_pipeline::RunOutcome;
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

pub(crate) use components::{stand, with_components};
pub(crate) use stage::Stage;

pub(crate) fn tests() -> Vec<Trial> {
    [
        artifacts::tests(),
        disk::tests(),
        engines::tests(),
        events::tests(),
        limits::tests(),
        starts::tests(),
        stops::tests(),
        subprocesses::tests(),
        tasks::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

type Failure = Box<dyn std::error::Error>;

/// A pipeline of one task.
macro_rules! one {
    ($call:expr) => {
        Pipeline::build("one", |p| {
            p.add($call);
        })
    };
}
use one;

/// Carries a pipeline to its end in a home of its own.
async fn end_of(pipeline: &Pipeline) -> Result<RunOutcome, Failure> {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    Ok(engine.start(pipeline, args! {}).await?.wait().await?)
}

/// The message of what should have been refused.
fn refused<T>(result: kf_pipeline::Result<T>) -> String {
    match result {
        Ok(_) => panic!("was not refused"),
        Err(error) => error.to_string(),
    }
}

/// That a message says all of this.
fn says(message: Option<&str>, wanted: &[&str]) {
    let message = message.unwrap_or_default();
    for wanted in wanted {
        assert!(message.contains(wanted), "`{wanted}` is not in: {message}");
    }
}
