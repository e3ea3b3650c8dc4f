//! What tasks have to do in these tests, and what is looked at.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kf_core::metadata::RunState;
use kf_core::process::{LogStream, log_lines};
use kf_k8s::tasks::TaskOptions;
use kf_pipeline::{Pipeline, RunHandle, RunOutcome, args};
use kube::api::ListParams;
use kube::{Api, Client};

use super::Given;
use super::tasks::Fixture;
use super::tasks::components::{total, witnessed};
use super::tasks::witness::Witness;

/// Tasks at once that tell the witness, and last so long each; the sum of their numbers is put out.
pub(super) fn witnessed_tasks(witness: &Witness, tasks: i64, seconds: f64) -> Pipeline {
    Pipeline::build("witnessed", |p| {
        let numbers = p.param::<Vec<i64>>("numbers", (0..tasks).collect::<Vec<_>>());
        let witness = witness.address().to_string();
        let each = p.parallel_for(numbers, |p, number| p.add(witnessed(number, witness, seconds)));
        let sum = p.add(total(each.collect().output));
        p.output("total", sum.output);
    })
    .unwrap()
}

/// One task that tells the witness, and lasts so long in each attempt.
pub(super) fn one(witness: &Witness, seconds: f64) -> Pipeline {
    let witness = witness.address().to_string();
    Pipeline::build("one", |p| {
        p.add(witnessed(1, witness, seconds));
    })
    .unwrap()
}

/// What comes of a run that must come to its end.
pub(super) async fn ends(run: &RunHandle) -> RunOutcome {
    tokio::time::timeout(Duration::from_secs(100), run.wait()).await.unwrap().unwrap()
}

/// That many tasks have succeeded by now, and each ran once.
pub(super) async fn all_once(run: &RunHandle, witness: &Witness, tasks: i64) {
    let outcome = ends(run).await;
    assert_eq!((outcome.state, &outcome.error), (RunState::Succeeded, &None), "{outcome:?}");
    assert_eq!(outcome.output::<i64>("total").unwrap(), (0..tasks).sum::<i64>());
    let seen = witness.seen();
    assert_eq!(witness.attempts(1), vec![1; usize::try_from(tasks).unwrap()], "{seen:?}");
    assert_eq!(seen.len(), usize::try_from(tasks).unwrap(), "{seen:?}");
}

/// A fixture whose engine reaches the cluster by this client.
pub(super) async fn fixture_by(given: &Given, engine: Client) -> Fixture {
    Fixture::new(&Given { engine, ..given.clone() }).await
}

/// One whose pods go to nodes with this label.
pub(super) async fn fixture_on(given: &Given, label: (&str, &str)) -> Fixture {
    let select = |options: &mut TaskOptions| {
        options.pod.node_selector = [(label.0.to_owned(), label.1.to_owned())].into();
    };
    Fixture::with(given, select, |builder| builder).await
}

pub(super) fn pods(given: &Given) -> Api<Pod> {
    Api::namespaced(given.admin.clone(), &given.namespace)
}

/// The one pod of the namespace, once there is one for which this holds.
pub(super) async fn until_a_pod(given: &Given, holds: impl Fn(&Pod) -> bool) -> Pod {
    let began = Instant::now();
    loop {
        let all = pods(given).list(&ListParams::default()).await.unwrap().items;
        if let Some(pod) = all.into_iter().find(&holds) {
            return pod;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "there is no such pod");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

/// Waits until this holds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was said of a run's failed attempts.
pub(super) async fn failures(run: &RunHandle) -> Vec<String> {
    let events = run.events().filter_map(async |event| match event {
        kf_pipeline::RunEvent::AttemptFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    tokio::time::timeout(Duration::from_secs(60), events.collect()).await.unwrap()
}

/// The lines of a log.
pub(super) async fn lines(log: LogStream) -> Vec<String> {
    log_lines(log).map(Result::unwrap).collect().await
}

/// Starts a pipeline's run.
pub(super) async fn start(fixture: &Fixture, pipeline: &Pipeline) -> RunHandle {
    fixture.engine.start(pipeline, args! {}).await.unwrap()
}
