//! What goes under the platform `kf`, since Kubeflow Pipelines has no field for it.

use super::{Lowering, SELF_IMAGE};
use crate::builder::beyond::Asked;
use crate::builder::graph::{FAILURES, Node, NodeId, NodeKind, ScopeId, ScopeKind, TaskArg};
use crate::spec::{
    ComponentRef, ComponentSpec, ContainerSpec, ExecutorSpec, KfApproval, KfExecutor, KfTask, ParameterInput,
    ParameterOutput, ParameterType, TaskSpec,
};

impl Lowering<'_> {
    /// What the platform adds to a task.
    pub(super) fn added_to(&self, id: NodeId) -> Option<KfTask> {
        let node = self.graph.node(id);
        let fallback = node.fallback.map(|other| self.graph.node(other).name.clone());
        let mut added = KfTask { fallback, ..KfTask::default() };
        if let NodeKind::Group(scope) = node.kind
            && let ScopeKind::Loop { min_success, failures, .. } = self.graph.scope(scope).kind
        {
            added.min_success = min_success;
            added.failures = failures.then(|| FAILURES.to_owned());
        }
        (added != KfTask::default()).then_some(added)
    }

    /// Says what was added to a scope's tasks, under its component's name.
    pub(super) fn add_to(&mut self, component: &str, scope: ScopeId) {
        if let Some(added) = self.added.remove(&scope) {
            self.kf.components.insert(component.to_owned(), added);
        }
    }

    pub(super) fn question(
        &mut self,
        task: &mut TaskSpec,
        node: &Node,
        asked: &Asked,
        value: Option<ParameterType>,
    ) -> String {
        let (component, label) = self.reserve(&node.name);
        let mut spec = ComponentSpec { executor_label: Some(label.clone()), ..ComponentSpec::default() };
        let mut message = asked.message.clone();
        for (name, arg) in &asked.shown {
            // Everything goes as the text that is shown.
            let input = ParameterInput {
                parameter_type: ParameterType::String,
                is_optional: true,
                ..ParameterInput::default()
            };
            spec.input_definitions.parameters.insert(name.clone(), input);
            self.give(task, node.scope, name, &TaskArg::Parameter(arg.clone()));
            message.push_str(&format!("\n{name}: {{{{$.inputs.parameters['{name}']}}}}"));
        }
        let text = ParameterType::String;
        for (name, kind) in [("by", Some(text)), ("comment", Some(text)), ("value", value)] {
            if let Some(parameter_type) = kind {
                let output = ParameterOutput { parameter_type, ..ParameterOutput::default() };
                spec.output_definitions.parameters.insert(name.to_owned(), output);
            }
        }
        let container = ContainerSpec { image: SELF_IMAGE.to_owned(), ..ContainerSpec::default() };
        let executor = ExecutorSpec::Container(Box::new(container));
        self.out.deployment_spec.executors.insert(label.clone(), executor.into());
        let approval = Some(KfApproval { message });
        self.kf
            .executors
            .insert(label.clone(), KfExecutor { approval, timeout: asked.timeout, ..KfExecutor::default() });
        self.out.components.insert(component.clone(), spec);
        task.component_ref = ComponentRef { name: component, ..ComponentRef::default() };
        label
    }
}
