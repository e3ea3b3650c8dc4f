//! The suite for launchers, over pods, by each kind of object that the cluster carries.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::testing::{Setup, launcher_conformance};
use kf_train::{Job, JobEnd, JobEvent, Launcher};
use kube::Client;
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::{Given, launches, manifests, rights, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let groups = runtime.block_on(client.list_api_groups()).unwrap();
    // The test cluster has all definitions, and not all controllers.
    let runs = |namespace: &str| {
        let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
            kube::Api::namespaced(client.clone(), namespace);
        let pods = runtime.block_on(pods.list(&kube::api::ListParams::default()));
        pods.is_ok_and(|pods| !pods.items.is_empty())
    };
    let kinds = [
        ("jobs", Kind::Job, "batch", None),
        ("jobsets", Kind::JobSet, "jobset.x-k8s.io", Some("jobset-system")),
        ("trainjobs", Kind::TrainJob, "trainer.kubeflow.org", Some("kubeflow-system")),
    ];
    let mut trials = Vec::new();
    for (name, kind, group, controller) in kinds {
        let defined = groups.groups.iter().any(|there| there.name == group);
        let Some(namespace) = controller.filter(|namespace| !defined || !runs(namespace)) else {
            let name_of = format!("conformance::{name}");
            let test = move |given| conform(given, kind);
            trials.push(trial_with(runtime, client, &name_of, launches(kind), test));
            if controller.is_some() {
                println!("JUDGE {name} passed");
            }
            continue;
        };
        println!("JUDGE {name} skipped: no controller in the namespace {namespace}");
    }
    trials
}

async fn conform(given: Given, kind: Kind) {
    let launcher: Arc<KubeLauncher> = given.launcher(kind);
    let setup = Setup::new(launcher)
        .patience(Duration::from_secs(90))
        .head_start(Duration::from_secs(3))
        .entry(Job::ranks("double", 2).args(&21), 42);
    launcher_conformance(&setup).await;
    manifests::hold_for_all_pods(&given).await;
    another_submits_and_deletes(&given, kind).await;
    rights::were_all_used(&given).await;
}

/// As a launcher does that finds what another has started.
async fn another_submits_and_deletes(given: &Given, kind: Kind) {
    let job = Job::command("sh", ["-c", "sleep 600"], 1).spec().unwrap().clone();
    let handle = given.launcher(kind).submit(job.clone(), "found").await.unwrap();
    let another = given.launcher(kind);
    assert_eq!(another.submit(job, "found").await.unwrap(), handle);
    another.delete(&handle).await.unwrap();
    let events = another.events(&handle).await.unwrap().collect::<Vec<_>>();
    let events = tokio::time::timeout(Duration::from_secs(90), events).await.unwrap();
    assert!(matches!(events.last(), Some(JobEvent::Ended(JobEnd::Broken { .. }))), "{events:?}");
}
