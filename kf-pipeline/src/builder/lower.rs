//! From the builder's graph to a [`PipelineFile`]: scopes become DAG components, and what their closures captured
//! becomes their inputs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value as Json;

use super::arg::ArgKind;
use super::condition::Expr;
use super::graph::{BODY, Graph, Node, NodeId, NodeKind, OUTERMOST, ScopeId, ScopeKind, Source, TaskArg};
use super::{Arg, CallOptions};
use crate::component::ComponentDef;
use crate::spec::{
    ArtifactInput, ArtifactOutput, ArtifactSelector, ArtifactSource, ArtifactType, CachingOptions,
    ComponentRef, ComponentSpec, Constant, ContainerSpec, DagOutputArtifact, DagOutputParameter, DagSpec,
    ExecutorSpec, ImporterSpec, ImporterUri, Items, IteratorPolicy, KfExecutor, KfPlatform, ParameterInput,
    ParameterIterator, ParameterOutput, ParameterSelector, ParameterSource, ParameterType, PipelineFile,
    PipelineInfo, PipelineSpec, Platforms, RetryPolicy, TaskInfo, TaskSpec, TriggerPolicy, TriggerStrategy,
};

/// The image that stands for the program itself until it is given another.
const SELF_IMAGE: &str = "kf.local/self:latest";

pub(super) fn lower(name: &str, graph: &Graph) -> PipelineFile {
    let root = if graph.scope(OUTERMOST).nodes.len() == 1 { BODY } else { OUTERMOST };
    let mut lowering = Lowering {
        graph,
        root,
        scopes: HashMap::new(),
        out: PipelineSpec::default(),
        kf: KfPlatform::default(),
        labels: HashMap::new(),
    };
    lowering.demand_all();
    let mut spec = lowering.scope(root);
    for parameter in &graph.parameters {
        let input = ParameterInput {
            parameter_type: parameter.kind,
            default_value: parameter.default.clone().filter(|default| !default.is_null()),
            is_optional: parameter.optional || parameter.default.is_some(),
            description: None,
        };
        spec.input_definitions.parameters.insert(parameter.name.clone(), input);
    }
    let Lowering { mut out, kf, .. } = lowering;
    out.root = spec;
    out.pipeline_info = PipelineInfo { name: name.to_owned(), description: None };
    out.schema_version = "2.1.0".to_owned();
    out.sdk_version = concat!("kf-", env!("CARGO_PKG_VERSION")).to_owned();
    let kf = serde_json::to_value(kf).expect("the platform is made of strings and numbers");
    let platforms = Platforms { platforms: BTreeMap::from([("kf".to_owned(), kf)]) };
    PipelineFile { pipeline_spec: out, platform_spec: platforms }
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Parameter(ParameterType),
    Artifact { kind: ArtifactType, list: bool },
}

/// What a scope takes from around it, and what it gives.
#[derive(Default)]
struct ScopeIo {
    inputs: BTreeMap<String, (Source, Kind)>,
    outputs: BTreeMap<String, (Source, Kind)>,
}

struct Lowering<'g> {
    graph: &'g Graph,
    root: ScopeId,
    scopes: HashMap<ScopeId, ScopeIo>,
    out: PipelineSpec,
    kf: KfPlatform,
    /// Components that were made already, by name and what the platform adds.
    labels: HashMap<(&'static str, String), String>,
}

impl Lowering<'_> {
    /// Finds out for every scope what it takes and what it gives.
    fn demand_all(&mut self) {
        let graph = self.graph;
        for node in &graph.nodes {
            match &node.kind {
                NodeKind::Task { args, .. } => {
                    for (_, arg) in args {
                        match arg {
                            TaskArg::Parameter(arg) => self.demand_arg(node.scope, arg),
                            TaskArg::Artifact(artifact) => {
                                let kind =
                                    Kind::Artifact { kind: artifact.kind.clone(), list: artifact.list };
                                for source in &artifact.sources {
                                    self.demand(node.scope, *source, &kind);
                                }
                            }
                        }
                    }
                }
                NodeKind::Import { uri, .. } => self.demand_arg(node.scope, uri),
                NodeKind::Group(scope) => match &graph.scope(*scope).kind {
                    ScopeKind::Plain => {}
                    ScopeKind::Loop { items, .. } => self.demand_arg(*scope, items),
                    ScopeKind::When(condition) => {
                        for arg in condition.args() {
                            self.demand_arg(*scope, arg);
                        }
                    }
                },
            }
        }
    }

    fn demand_arg(&mut self, scope: ScopeId, arg: &Arg) {
        if let ArgKind::Source(source, kind) = &arg.0 {
            self.demand(scope, *source, &Kind::Parameter(*kind));
        }
    }

    fn demand(&mut self, scope: ScopeId, source: Source, kind: &Kind) {
        let mut scope = scope;
        while !self.is_home(scope, source) {
            let name = self.channel(source);
            self.scopes.entry(scope).or_default().inputs.insert(name, (source, kind.clone()));
            match self.graph.parent(scope) {
                Some(parent) => scope = parent,
                None => break,
            }
        }
        if let Source::Collected(index) = source {
            let (inside, inner) = self.graph.collected[index as usize];
            let element = match kind {
                Kind::Parameter(_) => Kind::Parameter(self.parameter_type_of(inner)),
                Kind::Artifact { kind, .. } => {
                    Kind::Artifact { kind: kind.clone(), list: matches!(inner, Source::Collected(_)) }
                }
            };
            let name = self.channel(inner);
            self.scopes.entry(inside).or_default().outputs.insert(name, (inner, element.clone()));
            self.demand(inside, inner, &element);
        }
    }

    fn is_home(&self, scope: ScopeId, source: Source) -> bool {
        scope == self.root && matches!(source, Source::Parameter(_)) || self.graph.home(source) == Some(scope)
    }

    fn is_optional(&self, source: Source) -> bool {
        matches!(source, Source::Parameter(index) if self.graph.parameters[index as usize].optional)
    }

    fn parameter_type_of(&self, source: Source) -> ParameterType {
        match source {
            Source::Output { node, port } => match &self.graph.node(node).kind {
                NodeKind::Task { definition, .. } => definition
                    .output_parameters
                    .iter()
                    .find(|(name, _)| *name == port)
                    .map_or(ParameterType::Struct, |(_, kind)| *kind),
                _ => ParameterType::Struct,
            },
            Source::Collected(_) => ParameterType::List,
            Source::Parameter(index) => self.graph.parameters[index as usize].kind,
            Source::Item(_) | Source::Nothing => ParameterType::Struct,
        }
    }

    /// The name under which a source goes into scopes and out of them.
    fn channel(&self, source: Source) -> String {
        match source {
            Source::Parameter(index) => {
                format!("pipelinechannel--{}", self.graph.parameters[index as usize].name)
            }
            Source::Item(scope) => format!("pipelinechannel--{}-item", self.name_of(scope)),
            Source::Output { node, port } => {
                format!("pipelinechannel--{}-{port}", self.graph.node(node).name)
            }
            Source::Collected(index) => {
                let (scope, inner) = self.graph.collected[index as usize];
                let inner = self.channel(inner);
                // No name has two dashes in a row, so that no task's output is called the same.
                format!(
                    "pipelinechannel--{}--{}",
                    self.name_of(scope),
                    inner.trim_start_matches("pipelinechannel--")
                )
            }
            Source::Nothing => "pipelinechannel--nothing".to_owned(),
        }
    }

    fn name_of(&self, scope: ScopeId) -> &str {
        self.graph.scope(scope).node.map_or("root", |node| self.graph.node(node).name.as_str())
    }

    fn parameter_source(&self, scope: ScopeId, source: Source) -> ParameterSource {
        if !self.is_home(scope, source) {
            return ParameterSource::ComponentInputParameter(self.channel(source));
        }
        match source {
            Source::Parameter(index) => {
                ParameterSource::ComponentInputParameter(self.graph.parameters[index as usize].name.clone())
            }
            Source::Item(_) | Source::Nothing => {
                ParameterSource::ComponentInputParameter(self.channel(source))
            }
            Source::Output { .. } | Source::Collected(_) => {
                let (producer_task, output_parameter_key) = self.produced(source);
                ParameterSource::TaskOutputParameter { producer_task, output_parameter_key }
            }
        }
    }

    fn artifact_source(&self, scope: ScopeId, source: Source) -> ArtifactSource {
        if !self.is_home(scope, source) {
            return ArtifactSource::ComponentInputArtifact(self.channel(source));
        }
        let (producer_task, output_artifact_key) = self.produced(source);
        ArtifactSource::TaskOutputArtifact { producer_task, output_artifact_key }
    }

    /// The task that gives a source at its home, and under which name.
    fn produced(&self, source: Source) -> (String, String) {
        match source {
            Source::Output { node, port } => (self.graph.node(node).name.clone(), port.to_owned()),
            Source::Collected(index) => {
                let (scope, inner) = self.graph.collected[index as usize];
                (self.name_of(scope).to_owned(), self.channel(inner))
            }
            _ => (String::new(), String::new()),
        }
    }

    /// A scope as a DAG component.
    fn scope(&mut self, id: ScopeId) -> ComponentSpec {
        let graph = self.graph;
        let mut dag = DagSpec::default();
        for node in &graph.scope(id).nodes {
            let (name, task) = self.task(*node);
            dag.tasks.insert(name, task);
        }
        let mut spec = ComponentSpec::default();
        let io = self.scopes.remove(&id).unwrap_or_default();
        if id == self.root {
            spec.dag = Some(dag);
            return spec;
        }
        for (name, (source, kind)) in io.inputs {
            match kind {
                Kind::Parameter(parameter_type) => {
                    let is_optional = self.is_optional(source);
                    let input = ParameterInput { parameter_type, is_optional, ..ParameterInput::default() };
                    spec.input_definitions.parameters.insert(name, input);
                }
                Kind::Artifact { kind, list } => {
                    let input =
                        ArtifactInput { artifact_type: kind, is_artifact_list: list, is_optional: false };
                    spec.input_definitions.artifacts.insert(name, input);
                }
            }
        }
        if let ScopeKind::Loop { item, .. } = graph.scope(id).kind {
            let input = ParameterInput { parameter_type: item, ..ParameterInput::default() };
            spec.input_definitions.parameters.insert(self.channel(Source::Item(id)), input);
        }
        for (name, (source, kind)) in io.outputs {
            let (producer_subtask, key) = self.produced(source);
            match kind {
                Kind::Parameter(parameter_type) => {
                    spec.output_definitions
                        .parameters
                        .insert(name.clone(), ParameterOutput { parameter_type });
                    let from = ParameterSelector { producer_subtask, output_parameter_key: key };
                    dag.outputs.parameters.insert(name, DagOutputParameter { value_from_parameter: from });
                }
                Kind::Artifact { kind, list } => {
                    let output = ArtifactOutput { artifact_type: kind, is_artifact_list: list };
                    spec.output_definitions.artifacts.insert(name.clone(), output);
                    let from = vec![ArtifactSelector { producer_subtask, output_artifact_key: key }];
                    dag.outputs.artifacts.insert(name, DagOutputArtifact { artifact_selectors: from });
                }
            }
        }
        spec.dag = Some(dag);
        spec
    }

    fn task(&mut self, id: NodeId) -> (String, TaskSpec) {
        let graph = self.graph;
        let node = graph.node(id);
        let mut task = TaskSpec { task_info: TaskInfo { name: node.name.clone() }, ..TaskSpec::default() };
        task.dependent_tasks = node.after.iter().map(|other| graph.node(*other).name.clone()).collect();
        if node.at_any_end {
            let strategy = Some(TriggerStrategy::AllUpstreamTasksCompleted);
            task.trigger_policy = Some(TriggerPolicy { condition: None, strategy });
        }
        match &node.kind {
            NodeKind::Task { definition, args, options } => {
                for (input, arg) in args {
                    self.give(&mut task, node.scope, input, arg);
                }
                task.component_ref.name = self.component(definition, options);
                task.caching_options = Some(CachingOptions { enable_cache: options.cache });
                task.retry_policy = retry_policy(options);
            }
            NodeKind::Import { uri, kind } => self.importer(&mut task, node, uri, kind),
            NodeKind::Group(scope) => self.group(&mut task, node, *scope),
        }
        (node.name.clone(), task)
    }

    fn give(&self, task: &mut TaskSpec, scope: ScopeId, input: &str, arg: &TaskArg) {
        match arg {
            TaskArg::Parameter(Arg(ArgKind::Constant(Ok(Json::Null) | Err(_)))) => {}
            TaskArg::Parameter(Arg(ArgKind::Constant(Ok(value)))) => {
                let value = ParameterSource::RuntimeValue(Constant { constant: value.clone() });
                task.inputs.parameters.insert(input.to_owned(), value);
            }
            TaskArg::Parameter(Arg(ArgKind::Source(source, _))) => {
                task.inputs.parameters.insert(input.to_owned(), self.parameter_source(scope, *source));
            }
            TaskArg::Artifact(artifact) => {
                for source in &artifact.sources {
                    task.inputs.artifacts.insert(input.to_owned(), self.artifact_source(scope, *source));
                }
            }
        }
    }

    fn importer(&mut self, task: &mut TaskSpec, node: &Node, uri: &Arg, kind: &ArtifactType) {
        let (component, label) = self.reserve(&node.name);
        let mut spec = ComponentSpec { executor_label: Some(label.clone()), ..ComponentSpec::default() };
        let output = ArtifactOutput { artifact_type: kind.clone(), is_artifact_list: false };
        spec.output_definitions.artifacts.insert("artifact".to_owned(), output);
        let input = ParameterInput { parameter_type: ParameterType::String, ..ParameterInput::default() };
        spec.input_definitions.parameters.insert("uri".to_owned(), input);
        self.give(task, node.scope, "uri", &TaskArg::Parameter(uri.clone()));
        let artifact_uri = match &uri.0 {
            ArgKind::Constant(value) => ImporterUri::Constant(value.clone().unwrap_or_default()),
            ArgKind::Source(..) => ImporterUri::RuntimeParameter("uri".to_owned()),
        };
        let importer = ImporterSpec { artifact_uri, type_schema: kind.clone() };
        self.out.components.insert(component.clone(), spec);
        self.out.deployment_spec.executors.insert(label, ExecutorSpec::Importer(importer));
        task.component_ref = ComponentRef { name: component };
    }

    fn group(&mut self, task: &mut TaskSpec, node: &Node, scope: ScopeId) {
        let (component, _) = self.reserve(&node.name);
        task.component_ref = ComponentRef { name: component.clone() };
        let inputs = self.scopes.get(&scope).map(|io| io.inputs.clone()).unwrap_or_default();
        for (name, (source, kind)) in inputs {
            match kind {
                Kind::Parameter(_) => {
                    task.inputs.parameters.insert(name, self.parameter_source(node.scope, source));
                }
                Kind::Artifact { .. } => {
                    task.inputs.artifacts.insert(name, self.artifact_source(node.scope, source));
                }
            }
        }
        match &self.graph.scope(scope).kind {
            ScopeKind::Plain => {}
            ScopeKind::Loop { items, limit, .. } => {
                let items = match &items.0 {
                    ArgKind::Source(source, _) => Items::InputParameter(self.channel(*source)),
                    ArgKind::Constant(value) => Items::Raw(value.clone().unwrap_or_default().to_string()),
                };
                let item_input = self.channel(Source::Item(scope));
                task.parameter_iterator = Some(ParameterIterator { items, item_input });
                if *limit > 0 {
                    task.iterator_policy = Some(IteratorPolicy { parallelism_limit: *limit });
                }
            }
            ScopeKind::When(condition) => {
                let condition = Some(self.cel(&condition.expr));
                task.trigger_policy = Some(TriggerPolicy { condition, strategy: None });
            }
        }
        let spec = self.scope(scope);
        self.out.components.insert(component, spec);
    }

    fn cel(&self, expr: &Expr) -> String {
        match expr {
            Expr::Compare { left, operator, right } => {
                format!("{} {operator} {}", self.cel_arg(left), self.cel_arg(right))
            }
            Expr::And(left, right) => format!("({}) && ({})", self.cel(left), self.cel(right)),
            Expr::Or(left, right) => format!("({}) || ({})", self.cel(left), self.cel(right)),
            Expr::Not(inner) => format!("!({})", self.cel(inner)),
        }
    }

    fn cel_arg(&self, arg: &Arg) -> String {
        match &arg.0 {
            ArgKind::Constant(value) => value.clone().unwrap_or_default().to_string(),
            ArgKind::Source(source, kind) => {
                let value = format!("inputs.parameter_values['{}']", self.channel(*source));
                if *kind == ParameterType::NumberInteger { format!("int({value})") } else { value }
            }
        }
    }

    /// The name of a component that is not there yet, and its executor's label.
    fn reserve(&mut self, base: &str) -> (String, String) {
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
    fn component(&mut self, definition: &ComponentDef, options: &CallOptions) -> String {
        let kf = KfExecutor {
            component: definition.name.to_owned(),
            version: definition.defaults.version.map(str::to_owned),
            executor: options.executor.clone(),
            timeout: options.timeout,
            resources: options.resources.clone(),
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
        };
        self.out.deployment_spec.executors.insert(label.clone(), ExecutorSpec::Container(container));
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
    for (name, kind, list) in &definition.artifacts {
        let input =
            ArtifactInput { artifact_type: kind.clone(), is_artifact_list: *list, is_optional: false };
        spec.input_definitions.artifacts.insert((*name).to_owned(), input);
    }
    for (name, parameter_type) in &definition.output_parameters {
        let output = ParameterOutput { parameter_type: *parameter_type };
        spec.output_definitions.parameters.insert((*name).to_owned(), output);
    }
    for (name, kind) in &definition.output_artifacts {
        let output = ArtifactOutput { artifact_type: kind.clone(), is_artifact_list: false };
        spec.output_definitions.artifacts.insert((*name).to_owned(), output);
    }
    spec
}

fn retry_policy(options: &CallOptions) -> Option<RetryPolicy> {
    if options.retries == 0 {
        return None;
    }
    let seconds = |duration: Duration| format!("{}s", duration.as_secs_f64());
    Some(RetryPolicy {
        max_retry_count: options.retries,
        backoff_duration: options.backoff.as_ref().map(|backoff| seconds(backoff.initial)),
        backoff_factor: options.backoff.as_ref().map(|backoff| backoff.factor),
        backoff_max_duration: options.backoff.as_ref().map(|backoff| seconds(backoff.max)),
    })
}
