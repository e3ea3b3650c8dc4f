//! Containers of Argo's workflows as processes: no controller of Argo is at hand.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kf_k8s::argo::{Options, workflow};
use kf_k8s::manifests::{self, PodSecurity};
use kf_k8s::objects::argo::Template;
use kf_pipeline::Components;
use kube::api::{LogParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::cluster::account;
use super::strict::exported as pipelines;
use super::{Given, image, trial, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "workflows::a_container_does_what_argo_asks", as_argo_asks),
        in_pods(runtime, client, "workflows::a_namespace_of_manifests_takes_their_pods", their_pods),
        in_pods(runtime, client, "workflows::their_account_writes_results_alone", results_alone),
    ]
}

/// A test in a namespace with an account for workflows.
fn in_pods<F>(
    runtime: &Arc<Runtime>,
    client: &Client,
    name: &str,
    test: impl FnOnce(Given) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    let options = |options: &mut manifests::Options| options.workflow = Some(ACCOUNT.into());
    trial_with(runtime, client, name, options, test)
}

/// Whom their pods run as.
const ACCOUNT: &str = "kf-workflow";

/// What the program's containers run.
pub(crate) fn components() -> Components {
    pipelines::artifacts().components().clone()
}

/// The pod that Argo makes of a template, but for what it adds of its own.
fn pod(name: &str, template: &Template) -> Pod {
    let spec = PodSpec {
        containers: template.container.clone().into_iter().collect(),
        volumes: Some(template.volumes.clone()),
        security_context: template.security_context.clone(),
        service_account_name: Some(ACCOUNT.into()),
        restart_policy: Some("Never".into()),
        ..PodSpec::default()
    };
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Pod { metadata, spec: Some(spec), status: None }
}

/// What gives something and what gives nothing, both with no more than the namespace lets pods have.
async fn their_pods(given: Given) {
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let mut options = Options::new(image::NAME, "/app/program");
    options.image_pull_policy = Some("IfNotPresent".into());
    options.service_account = Some(ACCOUNT.into());
    for pipeline in pipelines::all() {
        let file = pipeline.file().unwrap();
        let made = workflow(&file, &options).unwrap();
        for template in made.spec.templates.iter().filter(|template| template.container.is_some()) {
            pods.create(&dry, &pod(&template.name, template)).await.unwrap();
        }
        options.pod_security = PodSecurity::Baseline;
        let made = workflow(&file, &options).unwrap();
        options.pod_security = PodSecurity::Restricted;
        if let Some(template) = made.spec.templates.iter().find(|template| template.container.is_some()) {
            let error = pods.create(&dry, &pod(&template.name, template)).await.unwrap_err().to_string();
            assert!(error.contains("violates PodSecurity"), "{error}");
        }
    }
    // The image's own entrypoint is the program, wherever it lies there.
    let made = workflow(&pipelines::artifacts().file().unwrap(), &options).unwrap();
    let is_bare =
        |template: &&Template| template.name.starts_with("publish") && template.inputs.parameters.is_empty();
    let mut templates = made.spec.templates.iter();
    let load = templates.clone().find(|template| template.name == "load");
    for (name, template) in [("load", load), ("publish", templates.find(is_bare))] {
        let template = template.unwrap();
        assert_eq!(template.outputs.is_empty(), name == "publish");
        let mut pod = pod(name, template);
        pod.spec.as_mut().unwrap().containers[0].command = None;
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let until = Instant::now() + Duration::from_secs(120);
        let phase = loop {
            let phase = pods.get(name).await.unwrap().status.and_then(|status| status.phase);
            if phase.as_deref().is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase)) {
                break phase;
            }
            assert!(Instant::now() < until, "{name}: {phase:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        let log = pods.logs(name, &LogParams::default()).await.unwrap();
        assert_eq!(phase.as_deref(), Some("Succeeded"), "{name}: {log}");
    }
}

async fn results_alone(given: Given) {
    let client = account(&given.admin, &given.namespace, ACCOUNT).await;
    let may = async |group: &str, resource: &str, verb: &str| {
        let asked = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.into()),
                    resource: Some(resource.into()),
                    verb: Some(verb.into()),
                    namespace: Some(given.namespace.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        reviews.create(&PostParams::default(), &asked).await.unwrap().status.unwrap().allowed
    };
    // The API server hears of rights a little later.
    let until = Instant::now() + Duration::from_secs(20);
    while !may("argoproj.io", "workflowtaskresults", "create").await {
        assert!(Instant::now() < until, "it may create no results");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(may("argoproj.io", "workflowtaskresults", "patch").await);
    for (group, resource, verb) in [
        ("argoproj.io", "workflowtaskresults", "get"),
        ("argoproj.io", "workflowtaskresults", "delete"),
        ("argoproj.io", "workflows", "create"),
        ("", "pods", "get"),
        ("", "pods", "create"),
        ("", "secrets", "get"),
    ] {
        assert!(!may(group, resource, verb).await, "{verb} {resource}");
    }
}

/// Runs a component's container with its inputs filled in, and reads what Argo would.
async fn as_argo_asks(_: Given) {
    let pipeline = pipelines::artifacts();
    let workflow = workflow(&pipeline.file().unwrap(), &Options::new(image::NAME, "/program")).unwrap();
    let fit = workflow.spec.templates.iter().find(|template| template.name == "fit").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| path.replace("/kf", folder.path().to_str().unwrap());
    for path in ["/kf/in", "/kf/out"] {
        std::fs::create_dir_all(at(path)).unwrap();
    }
    std::fs::write(at("/kf/in/data"), "1").unwrap();
    let args = fit.container.as_ref().unwrap().args.as_ref().unwrap().iter().map(|word| {
        at(word)
            .replace("{{inputs.parameters.rate}}", "0.25")
            .replace("{{=toJson(inputs.parameters['label'])}}", "\"a \\\"b\\\"\"")
    });
    let ended = Command::new(std::env::current_exe().unwrap()).args(args).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let read = |path: &str| std::fs::read_to_string(at(path)).unwrap();
    for output in &fit.outputs.parameters {
        let path = output.value_from.as_ref().unwrap().path.as_ref().unwrap();
        let expected = match output.name.as_str() {
            "accuracy" => "0.25",
            // JSON but for text.
            "mode" => "\"Exact\"",
            _ => "a \"b\"",
        };
        assert_eq!(read(path), expected, "{}", output.name);
    }
    assert_eq!(read(fit.outputs.artifacts[0].path.as_ref().unwrap()), "a \"b\"");
}
