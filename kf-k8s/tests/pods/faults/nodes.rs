//! Nodes that go, and pods that have to.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kf_core::metadata::RunState;
use kf_pipeline::{Pipeline, RunHandle};
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::runtime::Runtime;

use super::tasks::Fixture;
use super::tasks::components::witnessed;
use super::tasks::witness::Witness;
use super::work::{ends, failures, fixture_on, name, one, phase, pods, start, until, until_a_pod};
use super::{Given, long, trial};

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let mut trials = vec![
        trial(runtime, client, "nodes::evicted", evicted),
        trial(runtime, client, "nodes::preempted", preempted),
        trial(runtime, client, "nodes::a_node_that_does_not_answer_any_more", silent),
    ];
    if long() {
        trials.push(trial(runtime, client, "nodes::a_node_that_is_deleted", deleted));
    }
    trials
}

/// One attempt was lost by this reason, and the next succeeded; each began once.
async fn lost_once(run: &RunHandle, witness: &Witness, reason: &str) {
    assert_eq!(ends(run).await.state, RunState::Succeeded);
    let failures = failures(run).await;
    assert!(matches!(&failures[..], [one] if one.contains(reason)), "{failures:?}");
    assert_eq!((witness.attempts(1), witness.attempts(2)), (vec![1], vec![1]), "{:?}", witness.seen());
}

async fn evicted(given: Given) {
    let witness = Witness::listen(&given).await;
    let fixture = Fixture::new(&given).await;
    let run = start(&fixture, &one(&witness, 5.0)).await;
    let pod = until_a_pod(&given, |pod| phase(pod) == "Running").await;
    until("it has not begun", async || !witness.seen().is_empty()).await;
    pods(&given).evict(name(&pod), &EvictParams::default()).await.unwrap();
    lost_once(&run, &witness, "had to go: EvictionByEvictionAPI").await;
}

/// For the only place of a kind that the node has.
async fn preempted(given: Given) {
    let witness = Witness::listen(&given).await;
    let slot = format!("tests.kf.dev/{}", given.namespace);
    let nodes: Api<Node> = Api::all(given.admin.clone());
    let all = nodes.list(&ListParams::default().labels("kubernetes.io/os=linux,!kf-tests")).await.unwrap();
    let node =
        all.items.into_iter().find(|node| node.metadata.name.is_some()).unwrap().metadata.name.unwrap();
    let has = |count: serde_json::Value| {
        let patch =
            json!({"status": {"capacity": {slot.as_str(): count}, "allocatable": {slot.as_str(): count}}});
        Patch::Merge(patch)
    };
    nodes.patch_status(&node, &PatchParams::default(), &has(json!("1"))).await.unwrap();
    let class = |name: &str, value: i32| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": name}, "value": value})
    };
    let classes: Api<k8s_openapi::api::scheduling::v1::PriorityClass> = Api::all(given.admin.clone());
    let high = format!("{}-high", given.namespace);
    let made = serde_json::from_value(class(&high, 1000)).unwrap();
    classes.create(&PostParams::default(), &made).await.unwrap();

    let fixture = Fixture::new(&given).await;
    let address = witness.address().to_string();
    let pipeline = Pipeline::build("preempted", |p| {
        p.add(witnessed(1, address, 5.0).accelerator(&slot, 1.0));
    });
    let run = start(&fixture, &pipeline.unwrap()).await;
    until("it has not begun", async || !witness.seen().is_empty()).await;
    let other = json!({"metadata": {"name": "first"}, "spec": {"priorityClassName": high, "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "a", "image": super::super::image::SHELL, "command": ["/bin/sleep", "1"],
            "imagePullPolicy": "IfNotPresent", "resources": {"requests": {slot.as_str(): "1"}, "limits": {slot.as_str(): "1"}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}}});
    let other: Pod = serde_json::from_value(other).unwrap();
    pods(&given).create(&PostParams::default(), &other).await.unwrap();
    lost_once(&run, &witness, "had to go: PreemptionByScheduler").await;

    classes.delete(&high, &DeleteParams::default()).await.unwrap();
    nodes.patch_status(&node, &PatchParams::default(), &has(json!(null))).await.unwrap();
}

/// A node without anything behind it, on which nothing is put but by hand.
struct Fake<'a> {
    given: &'a Given,
    nodes: Api<Node>,
    name: String,
}

impl<'a> Fake<'a> {
    async fn make(given: &'a Given) -> Self {
        let nodes: Api<Node> = Api::all(given.admin.clone());
        let name = format!("{}-node", given.namespace);
        let node = json!({"metadata": {"name": name, "labels": {"kf-tests": "fake"}}, "spec": {"unschedulable": true}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        Self { given, nodes, name }
    }

    /// A pod is on it from now on, and seems to run.
    async fn runs(&self, pod: &Pod) {
        let (given, pod) = (self.given, name(pod));
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.name}});
        let bound = http::Request::post(format!("/api/v1/namespaces/{}/pods/{pod}/binding", given.namespace))
            .header("content-type", "application/json")
            .body(binding.to_string().into_bytes());
        given.admin.request::<serde_json::Value>(bound.unwrap()).await.unwrap();
        let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "task", "image": "", "imageID": "",
            "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}});
        pods(given).patch_status(pod, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    async fn delete(&self) {
        self.nodes.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

/// Attempts that wait for a node, the first of which is on the fake one.
async fn on_a_fake<'a>(given: &'a Given, witness: &Witness) -> (Fixture, RunHandle, Pod, Fake<'a>) {
    let fixture = fixture_on(given, ("kf-tests", "nowhere")).await;
    let run = start(&fixture, &one(witness, 0.0)).await;
    let pod = until_a_pod(given, |pod| phase(pod) == "Pending").await;
    let fake = Fake::make(given).await;
    fake.runs(&pod).await;
    (fixture, run, pod, fake)
}

/// The attempt is lost with its node, and there is another one, and only that.
async fn another(given: &Given, run: &RunHandle, first: &Pod, reason: &str) {
    let second = until_a_pod(given, |other| name(other) != name(first)).await;
    assert!(second.metadata.annotations.unwrap()["kf.dev/attempt"].ends_with("#2"));
    until("the first stays", async || pods(given).get_opt(name(first)).await.unwrap().is_none()).await;
    run.cancel("enough").await;
    assert_eq!(ends(run).await.state, RunState::Canceled);
    let failures = failures(run).await;
    assert!(matches!(&failures[..], [one] if one.contains(reason)), "{failures:?}");
}

/// The cluster tells its pod to go, and nobody does.
async fn silent(given: Given) {
    let witness = Witness::listen(&given).await;
    let (_fixture, run, pod, fake) = on_a_fake(&given, &witness).await;
    let disrupted = json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint"}]}});
    pods(&given).patch_status(name(&pod), &PatchParams::default(), &Patch::Merge(disrupted)).await.unwrap();
    pods(&given).delete(name(&pod), &DeleteParams::default().grace_period(1)).await.unwrap();
    another(&given, &run, &pod, "its node does not tell that it has ended").await;
    fake.delete().await;
}

/// The cluster removes its pods after a minute.
async fn deleted(given: Given) {
    let witness = Witness::listen(&given).await;
    let (_fixture, run, pod, fake) = on_a_fake(&given, &witness).await;
    fake.delete().await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    another(&given, &run, &pod, "is lost: DeletionByPodGC").await;
}
