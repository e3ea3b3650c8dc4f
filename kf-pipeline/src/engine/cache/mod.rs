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
    loop {
        let joined = engine.flights.join(key, &setup.run);
        if let Joined::Follows(mut ended) = joined {
            tokio::select! {
                _ = ended.changed() => {}
                () = cancel.cancelled() => return None,
                () = setup.draining.cancelled() => return None,
            }
            continue;
        }
        let found = find(engine.metadata.as_ref(), engine.home.artifacts(), &setup.run, &key, oldest).await;
        let hit = found.unwrap_or_else(|error| {
            tracing::warn!(task = %launch.task, %error, "the cache can't be read; the task runs");
            None
        });
        let flight = match joined {
            Joined::Leads(flight) if hit.is_none() => Some(flight),
            _ => None,
        };
        return Some(LookedUp { hit, key: Some(key), flight });
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
