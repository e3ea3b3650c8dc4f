//! What goes wrong with tasks, in words.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kf_core::metadata::RunState;
use kf_k8s::tasks::PodExecutor;
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{AttemptHandle, Components, Pipeline, RunEvent, RunHandle, StartOptions, args};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::runtime::Runtime;

use super::super::Given;
use super::components::{last, swell, vanish};
use super::runs::until_it_runs;
use super::{Fixture, image, trial};

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "an_exit_without_a_reply", vanished),
        trial(runtime, client, "more_memory_than_the_limit", out_of_memory),
        trial(runtime, client, "an_image_that_is_not_there", no_image),
        trial(runtime, client, "no_node_with_room", unschedulable),
        trial(runtime, client, "a_volume_that_can_t_be_mounted", unmounted),
        trial(runtime, client, "a_quota_that_is_used_up", quota),
        trial(runtime, client, "a_pod_that_admission_refuses", refused),
        trial(runtime, client, "a_pod_deleted_by_somebody_else", deleted),
        trial(runtime, client, "a_name_that_is_taken", taken),
        trial(runtime, client, "rights_that_are_not_there", forbidden),
    ]
}

/// Why a pipeline's run failed.
async fn failure(fixture: &Fixture, pipeline: &Pipeline) -> String {
    let run = fixture.engine.start(pipeline, args! {}).await.unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(100), run.wait()).await.unwrap().unwrap();
    assert_eq!(outcome.state, RunState::Failed);
    outcome.error.unwrap()
}

/// What a run's first wait is for.
async fn wait_of(run: &RunHandle) -> String {
    let mut events = run.events();
    let waiting = async {
        while let Some(event) = events.next().await {
            match event {
                RunEvent::TaskWaiting { reason, .. } => return reason,
                RunEvent::RunEnded { state, error } => panic!("it has ended: {state} {error:?}"),
                _ => {}
            }
        }
        panic!("no more events");
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap()
}

async fn vanished(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("vanish", |p| {
        p.add(vanish());
    });
    let error = failure(&fixture, &pipeline.unwrap()).await;
    assert!(error.contains("ended without a reply: exit code 3") && error.contains("so long"), "{error}");
}

async fn out_of_memory(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("swell", |p| {
        p.add(swell());
    });
    let error = failure(&fixture, &pipeline.unwrap()).await;
    assert!(error.contains("more memory than its limit of 67108864 (OOMKilled)"), "{error}");
}

async fn no_image(given: Given) {
    let options = |options: &mut kf_k8s::tasks::TaskOptions| {
        options.pod.image = "kf.local/no-such-image:1".into();
        options.pod.image_pull_policy = Some("Never".into());
    };
    let fixture = Fixture::with(&given, options, |builder| builder).await;
    let pipeline = Pipeline::build("image", |p| {
        p.add(last(0.0));
    });
    let error = failure(&fixture, &pipeline.unwrap()).await;
    assert!(error.contains("can't start") && error.contains("no-such-image"), "{error}");
}

async fn unschedulable(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("large", |p| {
        p.add(last(0.0).cpu(1000.0));
    });
    let run = fixture.engine.start(&pipeline.unwrap(), args! {}).await.unwrap();
    let reason = wait_of(&run).await;
    assert!(reason.contains("no node takes it") && reason.contains("Insufficient cpu"), "{reason}");
    run.cancel("enough").await;
    assert_eq!(run.wait().await.unwrap().state, RunState::Canceled);
}

/// No status of the pod says a word of it.
async fn unmounted(given: Given) {
    let file: PipelineFile = serde_json::from_value(json!({
        "pipeline_spec": {
            "pipelineInfo": {"name": "unmounted"},
            "schemaVersion": "2.1.0",
            "deploymentSpec": {"executors": {"exec": {"container": {
                "image": image::SHELL, "command": ["/bin/sh", "-c", "true"]}}}},
            "components": {"comp": {"executorLabel": "exec"}},
            "root": {"dag": {"tasks": {"wait": {"taskInfo": {"name": "wait"}, "componentRef": {"name": "comp"}}}}},
        },
        "platform_spec": {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec": {
            "secretAsVolume": [{"secretName": "nowhere", "mountPath": "/s", "optional": false}]}}}}}},
    }))
    .unwrap();
    let pipeline = Pipeline::from_file(file, Components::new()).unwrap();
    let fixture = Fixture::new(&given).await;
    let run = fixture.engine.start(&pipeline, args! {}).await.unwrap();
    let reason = wait_of(&run).await;
    assert!(reason.contains("FailedMount") && reason.contains("secret \"nowhere\" not found"), "{reason}");
    // It is tried again and again by the node, and told once.
    tokio::time::sleep(Duration::from_secs(6)).await;
    run.cancel("enough").await;
    assert_eq!(run.wait().await.unwrap().state, RunState::Canceled);
    let report = fixture.engine.report(run.id()).await.unwrap();
    let task = report.task("wait").unwrap();
    let told: Vec<_> = task.events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(told.iter().filter(|message| **message == reason).count(), 1, "{told:?}");
    assert_eq!(task.usage.wall, None, "it has not run");
}

/// It waits, and goes on when there is room.
async fn quota(given: Given) {
    let quotas = given.quota("none", json!({"pods": "0"})).await;
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("quota", |p| {
        p.add(last(0.0));
    });
    let run = fixture.engine.start(&pipeline.unwrap(), args! {}).await.unwrap();
    let reason = wait_of(&run).await;
    assert!(reason.contains("quota is used up") && reason.contains("exceeded quota: none"), "{reason}");
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(60), run.wait()).await.unwrap().unwrap();
    assert_eq!((outcome.state, outcome.tasks.succeeded), (RunState::Succeeded, 1));
}

/// The namespace's PodSecurity takes no root.
async fn refused(given: Given) {
    let fixture = Fixture::with(&given, |options| options.pod.user = Some(0), |builder| builder).await;
    let pipeline = Pipeline::build("root", |p| {
        p.add(last(0.0).retries(2));
    });
    let error = failure(&fixture, &pipeline.unwrap()).await;
    assert!(error.contains("refuses pod") && error.contains("PodSecurity"), "{error}");
}

/// It is the cluster's doing, and tried again though the task has no retries.
async fn deleted(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("deleted", |p| {
        let told = p.add(last(300.0));
        p.output("attempt", told.output);
    });
    let run = fixture.engine.start(&pipeline.unwrap(), args! {}).await.unwrap();
    let pod = until_it_runs(&given, run.id().as_str()).await;
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    pods.delete(&pod.metadata.name.unwrap(), &DeleteParams::default()).await.unwrap();
    let failed = run.events().filter_map(async |event| match event {
        RunEvent::AttemptFailed { error, .. } => Some(error),
        _ => None,
    });
    let mut failed = std::pin::pin!(failed);
    let error = tokio::time::timeout(Duration::from_secs(60), failed.next()).await.unwrap().unwrap();
    assert!(error.contains("was deleted by somebody else"), "{error}");
    let outcome = tokio::time::timeout(Duration::from_secs(60), run.wait()).await.unwrap().unwrap();
    assert_eq!(outcome.output::<i64>("attempt").unwrap(), 2);
}

async fn taken(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("taken", |p| {
        p.add(last(0.0));
    })
    .unwrap();
    let name = PodExecutor::pod_name(&AttemptHandle("mine/last#1".into()));
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let other = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "kf.local/pause:1",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}}});
    pods.create(&PostParams::default(), &serde_json::from_value(other).unwrap()).await.unwrap();
    let options = StartOptions::new().id("mine".parse().unwrap());
    let run = fixture.engine.start_with(&pipeline, args! {}, options).await.unwrap();
    let error = run.wait().await.unwrap().error.unwrap();
    assert!(error.contains("is taken") && error.contains(&name) && error.contains("mine/last#1"), "{error}");
    // What is somebody else's stays.
    assert!(pods.get_opt(&name).await.unwrap().is_some());
}

/// They are lost attempts, until there are too many.
async fn forbidden(given: Given) {
    let fixture = Fixture::with(&given, |_| {}, |builder| builder.max_lost(1)).await;
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> =
        Api::namespaced(given.admin.clone(), &given.namespace);
    bindings.delete("kf-engine", &DeleteParams::default()).await.unwrap();
    let pipeline = Pipeline::build("forbidden", |p| {
        p.add(last(0.0));
    });
    let error = failure(&fixture, &pipeline.unwrap()).await;
    assert!(error.contains("may not do that") && error.contains("cannot create resource"), "{error}");
}
