//! Tasks as an executor makes them, with all that options give.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kf_k8s::train::Gang;
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{Components, Pipeline, args};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use super::super::tasks::Fixture;
use super::{Given, is_full, launched};

/// A component's pod and a command's, by a client that has them checked.
pub(super) async fn all(given: Given) {
    let fixture = Fixture::with(
        &given,
        |options| {
            options.pod = launched::options(Gang::volcano());
            options.keep_finished = Duration::from_secs(60);
            // The fixture has others in their place.
            options.env = vec![("A".into(), "$(B)".into())];
            is_full(options);
        },
        |builder| builder,
    )
    .await;
    let (own, theirs) = (components(), commands());
    let mut runs = Vec::new();
    for pipeline in [&own, &theirs] {
        runs.push(fixture.engine.start(pipeline, args! {}).await.unwrap());
    }
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    for run in &runs {
        let list = ListParams::default().labels(&format!("kf.dev/run={}", run.id()));
        let began = Instant::now();
        while pods.list(&list).await.unwrap().items.is_empty() {
            if let Ok(ended) = tokio::time::timeout(Duration::from_millis(100), run.wait()).await {
                panic!("{ended:?}");
            }
            assert!(began.elapsed() < Duration::from_secs(60), "there is no pod");
        }
        run.cancel("it was made").await;
    }
}

fn components() -> Pipeline {
    Pipeline::build("component", |p| {
        p.add(super::super::tasks::components::swell().timeout(Duration::from_secs(600)));
    })
    .unwrap()
}

fn commands() -> Pipeline {
    let file: PipelineFile = serde_json::from_value(json!({"pipeline_spec": {
        "pipelineInfo": {"name": "command"},
        "schemaVersion": "2.1.0",
        "deploymentSpec": {"executors": {"make": {"container": {
            "image": "registry.example/shell:1", "command": ["/bin/sh", "-c", "true"],
            "env": [{"name": "GREETING", "value": "hello $(PATH)"}],
            "resources": {"resourceCpuRequest": "0.5", "resourceCpuLimit": "0.5", "resourceMemoryRequest": "64Mi",
                "resourceMemoryLimit": "64Mi", "accelerator": {"resourceType": "nvidia.com/gpu", "resourceCount": "1"}},
        }}}},
        "components": {"make": {"executorLabel": "make"}},
        "root": {"dag": {"tasks": {"make": {"taskInfo": {"name": "make"}, "componentRef": {"name": "make"}}}}},
    }}))
    .unwrap();
    Pipeline::from_file(file, Components::new()).unwrap()
}
