//! What configurations make of a pod: facts of what upstream's driver builds (`backend/src/v2/driver/k8s.go` and its tests,
//! 2026-08), and of what it doesn't. The tests of the crate and those on a cluster go through the same rows.

mod claims;
mod containers;
mod environment;
mod scheduling;
mod sdk;
mod volumes;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kf_k8s::tasks::platform::{KubernetesConfig, PlatformError, Reference, Source};
use serde_json::{Map, Value as Json, json};

pub(crate) use claims::claims;

/// The container of the task.
pub(crate) const MAIN: &str = "main";

/// A configuration, and what it makes of a pod with one plain container.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) config: Json,
    /// Values by `input`, `task.output` and `run:argument`.
    pub(crate) parameters: Json,
    /// Fields of the container.
    pub(crate) main: Json,
    /// Further fields of the pod.
    pub(crate) spec: Json,
    pub(crate) metadata: Json,
    /// Parts of the notes, in order.
    pub(crate) notes: Vec<&'static str>,
}

/// A row that asks for no parameter and changes nothing yet.
pub(crate) fn row(name: &'static str, config: Json) -> Row {
    let none = || json!({});
    Row { name, config, parameters: none(), main: none(), spec: none(), metadata: none(), notes: Vec::new() }
}

impl Row {
    fn parameters(self, parameters: Json) -> Self {
        Self { parameters, ..self }
    }

    fn main(self, main: Json) -> Self {
        Self { main, ..self }
    }

    fn spec(self, spec: Json) -> Self {
        Self { spec, ..self }
    }

    fn metadata(self, metadata: Json) -> Self {
        Self { metadata, ..self }
    }

    fn notes(self, notes: &[&'static str]) -> Self {
        Self { notes: notes.to_vec(), ..self }
    }

    /// The pod as it is made, and the notes.
    pub(crate) fn made(&self) -> Result<(PodTemplateSpec, Vec<String>), PlatformError> {
        let mut pod = plain();
        let notes = apply(&self.config, &self.parameters, &mut pod)?;
        Ok((pod, notes))
    }

    /// The pod as it should be.
    pub(crate) fn expected(&self) -> Json {
        let mut pod = serde_json::to_value(plain()).unwrap();
        extend(&mut pod["spec"]["containers"][0], &self.main);
        extend(&mut pod["spec"], &self.spec);
        if self.metadata != json!({}) {
            pod["metadata"] = self.metadata.clone();
        }
        pod
    }
}

/// All rows.
pub(crate) fn rows() -> Vec<Row> {
    let all = [
        volumes::objects,
        volumes::claims,
        volumes::own,
        volumes::names,
        environment::rows,
        scheduling::nodes,
        scheduling::tolerations,
        scheduling::affinity,
        scheduling::devices,
        containers::pod,
        containers::security,
        containers::init,
        sdk::rows,
    ];
    all.into_iter().flat_map(|of| of()).collect()
}

/// A pod with nothing but the task's container.
pub(crate) fn plain() -> PodTemplateSpec {
    let pod = json!({"spec": {"containers": [{"name": MAIN, "image": "busybox:1.36"}]}});
    serde_json::from_value(pod).unwrap()
}

/// Reads a configuration and makes a pod so.
pub(crate) fn apply(
    config: &Json,
    parameters: &Json,
    pod: &mut PodTemplateSpec,
) -> Result<Vec<String>, PlatformError> {
    let config = KubernetesConfig::read(object(config))?;
    config.apply(&|reference| look_up(parameters, reference), pod, MAIN)
}

fn look_up(parameters: &Json, reference: &Reference<'_>) -> Option<Json> {
    let name = match reference.source {
        Source::ComponentInput(name) => name.clone(),
        Source::TaskOutput { task, output } => format!("{task}.{output}"),
        Source::RunArgument(name) => format!("run:{name}"),
        Source::Constant(_) => return None,
    };
    parameters.get(name).cloned()
}

pub(crate) fn object(value: &Json) -> &Map<String, Json> {
    value.as_object().unwrap()
}

fn extend(into: &mut Json, more: &Json) {
    into.as_object_mut().unwrap().extend(object(more).clone());
}

/// A parameter that is a constant.
fn constant(value: impl Into<Json>) -> Json {
    json!({"runtimeValue": {"constant": value.into()}})
}

/// A parameter that is an input.
fn input(name: &str) -> Json {
    json!({"componentInputParameter": name})
}

/// A parameter that is an output of another task.
fn output(task: &str, output: &str) -> Json {
    json!({"taskOutputParameter": {"producerTask": task, "outputParameterKey": output}})
}
