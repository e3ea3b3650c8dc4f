//! What people and programs do to pods that are not theirs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kf_core::RunId;
use kf_core::metadata::RunState;
use kf_pipeline::{Engine, Pipeline, RunHandle, StartOptions, args};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::runtime::Runtime;

use super::proxy::Proxy;
use super::tasks::witness::Witness;
use super::tasks::{Fixture, builder, task_options};
use super::work::{
    ends, failures, fixture_by, fixture_on, name, one, phase, pods, start, until, until_a_pod,
};
use super::{Given, trial};

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "objects::a_pod_whose_label_is_taken_is_no_lost_pod", label_taken),
        trial(
            runtime,
            client,
            "objects::an_engine_that_comes_back_knows_a_pod_without_its_marks",
            marks_taken,
        ),
        trial(runtime, client, "objects::deleted_while_it_waits", deleted_while_it_waits),
        trial(runtime, client, "objects::deleted_while_it_runs", deleted_while_it_runs),
        trial(runtime, client, "objects::deleted_when_it_had_ended_unseen", deleted_unseen),
        trial(runtime, client, "objects::deleted_while_nobody_watches", deleted_unwatched),
    ]
}

async fn strip(given: &Given, pod: &Pod) {
    let strip = json!({"metadata": {"labels": null, "annotations": null}});
    let name = name(pod).to_owned();
    pods(given).patch(&name, &PatchParams::default(), &Patch::Merge(strip)).await.unwrap();
}

/// For the watch it is gone, and it lives.
async fn label_taken(given: Given) {
    let witness = Witness::listen(&given).await;
    let fixture = Fixture::new(&given).await;
    let run = start(&fixture, &one(&witness, 6.0)).await;
    let pod = until_a_pod(&given, |pod| phase(pod) == "Running").await;
    until("it has not begun", async || !witness.seen().is_empty()).await;
    strip(&given, &pod).await;
    let marked = async || {
        let labels = pods(&given).get(name(&pod)).await.unwrap().metadata.labels;
        labels.unwrap_or_default().get("kf.dev/run").is_some_and(|of| of == run.id().as_str())
    };
    until("its label does not come back", marked).await;
    assert_eq!(ends(&run).await.state, RunState::Succeeded);
    assert_eq!(witness.seen().into_values().collect::<Vec<_>>(), [1], "{:?}", witness.seen());
    assert!(failures(&run).await.is_empty());
}

async fn marks_taken(given: Given) {
    let witness = Witness::listen(&given).await;
    let fixture = Fixture::new(&given).await;
    let pipeline = one(&witness, 15.0);
    let run = start(&fixture, &pipeline).await;
    let pod = until_a_pod(&given, |pod| phase(pod) == "Running").await;
    until("it has not begun", async || !witness.seen().is_empty()).await;
    let id = run.id().clone();
    drop((run, fixture.engine));
    strip(&given, &pod).await;
    let (_engine, run) = again(&given, &fixture.home, &id, &pipeline).await;
    assert_eq!(ends(&run).await.state, RunState::Succeeded);
    assert_eq!(witness.seen().into_values().collect::<Vec<_>>(), [1], "{:?}", witness.seen());
}

/// A run that another engine goes on with.
pub(super) async fn again(
    given: &Given,
    home: &tempfile::TempDir,
    run: &RunId,
    pipeline: &Pipeline,
) -> (Engine, RunHandle) {
    let home = home.path().join("home");
    let open = async || {
        let (builder, _) = builder(given.engine.clone(), &given.namespace, &home, task_options());
        builder.open(&home).await
    };
    // The one before may be on its way out.
    let began = Instant::now();
    let engine = loop {
        match open().await {
            Ok(engine) => break engine,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let options = StartOptions::new().id(run.clone());
    let handle = engine.start_with(pipeline, args! {}, options).await.unwrap();
    (engine, handle)
}

/// It is made anew, as another attempt.
async fn deleted_while_it_waits(given: Given) {
    let witness = Witness::listen(&given).await;
    let fixture = fixture_on(&given, ("kf-tests", "nowhere")).await;
    let run = start(&fixture, &one(&witness, 0.0)).await;
    let pod = until_a_pod(&given, |pod| phase(pod) == "Pending").await;
    pods(&given).delete(name(&pod), &DeleteParams::default()).await.unwrap();
    let second = until_a_pod(&given, |other| name(other) != name(&pod)).await;
    assert!(second.metadata.annotations.unwrap()["kf.dev/attempt"].ends_with("#2"));
    run.cancel("enough").await;
    assert_eq!(ends(&run).await.state, RunState::Canceled);
    let failures = failures(&run).await;
    assert!(matches!(&failures[..], [one] if one.contains("was deleted by somebody else")), "{failures:?}");
    assert!(witness.seen().is_empty());
}

async fn deleted_while_it_runs(given: Given) {
    let witness = Witness::listen(&given).await;
    let fixture = Fixture::new(&given).await;
    let run = start(&fixture, &one(&witness, 5.0)).await;
    let pod = until_a_pod(&given, |pod| phase(pod) == "Running").await;
    until("it has not begun", async || !witness.seen().is_empty()).await;
    pods(&given).delete(name(&pod), &DeleteParams::default()).await.unwrap();
    assert_eq!(ends(&run).await.state, RunState::Succeeded);
    assert_eq!((witness.attempts(1), witness.attempts(2)), (vec![1], vec![1]));
}

/// The watch goes on where it broke off, and tells of the end before it tells of the deletion: what it gave is taken.
async fn deleted_unseen(given: Given) {
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    let fixture = fixture_by(&given, proxy.client()).await;
    let run = start(&fixture, &one(&witness, 5.0)).await;
    let pod = until_a_pod(&given, |pod| phase(pod) == "Running").await;
    proxy.cut_off();
    let ended = until_a_pod(&given, |pod| phase(pod) == "Succeeded").await;
    pods(&given).delete(name(&ended), &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(name(&pod), name(&ended));
    proxy.heal();
    assert_eq!(ends(&run).await.state, RunState::Succeeded);
    assert_eq!((witness.attempts(1), witness.attempts(2)), (vec![1], vec![]));
    assert!(failures(&run).await.is_empty());
}

/// Before the first list of pods, which then does not have it.
async fn deleted_unwatched(given: Given) {
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    proxy.spoil(super::proxy::Fault::Refused(500), &["list /pods", "watch /pods"], 1);
    let fixture = fixture_by(&given, proxy.client()).await;
    let run = start(&fixture, &one(&witness, 3.0)).await;
    let pod = until_a_pod(&given, |_| true).await;
    pods(&given).delete(name(&pod), &DeleteParams::default().grace_period(0)).await.unwrap();
    proxy.heal();
    assert_eq!(ends(&run).await.state, RunState::Succeeded);
    assert_eq!(witness.attempts(2), [1]);
    let failures = failures(&run).await;
    assert!(matches!(&failures[..], [one] if one.contains("was deleted by somebody else")), "{failures:?}");
}
