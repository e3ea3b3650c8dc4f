//! The same, done to jobs.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::batch::v1::Job as KubeJob;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::{Error, Job, JobEnd, JobEvent, JobHandle, Launcher};
use kube::api::ListParams;
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::super::trial;
use super::Given;
use super::proxy::{Fault, Proxy};
use super::work::until;

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let spoiled = |name: &str, fault: Fault, every: usize| {
        trial(runtime, client, &format!("faults::jobs::{name}"), move |given| spoiled(given, fault, every))
    };
    vec![
        spoiled("every_third_request_comes_too_often", Fault::Refused(429), 3),
        spoiled("every_third_request_fails_inside", Fault::Refused(500), 3),
        spoiled("every_third_answer_breaks_off", Fault::Broken, 3),
        spoiled("all_watches_are_too_old", Fault::Expired, 1),
        trial(runtime, client, "faults::jobs::the_way_to_the_cluster_is_cut", cut_off),
        trial(runtime, client, "faults::jobs::one_whose_answers_are_lost_is_made_once", lost),
    ]
}

fn counts(nodes: usize) -> Job {
    let script = r#"i=0; while [ $i -lt 40 ]; do echo "line $i of $RANK"; i=$((i+1)); sleep 0.1; done"#;
    Job::command("sh", ["-c", script], 1).nodes(nodes)
}

/// Each rank started once, each line of it came once, and it ended well.
async fn went_well(launcher: &KubeLauncher, handle: &JobHandle, nodes: usize) {
    let events = launcher.events(handle).await.unwrap();
    goes_well(launcher, handle, nodes, events, 0).await;
}

/// The same, of which so many ranks have started by now.
async fn goes_well(
    launcher: &KubeLauncher,
    handle: &JobHandle,
    nodes: usize,
    events: BoxStream<'static, JobEvent>,
    before: usize,
) {
    let events = tokio::time::timeout(Duration::from_secs(80), events.collect::<Vec<_>>()).await.unwrap();
    let started =
        before + events.iter().filter(|event| matches!(event, JobEvent::RankStarted { .. })).count();
    assert_eq!(started, nodes, "{events:?}");
    assert!(matches!(events.last(), Some(JobEvent::Ended(JobEnd::Succeeded { .. }))), "{events:?}");
    for rank in 0..nodes {
        let expected: String = (0..40).map(|line| format!("line {line} of {rank}\n")).collect();
        assert_eq!(launcher.logs(handle, rank).await.unwrap(), expected);
    }
}

fn launcher(given: &Given, proxy: &Proxy) -> KubeLauncher {
    KubeLauncher::new(proxy.client(), &given.namespace, Kind::Job, given.options())
}

async fn spoiled(given: Given, fault: Fault, every: usize) {
    let proxy = Proxy::start(given.engine.clone()).await;
    let launcher = launcher(&given, &proxy);
    let handle = launcher.submit(counts(2).spec().unwrap().clone(), "spoiled").await.unwrap();
    let of =
        ["get /pods", "list /pods", "watch /pods", "get /pods/log", "list batch/jobs", "watch batch/jobs"];
    let of: &[&'static str] =
        if matches!(fault, Fault::Expired) { &["watch /pods", "watch batch/jobs"] } else { &of };
    proxy.spoil(fault, of, every);
    went_well(&launcher, &handle, 2).await;
    assert!(proxy.spoiled().len() >= 2, "{:?}", proxy.spoiled());
}

async fn cut_off(given: Given) {
    let proxy = Proxy::start(given.engine.clone()).await;
    let launcher = launcher(&given, &proxy);
    let handle = launcher.submit(counts(2).spec().unwrap().clone(), "cut-off").await.unwrap();
    let mut events = launcher.events(&handle).await.unwrap();
    let begun = async {
        let mut started = 0;
        loop {
            match events.next().await.unwrap() {
                JobEvent::RankStarted { .. } => started += 1,
                JobEvent::Line { .. } => return started,
                _ => {}
            }
        }
    };
    let started = tokio::time::timeout(Duration::from_secs(60), begun).await.unwrap();
    proxy.cut_off();
    tokio::time::sleep(Duration::from_secs(10)).await;
    proxy.heal();
    goes_well(&launcher, &handle, 2, events, started).await;
}

/// Who submits hears of it, and may do so again.
async fn lost(given: Given) {
    let proxy = Proxy::start(given.engine.clone()).await;
    proxy.spoil_some(Fault::Lost, &["create batch/jobs", "create /services"], 1, 2);
    let launcher = launcher(&given, &proxy);
    let spec = counts(2).spec().unwrap().clone();
    // The answer about the object is lost, and it is found by itself; then the one about the service.
    let error = launcher.submit(spec.clone(), "lost").await.unwrap_err();
    assert!(matches!(error, Error::Carrier { retryable: true, .. }), "{error}");
    let handle = launcher.submit(spec, "lost").await.unwrap();
    went_well(&launcher, &handle, 2).await;
    let jobs: Api<KubeJob> = Api::namespaced(given.admin.clone(), &given.namespace);
    let one = async || jobs.list(&ListParams::default()).await.unwrap().items.len() == 1;
    until("there is not one job", one).await;
}
