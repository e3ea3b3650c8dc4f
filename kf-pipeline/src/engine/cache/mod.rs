//! Finding an earlier execution that may stand for a task.

mod flights;
mod key;
mod kfp;
mod program;

use std::sync::Arc;
use std::time::Duration;

use kf_core::artifact::ArtifactStore;
use kf_core::metadata::{ExecutionRecord, MetadataStore};
use kf_core::{CancellationToken, Digest, RunId, Timestamp};
use serde_json::json;

pub(crate) use flights::{Flight, Flights};
pub(crate) use kfp::of_name;
pub(crate) use program::program_digest;

use self::flights::Joined;
use super::garbage::renew_mentioned;
use super::locks::Place;
use super::{Inner, RunSetup};
use crate::plan::Caching;
use crate::scheduler::{Launch, Values};

/// What two tasks must have in common for one to stand for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheKeys {
    /// Code, parameters, environment, and the content of input artifacts.
    #[default]
    Content,
    /// What the backend of Kubeflow Pipelines has keys of: image and command, parameters, the *names* of input artifacts
    /// and volume claims, within one pipeline.
    Kfp,
}

/// What a look into the cache found.
#[derive(Debug, Default)]
pub(crate) struct LookedUp {
    pub(crate) hit: Option<Values>,
    /// What it was looked for under.
    pub(crate) key: Option<Digest>,
    /// Where the task is to run: what makes other runs wait for it.
    pub(crate) flight: Option<Flight>,
}

/// Looks for an execution of an earlier run that may stand for the task. Where another run of this engine has such a
/// task under way, that one's end is waited for. Two tasks of one run that are the same in all are two tasks: they may
/// draw lots.
///
/// None where `cancel` fires or the run drains meanwhile.
pub(crate) async fn look_up(
    engine: &Inner,
    setup: &RunSetup,
    launch: &Launch,
    cancel: &CancellationToken,
) -> Option<LookedUp> {
    let Some(key) = key(engine, setup, launch) else { return Some(LookedUp::default()) };
    let oldest = launch.executor.cache_ttl.or(engine.options.cache_ttl);
    let look = Look { engine, setup, task: &launch.task, key, oldest };
    tokio::select! {
        (hit, flight) = look.until_found_or_led() => Some(LookedUp { hit, key: Some(key), flight }),
        () = cancel.cancelled() => None,
        () = setup.draining.cancelled() => None,
    }
}

/// What is looked for, and by whom.
struct Look<'a> {
    engine: &'a Inner,
    setup: &'a RunSetup,
    task: &'a str,
    key: Digest,
    oldest: Option<Duration>,
}

impl Look<'_> {
    /// What was found, or the right to run it; neither where another task of the run has that.
    async fn until_found_or_led(&self) -> (Option<Values>, Option<Flight>) {
        loop {
            match self.engine.flights.join(self.key, &self.setup.run) {
                Joined::Follows(mut ended) => drop(ended.changed().await),
                Joined::Beside => return (self.found().await, None),
                Joined::Leads(mut flight) => {
                    let mut hit = self.found().await;
                    if hit.is_none() && self.setup.shared {
                        (hit, flight.among_all) = self.found_or_led_among_all().await;
                    }
                    let flight = hit.is_none().then_some(flight);
                    return (hit, flight);
                }
            }
        }
    }

    /// Waits until it is to be run here, or was run by another engine.
    async fn found_or_led_among_all(&self) -> (Option<Values>, Option<Box<Place>>) {
        let (run, epoch) = (&self.setup.run, self.setup.epoch);
        let mut place = self.engine.locks.place(format!("cache {}", self.key), run, epoch);
        for tried in 1_u32.. {
            match place.ask(1).await {
                // Another may have ended since it was looked for.
                Ok(true) => return (self.found().await, Some(Box::new(place))),
                Ok(false) => place.pause(tried).await,
                Err(error) => {
                    let task = self.task;
                    tracing::warn!(task, %error, "whether another engine runs the same can't be asked; the task runs");
                    break;
                }
            }
            if let Some(hit) = self.found().await {
                return (Some(hit), None);
            }
        }
        (None, None)
    }

    async fn found(&self) -> Option<Values> {
        let (metadata, artifacts) = (self.engine.metadata.as_ref(), self.engine.home.artifacts());
        let found = find(metadata, artifacts, &self.setup.run, &self.key, self.oldest).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(task = self.task, %error, "the cache can't be read; the task runs");
            None
        })
    }
}

fn key(engine: &Inner, setup: &RunSetup, launch: &Launch) -> Option<Digest> {
    let in_pipeline = |key: &Digest| {
        let text = json!({"format": 1, "kfp": key, "pipeline": setup.pipeline, "outputs": launch.executor.outputs.kinds()});
        Digest::of(text.to_string())
    };
    match launch.caching {
        Caching::Off => None,
        Caching::Named(name) => Some(in_pipeline(&name)),
        Caching::Derived => match engine.options.cache_keys {
            CacheKeys::Content => key::of(&launch.executor, &launch.inputs, &engine.program),
            CacheKeys::Kfp => kfp::fingerprint(&launch.executor, &launch.inputs).as_ref().map(in_pipeline),
        },
    }
}

/// The outputs of an earlier execution under this key, where all of them still exist unchanged.
async fn find(
    metadata: &dyn MetadataStore,
    artifacts: &ArtifactStore,
    run: &RunId,
    key: &Digest,
    oldest: Option<Duration>,
) -> kf_core::Result<Option<Values>> {
    let Some(execution) = metadata.cached(key, run).await? else { return Ok(None) };
    if oldest.is_some_and(|oldest| Timestamp::now().since(execution.ended_at) > oldest) {
        return Ok(None);
    }
    for output in &execution.output_artifacts {
        if let Some(digest) = &output.artifact.digest
            && let Err(error) = artifacts.renew(digest).await
        {
            tracing::warn!(task = execution.task, run = %execution.run, %error, "a cached output is gone or was changed; the task runs again");
            return Ok(None);
        }
    }
    renew_mentioned(artifacts, execution.outputs.values()).await;
    Ok(Some(outputs_of(execution)))
}

fn outputs_of(execution: ExecutionRecord) -> Values {
    let parameters = execution.outputs.into_iter().map(|(name, value)| (Arc::from(name), Arc::new(value)));
    let mut artifacts: Vec<(Arc<str>, Vec<_>)> = Vec::new();
    for output in execution.output_artifacts {
        match artifacts.iter_mut().find(|(port, _)| port.as_ref() == output.port) {
            Some((_, list)) => list.push(output.artifact),
            None => artifacts.push((Arc::from(output.port), vec![output.artifact])),
        }
    }
    let artifacts = artifacts.into_iter().map(|(port, list)| (port, Arc::from(list)));
    Values::new(parameters.collect(), artifacts.collect())
}
