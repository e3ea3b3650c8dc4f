//! Runs that go well.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kf_core::metadata::RunState;
use kf_k8s::tasks::{PodExecutor, TaskOptions};
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::testing::{OutlivingSetup, Setup, executor_conformance, outliving_conformance};
use kf_pipeline::{AttemptHandle, Components, Engine, Executor, Pipeline, args};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::runtime::Runtime;

use super::super::Given;
use super::components::{items, last, who, works};
use super::{Fixture, store, trial};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "executor_conformance", conforms),
        trial(runtime, client, "outliving_conformance", outlives),
        trial(runtime, client, "commands_run_in_images_of_their_own", commands),
        trial(runtime, client, "what_a_pod_saved_the_next_one_finds", saved),
        trial(runtime, client, "what_a_task_used_is_told", usage),
        trial(runtime, client, "nothing_stays_of_a_run", nothing_stays),
        trial(runtime, client, "finished_pods_stay_as_long_as_asked", finished_pods_stay),
        trial(runtime, client, "a_cancelled_task_s_pod_is_gone_in_its_grace", cancelled),
        trial(runtime, client, "tasks_have_the_least_rights", least_rights),
        trial(runtime, client, "an_attempt_is_attached_to_by_its_handle", attached),
    ]
}

async fn conforms(given: Given) {
    let fixture = Fixture::with(&given, |_| {}, |builder| builder).await;
    executor_conformance(&Setup::new(fixture.engine.clone(), "pods")).await;
}

async fn outlives(given: Given) {
    super::store::give_keys(&given).await;
    let (home, namespace) = (tempfile::tempdir().unwrap(), given.namespace.clone());
    let (engine, admin) = (given.engine.clone(), given.admin.clone());
    let pods = namespace.clone();
    let executor = move || {
        let (_, executor) =
            super::builder(engine.clone(), &namespace, &home.path().join("home"), super::task_options());
        Arc::new(executor) as Arc<dyn Executor>
    };
    let delete = move |handle: AttemptHandle| {
        let pods: Api<Pod> = Api::namespaced(admin.clone(), &pods);
        async move {
            pods.delete(&PodExecutor::pod_name(&handle), &DeleteParams::default().grace_period(0))
                .await
                .unwrap();
        }
        .boxed()
    };
    outliving_conformance(&OutlivingSetup::new(executor).lose(delete)).await;
}

/// As Kubeflow Pipelines compiles them: commands with placeholders, in an image that knows nothing of this program.
async fn commands(given: Given) {
    let script = |script: &str| {
        json!({"container": {"image": super::image::SHELL, "command": ["/bin/sh", "-c", script],
            "env": [{"name": "GREETING", "value": "hello"}]}})
    };
    let make = "echo \"$GREETING {{$.inputs.parameters['name']}}\" > {{$.outputs.artifacts['said'].path}}; \
                printf 42 > {{$.outputs.parameters['number'].output_file}}; echo made";
    let take = "set -e; read text < {{$.inputs.artifacts['heard'].path}}; \
                printf '%s %s' \"$text\" \"{{$.inputs.parameters['number']}}\" > {{$.outputs.parameters['all'].output_file}}";
    let file: PipelineFile = serde_json::from_value(json!({"pipeline_spec": {
        "pipelineInfo": {"name": "commands"},
        "schemaVersion": "2.1.0",
        "deploymentSpec": {"executors": {"make": script(make), "take": script(take), "fail": script("echo why; exit 7")}},
        "components": {
            "make": {"executorLabel": "make",
                "inputDefinitions": {"parameters": {"name": {"parameterType": "STRING"}}},
                "outputDefinitions": {
                    "parameters": {"number": {"parameterType": "NUMBER_INTEGER"}},
                    "artifacts": {"said": {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}}}},
            "take": {"executorLabel": "take",
                "inputDefinitions": {
                    "parameters": {"number": {"parameterType": "NUMBER_INTEGER"}},
                    "artifacts": {"heard": {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}}},
                "outputDefinitions": {"parameters": {"all": {"parameterType": "STRING"}}}},
            "fail": {"executorLabel": "fail"},
        },
        "root": {
            "outputDefinitions": {"parameters": {"all": {"parameterType": "STRING"}}},
            "dag": {
                "outputs": {"parameters": {"all": {"valueFromParameter": {
                    "outputParameterKey": "all", "producerSubtask": "take"}}}},
                "tasks": {
                    "make": {"taskInfo": {"name": "make"}, "componentRef": {"name": "make"},
                        "inputs": {"parameters": {"name": {"runtimeValue": {"constant": "world"}}}}},
                    "take": {"taskInfo": {"name": "take"}, "componentRef": {"name": "take"}, "dependentTasks": ["make"],
                        "inputs": {
                            "parameters": {"number": {"taskOutputParameter": {
                                "producerTask": "make", "outputParameterKey": "number"}}},
                            "artifacts": {"heard": {"taskOutputArtifact": {
                                "producerTask": "make", "outputArtifactKey": "said"}}}}},
                    "fail": {"taskInfo": {"name": "fail"}, "componentRef": {"name": "fail"}, "dependentTasks": ["take"]},
                }}},
    }}))
    .unwrap();
    let pipeline = Pipeline::from_file(file, Components::new()).unwrap();
    let fixture = Fixture::new(&given).await;
    let run = fixture.engine.start(&pipeline, args! {}).await.unwrap();
    let outcome = run.wait().await.unwrap();
    let report = fixture.engine.report(run.id()).await.unwrap();
    let take = report.task("take").unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!(take.output::<String>("all").unwrap(), "hello world 42", "{outcome:?}");
    let error = outcome.error.unwrap();
    assert!(error.contains("its command ended with exit code 7") && error.contains("why"), "{error}");
    // Nobody in its image measures its memory.
    let used = take.usage;
    assert!(used.wall.is_some() && used.cpu.is_some() && used.peak_memory.is_none(), "{used:?}");
}

/// By the process in its pod.
async fn usage(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("works", |p| {
        p.add(works());
    })
    .unwrap();
    let run = fixture.engine.start(&pipeline, args! {}).await.unwrap();
    let outcome = run.wait().await.unwrap();
    assert_eq!((outcome.state, &outcome.error), (RunState::Succeeded, &None));
    let used = fixture.engine.report(run.id()).await.unwrap().task("works").unwrap().usage;
    assert!(used.cpu.is_some_and(|cpu| (280..30_000).contains(&cpu.as_millis())), "{used:?}");
    assert!(used.wall.is_some_and(|wall| wall.as_millis() >= 300), "{used:?}");
    assert!(used.peak_memory.is_some_and(|bytes| (100 << 20..1 << 30).contains(&bytes)), "{used:?}");
}

/// In a pod of an attempt that was lost; once the task has succeeded, nothing of it is left.
async fn saved(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("items", |p| {
        let by = p.add(items().retries(2));
        p.output("by", by.output);
    })
    .unwrap();
    let outcome = fixture.engine.start(&pipeline, args! {}).await.unwrap().wait().await.unwrap();
    assert_eq!(outcome.output::<Vec<u32>>("by").unwrap(), [1, 2, 3], "{outcome:?}");
    let scratch = tempfile::tempdir().unwrap();
    let store = store::of_the_engine(&given.namespace, scratch.path());
    assert_eq!(store.beside("checkpoints").unwrap().list(None).count().await, 0);
}

/// Pods go when what they gave is committed.
async fn nothing_stays(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("brief", |p| {
        for _ in 0..3 {
            p.add(last(0.0));
        }
    })
    .unwrap();
    let run = fixture.engine.start(&pipeline, args! {}).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, RunState::Succeeded);
    assert!(pods_of(&given, run.id().as_str()).await.is_empty());
}

/// Also that of the last task, whose phase says so only after the run's end.
async fn finished_pods_stay(given: Given) {
    let keep = |options: &mut TaskOptions| options.keep_finished = Duration::from_secs(600);
    let fixture = Fixture::with(&given, keep, |builder| builder).await;
    let pipeline = Pipeline::build("kept", |p| {
        let first = p.add(last(0.0));
        p.add(last(0.0).after(first));
    })
    .unwrap();
    let run = fixture.engine.start(&pipeline, args! {}).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, RunState::Succeeded);
    assert_eq!(pods_of(&given, run.id().as_str()).await.len(), 2);
}

/// The pods of a run that are there and not on their way out.
pub(crate) async fn pods_of(given: &Given, run: &str) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let list = ListParams::default().labels(&format!("kf.dev/run={run}"));
    let found = pods.list(&list).await.unwrap().items.into_iter();
    let found = found.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    found.filter_map(|pod| pod.metadata.name).collect()
}

async fn cancelled(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("lasting", |p| {
        p.add(last(300.0));
    })
    .unwrap();
    let run = fixture.engine.start(&pipeline, args! {}).await.unwrap();
    until_it_runs(&given, run.id().as_str()).await;
    run.cancel("enough").await;
    let outcome = tokio::time::timeout(Duration::from_secs(20), run.wait()).await.unwrap().unwrap();
    assert_eq!((outcome.state, outcome.tasks.canceled), (RunState::Canceled, 1));
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let left = async {
        while !pods.list(&ListParams::default()).await.unwrap().items.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), left).await.unwrap();
}

/// Waits until a pod of the run has its container started.
pub(crate) async fn until_it_runs(given: &Given, run: &str) -> Pod {
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let list = ListParams::default().labels(&format!("kf.dev/run={run}"));
    let running = async {
        loop {
            let found = pods.list(&list).await.unwrap();
            let runs = |pod: &Pod| {
                pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
            };
            if let Some(pod) = found.items.into_iter().find(runs) {
                return pod;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap()
}

async fn least_rights(given: Given) {
    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("who", |p| {
        let told = p.add(who());
        p.output("who", told.output);
    })
    .unwrap();
    let outcome = fixture.engine.start(&pipeline, args! {}).await.unwrap().wait().await.unwrap();
    assert_eq!(outcome.output::<String>("who").unwrap(), "65532 false");
}

/// By an executor that knows nothing else of it.
async fn attached(given: Given) {
    use futures::StreamExt;
    use kf_pipeline::{AttemptEnd, AttemptHandle, AttemptStatus, ExecutorError};

    let fixture = Fixture::new(&given).await;
    let pipeline = Pipeline::build("lasting", |p| {
        p.add(last(4.0));
    })
    .unwrap();
    let run = fixture.engine.start(&pipeline, args! {}).await.unwrap();
    let pod = until_it_runs(&given, run.id().as_str()).await;
    let handle = AttemptHandle(format!("{}/last#1", run.id()));
    assert_eq!(pod.metadata.name.as_deref(), Some(PodExecutor::pod_name(&handle).as_str()));
    let home = tempfile::tempdir().unwrap();
    let (_, other): (_, PodExecutor) = super::builder(
        given.engine.clone(),
        &given.namespace,
        &home.path().join("home"),
        super::task_options(),
    );
    let submission = other.attach(&handle).await.unwrap();
    let told: Vec<_> = submission.status.collect().await;
    let Some(AttemptStatus::Ended(AttemptEnd::Succeeded(outputs))) = told.last() else {
        panic!("{told:?}");
    };
    assert_eq!(outputs.parameters["Output"], 1);
    run.wait().await.unwrap();
    let gone = other.attach(&AttemptHandle("r/none#1".into())).await;
    assert!(matches!(gone, Err(ExecutorError::Gone(_))), "{gone:?}");
    drop::<Engine>(fixture.engine);
}
