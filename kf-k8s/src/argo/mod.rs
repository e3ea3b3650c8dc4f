//! Pipelines as Argo Workflows, for those who stay on that engine.
//!
//! [`workflow`] makes one object of a pipeline, which any Argo Workflows from 3.7 on runs by itself: no Kubeflow, and
//! nothing of this project, has to be there but the image of the pipeline's own components.
//!
//! ```
//! use kf_k8s::argo::{Options, workflow};
//! use kf_pipeline::prelude::*;
//!
//! #[component(retries = 2)]
//! async fn double(number: i64) -> i64 {
//!     2 * number
//! }
//!
//! let pipeline = Pipeline::build("quadruple", |p| {
//!     let number = p.param::<i64>("number", 1);
//!     let twice = p.add(double(number).named("twice"));
//!     p.add(double(twice.output).named("again"));
//! })?;
//! let workflow = workflow(&pipeline.file()?, &Options::new("registry.example/team/program:7", "/program"))?;
//! let root = workflow.spec.templates.iter().find(|template| template.name == workflow.spec.entrypoint);
//! let again = root.and_then(|root| root.dag.as_ref()?.tasks.iter().find(|task| task.name == "again"));
//! let number = again.and_then(|task| task.arguments.parameters[0].value.as_deref());
//! assert_eq!(number, Some("{{tasks.twice.outputs.parameters.Output}}"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The program of the components
//! The workflow's containers ask the program for components by their names. It answers where they are among its workers, first
//! thing in `main`:
//!
//! ```no_run
//! # use kf_pipeline::prelude::*;
//! # fn components() -> Components { Components::new() }
//! # fn store() -> kf_core::Result<kf_core::artifact::ArtifactStore> { kf_core::artifact::ArtifactStore::local("kf") }
//! use kf_core::worker::{Workers, run_if_asked};
//! use kf_pipeline::remote::RemoteTasks;
//!
//! # fn main() -> std::process::ExitCode {
//! let workers = Workers::new()
//!     .with(components())                             // Argo and Kubeflow Pipelines: by name
//!     .with(RemoteTasks::new(components(), store));   // an engine of this project whose tasks are pods
//! if let Some(code) = run_if_asked(&workers) {
//!     return code;
//! }
//! # std::process::ExitCode::SUCCESS
//! # }
//! ```
//!
//! # Rights
//! Pods keep to PodSecurity's `restricted` ([`Options::pod_security`]). They run in a namespace of
//! [`manifests`](mod@crate::manifests) under the account that [`workflow`](crate::manifests::Options::workflow) makes there:
//! give its name as [`Options::service_account`].
//!
//! # What becomes of what
//! | a pipeline's | is in the workflow |
//! |---|---|
//! | component of the program | a container of [`Options::image`] that is told KFP's executor input |
//! | container, lightweight Python component | the same container; what the latter leave to KFP's launcher, a few lines of Python around the step do |
//! | group, branch, loop's body, inner pipeline | a `dag` template, one for each set of optional inputs that it is given |
//! | order | `depends`, on success; on any end for tasks that run even if others failed |
//! | parameter | a parameter, whose text is the value itself for text and its JSON for all else |
//! | artifact | an artifact, which Argo keeps in its own repository |
//! | condition | `when` |
//! | loop over values | `withItems`, `withParam`; what it gives as parameters is a JSON list |
//! | loop that runs one iteration at a time | a mutex of that run |
//! | retries, timeout, mutex | `retryStrategy`, `activeDeadlineSeconds`, `synchronization` |
//! | question to a person | a `suspend` step, whose answer `argo node set --output-parameter` supplies |
//! | clean-up at the very end | `onExit`; others a task that depends on any end |
//! | limit of tasks at once | `parallelism` |
//!
//! # What does not go over
//! What a workflow has nothing for is refused with the task's name: imports, lists of artifacts, loops over artifacts and
//! with other limits than 1, fallbacks, loops that may fail in part, recursion, named cache keys and ages of what is
//! cached, jitter, shared workspaces, and what reads a thing that is said of an artifact. Two things differ without being
//! asked for: nothing is taken from earlier runs, and what components say of artifacts (their metadata) stays in the
//! file of metrics, or behind.

mod approval;
mod cel;
mod command;
mod dag;
mod error;
mod exit;
mod exporter;
mod fill;
mod found;
mod inputs;
mod kubernetes;
mod leaf;
mod loops;
mod names;
mod options;
mod order;
mod resources;
mod retry;
mod scope;
mod shape;
mod task;
mod text;

use std::collections::BTreeSet;

use kf_pipeline::Plan;
use kf_pipeline::spec::PipelineFile;

pub use error::{Error, Result};
pub use options::{Given, Options};

use crate::manifests::PodSecurity;
use crate::objects::Workflow;
use crate::objects::argo::{Arguments, Artifact, Parameter, WorkflowSpec};
use exporter::{Exporter, Variant};

/// A pipeline as a Workflow of Argo.
///
/// # Errors
/// [`Error::Pipeline`] where the pipeline can't run anywhere, [`Error::Options`] where it is given something that it does not
/// take, or not something that it needs, and [`Error::Unsupported`] with the first task that does something Argo has
/// nothing for.
pub fn workflow(file: &PipelineFile, options: &Options) -> Result<Workflow> {
    Plan::new(file)?;
    if options.pod_security == PodSecurity::Restricted && options.user == Some(0) {
        let problem = "`Options::user` is 0, and restricted pods don't run as root; choose another, or another `pod_security`";
        return Err(Error::unsupported("root", problem));
    }
    let mut exporter = Exporter::new(file, options)?;
    if exporter.kf.max_tasks.is_some_and(|most| i64::from(most) < 1) {
        return Err(Error::unsupported("root", "it runs at most 0 tasks at once"));
    }
    let (arguments, absent) = arguments(file, options)?;
    let mut spec = WorkflowSpec {
        arguments,
        parallelism: exporter.kf.max_tasks.map(i64::from),
        active_deadline_seconds: options.deadline,
        service_account_name: options.service_account.clone(),
        ttl_strategy: options.ttl.clone(),
        pod_gc: options.pod_gc.clone(),
        ..WorkflowSpec::default()
    };
    let root = &file.pipeline_spec.root;
    if let Some(dag) = root.dag.as_deref() {
        let at_exit = exit::tasks(dag);
        let variant = Variant { component: "root".into(), absent, ..Variant::default() };
        spec.on_exit = exit::handler(&mut exporter, &at_exit, &variant.absent)?;
        let template = dag::template(&mut exporter, &variant, root, dag, &at_exit)?;
        spec.entrypoint = exporter.add("root", template);
    }
    spec.templates = exporter.finish();
    let mut workflow = Workflow { spec, ..Workflow::default() };
    match &options.name {
        Some(name) => workflow.metadata.name = Some(name.clone()),
        None => {
            let name = names::workflow(&file.pipeline_spec.pipeline_info.name);
            workflow.metadata.generate_name = Some(format!("{name}-"));
        }
    }
    Ok(workflow)
}

/// What the workflow is called with, and what its pipeline is not given.
fn arguments(file: &PipelineFile, options: &Options) -> Result<(Arguments, BTreeSet<String>)> {
    let declared = &file.pipeline_spec.root.input_definitions;
    let refuse = |option: &'static str, problem: String| Error::Options { option, problem };
    let unknown =
        |option, what: &str, name: &str| refuse(option, format!("the pipeline has no {what} `{name}`"));
    if let Some(name) = options.arguments.keys().find(|name| !declared.parameters.contains_key(name)) {
        return Err(unknown("arguments", "parameter", name));
    }
    if let Some(name) = options.artifacts.keys().find(|name| !declared.artifacts.contains_key(name)) {
        return Err(unknown("artifacts", "artifact", name));
    }
    let (mut arguments, mut absent) = (Arguments::default(), BTreeSet::new());
    let ports = names::parameters(declared.parameters.keys());
    for (name, input) in &declared.parameters {
        let given = options.arguments.get(name);
        if let Some(found) = given.filter(|value| !input.kind().accepts(value)) {
            let problem = format!("`{name}`: expected {}, found {found}", input.kind());
            return Err(refuse("arguments", problem));
        }
        let value = given.or(input.default_value.as_ref()).filter(|value| !value.is_null());
        if value.is_none() && input.is_optional {
            absent.insert(name.clone());
            continue;
        }
        let value = value.map(|value| inputs::value(input, value)).transpose();
        let value = value.map_err(|problem| refuse("arguments", format!("`{name}`: {problem}")))?;
        let name = ports.get(name).cloned().unwrap_or_default();
        let description = input.description.clone();
        arguments.parameters.push(Parameter { name, value, description, ..Parameter::default() });
    }
    let ports = names::parameters(declared.artifacts.keys());
    for (name, input) in &declared.artifacts {
        let artifact = Artifact { name: ports.get(name).cloned().unwrap_or_default(), ..Artifact::default() };
        match options.artifacts.get(name) {
            Some(Given::S3(s3)) => arguments.artifacts.push(Artifact { s3: Some(s3.clone()), ..artifact }),
            Some(Given::Raw(raw)) => {
                arguments.artifacts.push(Artifact { raw: Some(raw.clone()), ..artifact })
            }
            None if input.is_optional => drop(absent.insert(name.clone())),
            None => {
                return Err(refuse(
                    "artifacts",
                    format!("the pipeline takes artifact `{name}`: say where it lies"),
                ));
            }
        }
    }
    Ok((arguments, absent))
}
