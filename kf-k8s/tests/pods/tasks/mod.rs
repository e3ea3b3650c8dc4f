//! Tasks as pods.

pub(crate) mod components;
mod killed;
pub(crate) mod runs;
pub(crate) mod store;
mod trouble;
pub(crate) mod witness;

use std::path::Path;
use std::sync::Arc;

use kf_core::worker::Workers;
use kf_k8s::tasks::{PodExecutor, TaskOptions};
use kf_pipeline::remote::{Install, RemoteTasks};
use kf_pipeline::{Engine, EngineBuilder};
use kube::Client;
use libtest_mimic::Trial;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Given, image, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    [runs::trials, trouble::trials, killed::trials].into_iter().flat_map(|of| of(runtime, client)).collect()
}

/// What this program does in pods, and in a process of its own where its engine is killed.
pub(crate) fn workers(workers: Workers) -> Workers {
    let tasks = RemoteTasks::new(components::all(), store::of_a_pod);
    workers.with(tasks).with(Install).with(killed::worker())
}

/// A test in a namespace where single pods are made, and nothing else.
fn trial<F>(
    runtime: &Arc<Runtime>,
    client: &Client,
    name: &str,
    test: impl FnOnce(Given) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    let options = |options: &mut kf_k8s::manifests::Options| {
        (options.kinds, options.single_pods) = (Vec::new(), true);
    };
    trial_with(runtime, client, &format!("tasks::{name}"), options, test)
}

/// An engine whose tasks are pods, and its home.
pub(crate) struct Fixture {
    pub(crate) engine: Engine,
    pub(crate) home: TempDir,
}

impl Fixture {
    pub(crate) async fn new(given: &Given) -> Self {
        Self::with(given, |_| {}, |builder| builder).await
    }

    pub(crate) async fn with(
        given: &Given,
        options: impl FnOnce(&mut TaskOptions),
        engine: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut task_options = task_options();
        options(&mut task_options);
        store::give_keys(given).await;
        let (builder, _) =
            builder(given.engine.clone(), &given.namespace, &home.path().join("home"), task_options);
        Self { engine: engine(builder).open(home.path().join("home")).await.unwrap(), home }
    }
}

/// An engine's builder whose tasks are pods of a namespace.
pub(crate) fn builder(
    client: Client,
    namespace: &str,
    home: &Path,
    mut options: TaskOptions,
) -> (EngineBuilder, PodExecutor) {
    let store = store::of_the_engine(namespace, &home.with_file_name("fetched"));
    options.env = store::env(namespace);
    let pods = PodExecutor::new(client, namespace, store.clone(), options);
    (
        Engine::builder()
            .artifacts(store)
            .default_executor(Arc::new(pods.clone()))
            .executor("pods", Arc::new(pods.clone())),
        pods,
    )
}

pub(crate) fn task_options() -> TaskOptions {
    let mut options = TaskOptions::new(image::NAME);
    options.pod.image_pull_policy = Some("IfNotPresent".into());
    options.pod.service_account = Some("kf-task".into());
    options.pod.secrets = vec![store::SECRET.into()];
    options
}
