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

use super::cluster::carried;
use super::{Given, launches, manifests, rights, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let of = |(name, kind): (&str, Kind)| {
        let name = format!("conformance::{name}");
        trial_with(runtime, client, &name, launches(kind), move |given| conform(given, kind))
    };
    carried(runtime, client).into_iter().map(of).collect()
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
