//! What pipelines ask of a cluster: pods by their platform's configuration, claims, and workflows of Argo.

#[path = "../../it/argo/pipelines.rs"]
pub(crate) mod exported;
#[expect(dead_code, reason = "what a row should make is looked at without a cluster")]
#[path = "../../platform/mod.rs"]
mod platform;

use k8s_openapi::api::core::v1::Pod;
use kf_k8s::argo::{Given as Artifact, Options, workflow};
use kf_k8s::objects::argo::{PodGc, RawArtifact, TtlStrategy};
use kf_k8s::tasks::platform::{CREATE_CLAIM, ClaimTask};
use kf_pipeline::spec::PipelineFile;
use serde_json::json;

use super::super::{image, judge};
use super::server::Server;
use super::{Given, is_full};

/// What configurations of the platform `kubernetes` make of a pod, and the claims of tasks.
pub(super) async fn rows(given: Given) {
    let server = Server::new(&given.namespace).await;
    let mut problems = Vec::new();
    for (index, row) in platform::rows().iter().enumerate() {
        let (template, _) = row.made().unwrap();
        let mut metadata = template.metadata.unwrap_or_default();
        metadata.name = Some(format!("row-{index}"));
        let pod = Pod { metadata, spec: template.spec, status: None };
        if let Err(problem) = server.check(&json!(pod)).await {
            problems.push(format!("{}: {problem}", row.name));
        }
    }
    for (name, parameters, _) in platform::claims() {
        let task = ClaimTask::of(CREATE_CLAIM, platform::object(&parameters), "generated").unwrap();
        let Some(ClaimTask::Create { claim, .. }) = task else { panic!("{name}: {task:?}") };
        if let Err(problem) = server.check(&json!(claim)).await {
            problems.push(format!("{name}: {problem}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Of pipelines that do all that a workflow can, with all that options give, and of upstream's files.
pub(super) async fn workflows(given: Given) {
    let server = Server::new(&given.namespace).await;
    let mut problems = Vec::new();
    let (mut names, mut all) = (Vec::new(), Vec::new());
    for pipeline in exported::all() {
        names.push(pipeline.name().to_owned());
        let options = options(pipeline.name());
        all.push(workflow(&pipeline.file().unwrap(), &options).unwrap());
    }
    for (name, file) in upstream() {
        let mut options = Options::default();
        for name in file.pipeline_spec.root.input_definitions.artifacts.keys() {
            options.artifacts.insert(name.clone(), Artifact::Raw(RawArtifact { data: "x".into() }));
        }
        // Those that it refuses are told apart elsewhere.
        if let Ok(workflow) = workflow(&file, &options) {
            names.push(name);
            all.push(workflow);
        }
    }
    if !server.has(&json!(all[0])).await {
        judge("argo-server", "skipped: the cluster has no definition of Workflow");
        return;
    }
    for (name, workflow) in names.iter().zip(&all) {
        if let Err(problem) = server.check(&json!(workflow)).await {
            problems.push(format!("{name}: {problem}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let mut wrong = json!(all[0]);
    wrong["spec"]["templates"][0]["dags"] = json!({});
    let error = server.check(&wrong).await.unwrap_err();
    assert!(error.contains("unknown field") && error.contains("dags"), "{error}");
    judge("argo-server", "passed");
}

/// All of them.
fn options(name: &str) -> Options {
    let options = Options {
        name: Some(format!("{name}-7")),
        service_account: Some("argo".into()),
        ttl: Some(TtlStrategy { seconds_after_completion: Some(600), ..TtlStrategy::default() }),
        pod_gc: Some(PodGc {
            strategy: Some("OnPodSuccess".into()),
            delete_delay_duration: Some("30s".into()),
        }),
        deadline: Some(3600),
        image_pull_policy: Some("IfNotPresent".into()),
        env: vec![("A".into(), "b".into())],
        secrets: vec!["keys".into()],
        ..Options::new(image::NAME, "/program")
    };
    // What a pipeline takes is its own matter.
    let shown = Options {
        arguments: [("a".to_owned(), 1.into())].into(),
        artifacts: [("a".to_owned(), Artifact::Raw(RawArtifact::default()))].into(),
        ..options.clone()
    };
    is_full(&shown);
    options
}

/// Upstream's compiled pipelines, where they are at hand.
fn upstream() -> Vec<(String, PipelineFile)> {
    let Some(folder) = std::env::var_os("KF_CONFORMANCE") else { return Vec::new() };
    let entries = std::fs::read_dir(std::path::Path::new(&folder).join("kfp")).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem()?.to_str()?.to_owned();
        let valid = !name.starts_with("invalid__");
        valid.then(|| (name, PipelineFile::from_yaml(std::fs::read(&path).unwrap()).unwrap()))
    };
    yaml.filter_map(read).collect()
}
