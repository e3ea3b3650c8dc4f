//! The components that tasks run, and their executors.

use super::{Lowering, SELF_IMAGE};
use crate::builder::CallOptions;
use crate::component::{ArtifactCount, ComponentDef};
use crate::spec::{
    ArtifactInput, ArtifactOutput, ComponentSpec, ContainerSpec, ExecutorSpec, KfExecutor, ParameterInput,
    ParameterOutput,
};

impl Lowering<'_> {
    /// The name of a component that is not there yet, and its executor's label.
    pub(super) fn reserve(&mut self, base: &str) -> (String, String) {
        let mut name = base.to_owned();
        let mut count = 1;
        while self.out.components.contains_key(&format!("comp-{name}")) {
            count += 1;
            name = format!("{base}-{count}");
        }
        self.out.components.insert(format!("comp-{name}"), ComponentSpec::default());
        (format!("comp-{name}"), format!("exec-{name}"))
    }

    /// The component of a task, made once for each definition and options.
    pub(super) fn component(&mut self, definition: &ComponentDef, options: &CallOptions) -> String {
        let kf = KfExecutor {
            component: definition.name.to_owned(),
            module: definition.module.to_owned(),
            version: definition.defaults.version.map(str::to_owned),
            executor: options.executor.clone(),
            timeout: options.timeout,
            cache_ttl: options.cache_ttl,
            backoff_jitter: options.backoff.map(|backoff| backoff.jitter).filter(|jitter| *jitter > 0.0),
            resources: options.resources.clone(),
            locks: options.locks.clone(),
            approval: None,
        };
        let key = (definition.name, serde_json::to_string(&kf).unwrap_or_default());
        if let Some(component) = self.labels.get(&key) {
            return component.clone();
        }
        let (component, label) = self.reserve(&definition.name.replace('_', "-"));
        let container = ContainerSpec {
            image: SELF_IMAGE.to_owned(),
            command: Vec::new(),
            args: ["--executor_input", "{{$}}", "--function_to_execute", definition.name]
                .map(str::to_owned)
                .into(),
            ..ContainerSpec::default()
        };
        self.out
            .deployment_spec
            .executors
            .insert(label.clone(), ExecutorSpec::Container(Box::new(container)).into());
        self.kf.executors.insert(label.clone(), kf);
        self.out.components.insert(component.clone(), interface(definition, label));
        self.labels.insert(key, component.clone());
        component
    }
}

fn interface(definition: &ComponentDef, label: String) -> ComponentSpec {
    let mut spec = ComponentSpec { executor_label: Some(label), ..ComponentSpec::default() };
    for (name, parameter_type, is_optional) in &definition.parameters {
        let input = ParameterInput {
            parameter_type: *parameter_type,
            is_optional: *is_optional,
            ..ParameterInput::default()
        };
        spec.input_definitions.parameters.insert((*name).to_owned(), input);
    }
    for (name, kind, count) in &definition.artifacts {
        let input = ArtifactInput {
            artifact_type: kind.clone(),
            is_artifact_list: *count == ArtifactCount::List,
            is_optional: *count == ArtifactCount::OneOrNone,
            ..ArtifactInput::default()
        };
        spec.input_definitions.artifacts.insert((*name).to_owned(), input);
    }
    for (name, parameter_type) in &definition.output_parameters {
        let output = ParameterOutput { parameter_type: *parameter_type, ..ParameterOutput::default() };
        spec.output_definitions.parameters.insert((*name).to_owned(), output);
    }
    for (name, kind) in &definition.output_artifacts {
        let output = ArtifactOutput { artifact_type: kind.clone(), ..ArtifactOutput::default() };
        spec.output_definitions.artifacts.insert((*name).to_owned(), output);
    }
    spec
}
