//! A pod without an engine: made, and watched until it has ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Outcome;

/// How many requests are under way at once, as of an engine.
const AT_ONCE: usize = 32;
/// How long it takes until the server is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// The label that tells these pods from an engine's.
pub(crate) const BARE: &str = "kf.dev/bench-bare";

/// A pod of an engine as whoever makes pods by hand would write it: what the engine put in, and nothing that the cluster did.
pub(crate) fn template(made: &Pod) -> Pod {
    let mut labels = made.metadata.labels.clone().unwrap_or_default();
    labels.retain(|name, _| !name.starts_with("kf.dev/run"));
    labels.insert(BARE.into(), "true".into());
    let mut spec = made.spec.clone();
    if let Some(spec) = &mut spec {
        spec.node_name = None;
    }
    let annotations = made.metadata.annotations.clone();
    let metadata = ObjectMeta { labels: Some(labels), annotations, ..Default::default() };
    Pod { metadata, spec, status: None }
}

/// The same pod by another name.
pub(crate) fn named(template: &Pod, name: String) -> Pod {
    let mut pod = template.clone();
    pod.metadata.name = Some(name);
    pod
}

/// Whether it has ended, and well; none where it has not ended.
pub(crate) fn ended(pod: &Pod) -> Option<bool> {
    let status = pod.status.as_ref()?;
    let container = status.container_statuses.iter().flatten().next();
    let exit = container.and_then(|container| Some(container.state.as_ref()?.terminated.as_ref()?.exit_code));
    match (status.phase.as_deref(), exit) {
        (_, Some(code)) => Some(code == 0),
        (Some("Succeeded"), _) => Some(true),
        (Some("Failed"), _) => Some(false),
        _ => None,
    }
}

/// Removes a pod at once.
pub(crate) fn at_once() -> DeleteParams {
    DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() }
}

/// From the request that makes it to the news that it has ended; its removal is not waited for.
pub(crate) async fn to_completion(pods: &Api<Pod>, template: &Pod, name: String) -> Outcome<Duration> {
    let pod = named(template, name.clone());
    let began = Instant::now();
    let made = pods.create(&PostParams::default(), &pod).await?;
    let since = made.metadata.resource_version.unwrap_or_default();
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(pods.watch(&only, &since).await?);
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
        match ended(&pod) {
            Some(true) => {
                let took = began.elapsed();
                let pods = pods.clone();
                tokio::spawn(async move { pods.delete(&name, &at_once()).await.map(drop) });
                return Ok(took);
            }
            Some(false) => return Err(format!("pod `{name}` has failed: {:?}", pod.status).into()),
            None => {}
        }
    }
    Err(format!("the watch of pod `{name}` has ended before it").into())
}

/// Makes so many as fast as they are taken, and waits for the end of all by one watch; each is removed once it has ended.
pub(crate) async fn many(pods: &Api<Pod>, template: &Pod, count: usize) -> Outcome<()> {
    let config = watcher::Config::default().labels(BARE);
    let mut events = std::pin::pin!(watcher(pods.clone(), config).default_backoff());
    let template = Arc::new(template.clone());
    let (mut requests, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for at in 0..count {
        requests.spawn(within(places.clone(), create(pods.clone(), template.clone(), format!("bare-{at}"))));
    }
    let mut over = HashSet::new();
    while over.len() < count {
        let event = tokio::select! {
            event = events.next() => event.ok_or("the watch of pods has ended")?,
            Some(done) = requests.join_next() => {
                done??;
                continue;
            }
        };
        let pod = match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => pod,
            Ok(Event::Delete(pod)) if pod.metadata.name.as_ref().is_some_and(|name| !over.contains(name)) => {
                return Err(format!("pod {:?} was taken away before it had ended", pod.metadata.name).into());
            }
            _ => continue,
        };
        let Some(name) = pod.metadata.name.clone() else { continue };
        match ended(&pod) {
            Some(true) if !over.contains(&name) => {
                over.insert(name.clone());
                requests.spawn(within(places.clone(), remove(pods.clone(), name)));
            }
            Some(false) => return Err(format!("pod `{name}` has failed: {:?}", pod.status).into()),
            _ => {}
        }
    }
    while let Some(done) = requests.join_next().await {
        done??;
    }
    Ok(())
}

/// Whether the server, or the way to it, has too much to do for now.
fn later(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}

async fn within<T>(places: Arc<Semaphore>, request: impl Future<Output = T>) -> T {
    // They are never closed.
    let _place = places.acquire().await;
    request.await
}

async fn create(pods: Api<Pod>, template: Arc<Pod>, name: String) -> kube::Result<()> {
    let pod = named(&template, name);
    loop {
        match pods.create(&PostParams::default(), &pod).await {
            Err(error) if later(&error) => tokio::time::sleep(AGAIN).await,
            // Made by a request whose answer was lost.
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            done => return done.map(drop),
        }
    }
}

async fn remove(pods: Api<Pod>, name: String) -> kube::Result<()> {
    loop {
        match pods.delete(&name, &at_once()).await {
            Err(error) if later(&error) => tokio::time::sleep(AGAIN).await,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            done => return done.map(drop),
        }
    }
}
