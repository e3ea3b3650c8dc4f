//! Pipelines as workflows of Argo, judged by Argo's schema and by a walk over their references.

mod carried;
mod expression;
mod files;
mod pipelines;
mod refused;
mod steps;
mod walk;

use kf_k8s::argo::{Options, workflow};
use kf_k8s::objects::Workflow;
use kf_k8s::objects::argo::{DagTask, Template};
use kf_pipeline::Pipeline;

fn options() -> Options {
    Options::new("registry.example/team/program:7", "/program")
}

fn exported(pipeline: &Pipeline) -> Workflow {
    workflow(&pipeline.file().unwrap(), &options()).unwrap()
}

fn template<'w>(workflow: &'w Workflow, name: &str) -> &'w Template {
    let found = workflow.spec.templates.iter().find(|template| template.name == name);
    found.unwrap_or_else(|| panic!("no template {name}: {:?}", names(workflow)))
}

fn names(workflow: &Workflow) -> Vec<&str> {
    workflow.spec.templates.iter().map(|template| template.name.as_str()).collect()
}

fn task<'w>(workflow: &'w Workflow, dag: &str, name: &str) -> &'w DagTask {
    let tasks = &template(workflow, dag).dag.as_ref().unwrap().tasks;
    let found = tasks.iter().find(|task| task.name == name);
    found.unwrap_or_else(|| panic!("no task {name}: {tasks:#?}"))
}

fn argument<'w>(task: &'w DagTask, name: &str) -> &'w str {
    let found = task.arguments.parameters.iter().find(|given| given.name == name);
    found.and_then(|given| given.value.as_deref()).unwrap_or_else(|| panic!("no argument {name}: {task:#?}"))
}
