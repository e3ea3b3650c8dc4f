//! Workflows of Argo before a real API server, and their containers as processes: no controller of Argo is at hand.

#[path = "../it/argo/pipelines.rs"]
mod pipelines;

use std::process::Command;
use std::sync::Arc;

use kf_k8s::argo::{Options, workflow};
use kf_k8s::objects::Workflow;
use kf_pipeline::Components;
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource};
use libtest_mimic::Trial;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use super::{Given, image, trial};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let groups = runtime.block_on(client.list_api_groups()).unwrap();
    let mut trials = vec![trial(runtime, client, "workflows::a_container_does_what_argo_asks", as_argo_asks)];
    match groups.groups.iter().any(|group| group.name == "argoproj.io") {
        true => trials.push(trial(runtime, client, "workflows::the_server_takes_them", taken)),
        false => println!("JUDGE argo-server skipped: the cluster has no definition of Workflow"),
    }
    trials
}

/// What the program's containers run.
pub(crate) fn components() -> Components {
    pipelines::artifacts().components().clone()
}

/// Creates a workflow, but for doing it, as strictly as the server can.
async fn create(given: &Given, workflow: &Json) -> Result<Json, kube::Error> {
    let path = Workflow::url_path(&(), Some(&given.namespace));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let mut request = Request::new(path).create(&dry, serde_json::to_vec(workflow).unwrap()).unwrap();
    *request.uri_mut() = format!("{}&fieldValidation=Strict", request.uri()).parse().unwrap();
    given.admin.request(request).await
}

async fn taken(given: Given) {
    for pipeline in pipelines::all() {
        let workflow = workflow(&pipeline.file().unwrap(), &Options::new(image::NAME, "/program")).unwrap();
        let written = serde_json::to_value(&workflow).unwrap();
        let kept =
            create(&given, &written).await.unwrap_or_else(|error| panic!("{}: {error}", pipeline.name()));
        // Nothing was dropped or changed on the way.
        assert_eq!(kept["spec"], written["spec"], "{}", pipeline.name());
        assert!(kept["metadata"]["name"].as_str().unwrap().starts_with(pipeline.name()));
    }
    let mut wrong = serde_json::to_value(
        workflow(&pipelines::people().file().unwrap(), &Options::new(image::NAME, "/program")).unwrap(),
    )
    .unwrap();
    wrong["spec"]["templates"][0]["dags"] = json!({});
    let error = create(&given, &wrong).await.unwrap_err().to_string();
    assert!(error.contains("unknown field") && error.contains("dags"), "{error}");
    println!("JUDGE argo-server passed");
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
