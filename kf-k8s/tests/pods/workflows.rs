//! Containers of Argo's workflows as processes: no controller of Argo is at hand.

use std::process::Command;
use std::sync::Arc;

use kf_k8s::argo::{Options, workflow};
use kf_pipeline::Components;
use kube::Client;
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::strict::exported as pipelines;
use super::{Given, image, trial};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![trial(runtime, client, "workflows::a_container_does_what_argo_asks", as_argo_asks)]
}

/// What the program's containers run.
pub(crate) fn components() -> Components {
    pipelines::artifacts().components().clone()
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
