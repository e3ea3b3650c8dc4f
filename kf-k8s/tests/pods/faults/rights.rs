//! Rights that are taken away and given back.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kf_core::metadata::RunState;
use kf_pipeline::RunEvent;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::proxy::Proxy;
use super::tasks::Fixture;
use super::tasks::witness::Witness;
use super::work::{all_once, ends, fixture_by, one, pods, start, until, witnessed_tasks};
use super::{Given, trial};

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "rights::they_are_away_for_a_while_in_a_run", in_a_run),
        trial(runtime, client, "rights::they_are_away_for_a_while_before_a_pod_is_made", before),
    ]
}

/// Those of the engine's account, away from it.
struct Taken {
    bindings: Api<RoleBinding>,
    binding: RoleBinding,
}

impl Taken {
    async fn from(given: &Given) -> Self {
        let bindings: Api<RoleBinding> = Api::namespaced(given.admin.clone(), &given.namespace);
        let mut binding = bindings.get("kf-engine").await.unwrap();
        bindings.delete("kf-engine", &DeleteParams::default()).await.unwrap();
        binding.metadata.resource_version = None;
        binding.metadata.uid = None;
        // The API server hears of it a little later.
        let theirs: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(given.engine.clone(), &given.namespace);
        until("the rights stay", async || theirs.list(&ListParams::default()).await.is_err()).await;
        Self { bindings, binding }
    }

    async fn give_back(self) {
        self.bindings.create(&PostParams::default(), &self.binding).await.unwrap();
    }
}

/// Pods run, and can't be seen, watched or removed.
async fn in_a_run(given: Given) {
    const TASKS: i64 = 3;
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    let fixture = fixture_by(&given, proxy.client()).await;
    let run = start(&fixture, &witnessed_tasks(&witness, TASKS, 3.0)).await;
    until("not all have begun", async || witness.seen().len() == 3).await;
    let taken = Taken::from(&given).await;
    // A watch that is open stays so.
    proxy.cut();
    tokio::time::sleep(Duration::from_secs(8)).await;
    taken.give_back().await;
    all_once(&run, &witness, TASKS).await;
    let left = async || pods(&given).list(&ListParams::default()).await.unwrap().items.is_empty();
    until("the pods stay", left).await;
}

/// It says so, and goes on.
async fn before(given: Given) {
    let witness = Witness::listen(&given).await;
    let fixture = Fixture::new(&given).await;
    let taken = Taken::from(&given).await;
    let run = start(&fixture, &one(&witness, 0.0)).await;
    let mut waits = Box::pin(run.events().filter_map(async |event| match event {
        RunEvent::TaskWaiting { reason, .. } => Some(reason),
        _ => None,
    }));
    let reason = tokio::time::timeout(Duration::from_secs(20), waits.next()).await.unwrap().unwrap();
    assert!(reason.contains("may not do that") && reason.contains("cannot create resource"), "{reason}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(witness.seen().is_empty());
    taken.give_back().await;
    assert_eq!(ends(&run).await.state, RunState::Succeeded);
    assert_eq!(witness.seen().into_values().collect::<Vec<_>>(), [1]);
}
