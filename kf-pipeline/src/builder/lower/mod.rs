//! From the builder's graph to a [`PipelineFile`]: scopes become DAG components, and what their closures captured
//! becomes their inputs.

mod beyond;
mod captures;
mod cel;
mod component;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value as Json;

use super::arg::ArgKind;
use super::graph::{
    ArgCheck, BODY, Graph, LoopItems, Node, NodeId, NodeKind, OUTERMOST, ScopeId, ScopeKind, SlotKind,
    Source, TaskArg,
};
use super::{Arg, CallOptions};
use crate::spec::{
    ArtifactInput, ArtifactItems, ArtifactIterator, ArtifactOutput, ArtifactSelector, ArtifactType,
    CachingOptions, ComponentRef, ComponentSpec, DagOutputArtifact, DagOutputParameter, DagOutputSource,
    DagSpec, ExecutorSpec, Extra, ImporterSpec, Items, IteratorPolicy, KfComponent, KfPlatform, Named,
    ParameterInput, ParameterIterator, ParameterOutput, ParameterSelector, ParameterSelectors,
    ParameterSource, ParameterType, PipelineFile, PipelineInfo, PipelineSpec, Platforms, RetryPolicy,
    RuntimeValue, TaskInfo, TaskSpec, TriggerPolicy, TriggerStrategy,
};

/// The image that stands for the program itself until it is given another.
const SELF_IMAGE: &str = "kf.local/self:latest";

/// Checks of what people answer, by the executor that asks.
pub(crate) type Answers = HashMap<String, ArgCheck>;

pub(super) fn lower(name: &str, graph: &Graph) -> (PipelineFile, Answers) {
    let root = if graph.scope(OUTERMOST).nodes.len() == 1 { BODY } else { OUTERMOST };
    let mut lowering = Lowering {
        graph,
        root,
        scopes: HashMap::new(),
        out: PipelineSpec::default(),
        kf: KfPlatform { max_tasks: graph.max_tasks, ..KfPlatform::default() },
        labels: HashMap::new(),
        added: HashMap::new(),
        recursions: HashMap::new(),
        answers: Answers::new(),
    };
    lowering.demand_all();
    lowering.demand_outputs();
    let mut spec = lowering.scope(root);
    for parameter in &graph.parameters {
        let input = ParameterInput {
            parameter_type: parameter.kind,
            default_value: parameter.default.clone().filter(|default| !default.is_null()),
            is_optional: parameter.optional || parameter.default.is_some(),
            ..ParameterInput::default()
        };
        spec.input_definitions.parameters.insert(parameter.name.clone(), input);
    }
    lowering.add_to("root", root);
    let Lowering { mut out, kf, answers, .. } = lowering;
    out.root = spec;
    out.pipeline_info = PipelineInfo { name: name.to_owned(), ..PipelineInfo::default() };
    out.schema_version = "2.1.0".to_owned();
    out.sdk_version = concat!("kf-", env!("CARGO_PKG_VERSION")).to_owned();
    let kf = serde_json::to_value(kf).expect("the platform is made of strings and numbers");
    let platforms = Platforms { platforms: Named::from([("kf".to_owned(), kf)]), ..Platforms::default() };
    (PipelineFile { pipeline_spec: out, platform_spec: platforms }, answers)
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Parameter(ParameterType),
    Artifact { kind: ArtifactType, list: bool },
}

impl From<&SlotKind> for Kind {
    fn from(kind: &SlotKind) -> Self {
        match kind {
            SlotKind::Parameter { kind, .. } => Self::Parameter(*kind),
            SlotKind::Artifact { kind, list } => Self::Artifact { kind: kind.clone(), list: *list },
        }
    }
}

impl From<&TaskArg> for Kind {
    fn from(arg: &TaskArg) -> Self {
        match arg {
            TaskArg::Parameter(Arg(ArgKind::Source(_, kind))) => Self::Parameter(*kind),
            TaskArg::Parameter(Arg(ArgKind::Constant(_))) => Self::Parameter(ParameterType::Struct),
            TaskArg::Artifact(artifact) => {
                Self::Artifact { kind: artifact.kind.clone(), list: artifact.list }
            }
        }
    }
}

/// What a scope takes from around it, and what it gives.
#[derive(Default)]
struct ScopeIo {
    inputs: BTreeMap<String, (Source, Kind)>,
    /// Each with where it comes from: of several sources the first that there is.
    outputs: BTreeMap<String, (Vec<Source>, Kind)>,
}

struct Lowering<'g> {
    graph: &'g Graph,
    root: ScopeId,
    scopes: HashMap<ScopeId, ScopeIo>,
    out: PipelineSpec,
    kf: KfPlatform,
    /// Components that were made already, by name and what the platform adds.
    labels: HashMap<(&'static str, String), String>,
    /// What the platform adds to the tasks of scopes whose components are not there yet.
    added: HashMap<ScopeId, KfComponent>,
    /// The components of recursions, from when they begin to be made.
    recursions: HashMap<ScopeId, String>,
    answers: Answers,
}

impl Lowering<'_> {
    /// A scope as a DAG component.
    fn scope(&mut self, id: ScopeId) -> ComponentSpec {
        let graph = self.graph;
        let mut tasks = Vec::with_capacity(graph.scope(id).nodes.len());
        for node in &graph.scope(id).nodes {
            let (name, task) = self.task(*node);
            if let Some(added) = self.added_to(*node) {
                self.added.entry(id).or_default().tasks.insert(name.clone(), added);
            }
            tasks.push((name, task));
        }
        let mut dag = DagSpec { tasks: tasks.into_iter().collect(), ..DagSpec::default() };
        let mut spec = ComponentSpec::default();
        let io = self.scopes.remove(&id).unwrap_or_default();
        let takes = graph.recursion(id).map_or(&[][..], |recursion| &recursion.takes);
        let slots = (0..).zip(takes).map(|(slot, kind)| {
            let source = Source::Slot { scope: id, slot };
            (self.channel(source), (source, kind.into()))
        });
        // What the outermost takes are the pipeline's parameters.
        let inputs = if id == self.root { BTreeMap::new() } else { io.inputs };
        for (name, (source, kind)) in inputs.into_iter().chain(slots.collect::<Vec<_>>()) {
            match kind {
                Kind::Parameter(parameter_type) => {
                    let is_optional = self.is_optional(source);
                    let input = ParameterInput { parameter_type, is_optional, ..ParameterInput::default() };
                    spec.input_definitions.parameters.insert(name, input);
                }
                Kind::Artifact { kind, list } => {
                    let input = ArtifactInput {
                        artifact_type: kind,
                        is_artifact_list: list,
                        ..ArtifactInput::default()
                    };
                    spec.input_definitions.artifacts.insert(name, input);
                }
            }
        }
        if let ScopeKind::Loop { items, .. } = &graph.scope(id).kind {
            let name = self.channel(Source::Item(id));
            match items {
                LoopItems::Values { item, optional, .. } => {
                    let (parameter_type, is_optional) = (*item, *optional);
                    let input = ParameterInput { parameter_type, is_optional, ..ParameterInput::default() };
                    spec.input_definitions.parameters.insert(name, input);
                }
                LoopItems::Artifacts { item, .. } => {
                    let input = ArtifactInput { artifact_type: item.clone(), ..ArtifactInput::default() };
                    spec.input_definitions.artifacts.insert(name, input);
                }
            }
        }
        for (name, (from, kind)) in io.outputs {
            let from = from.into_iter().map(|source| self.produced(source)).collect();
            give_out(&mut spec, &mut dag, name, from, kind);
        }
        if id == OUTERMOST {
            // They come from the body's tasks.
            for output in &graph.outputs {
                let from = vec![(self.name_of(BODY).to_owned(), output.name.clone())];
                give_out(&mut spec, &mut dag, output.name.clone(), from, Kind::from(&output.from));
            }
        }
        spec.dag = Some(Box::new(dag));
        spec
    }

    fn task(&mut self, id: NodeId) -> (String, TaskSpec) {
        let graph = self.graph;
        let node = graph.node(id);
        let mut task = TaskSpec {
            task_info: TaskInfo { name: node.name.clone(), ..TaskInfo::default() },
            ..TaskSpec::default()
        };
        task.dependent_tasks = node.after.iter().map(|other| graph.node(*other).name.clone()).collect();
        if node.at_any_end {
            let strategy = Some(TriggerStrategy::AllUpstreamTasksCompleted);
            task.trigger_policy = Some(Box::new(TriggerPolicy { strategy, ..TriggerPolicy::default() }));
        }
        match &node.kind {
            NodeKind::Task { definition, args, options } => {
                for (input, arg) in args {
                    self.give(&mut task, node.scope, input, arg);
                }
                task.component_ref.name = self.component(definition, options);
                task.caching_options = Some(CachingOptions {
                    enable_cache: options.cache,
                    cache_key: options.cache_key.clone().unwrap_or_default(),
                    ..Default::default()
                });
                task.retry_policy = retry_policy(options).map(Box::new);
            }
            NodeKind::Import { uri, kind } => self.importer(&mut task, node, uri, kind),
            NodeKind::Question { asked, value, check } => {
                let label = self.question(&mut task, node, asked, *value);
                self.answers.extend(check.map(|check| (label, check)));
            }
            NodeKind::Group(scope) => self.group(&mut task, node, *scope),
            NodeKind::Again { scope, args } => {
                let name = self.recursions.get(scope).cloned().unwrap_or_default();
                task.component_ref = ComponentRef { name, ..ComponentRef::default() };
                self.give_captured(&mut task, node.scope, *scope);
                self.give_slots(&mut task, node.scope, *scope, args);
            }
        }
        (node.name.clone(), task)
    }

    fn give(&self, task: &mut TaskSpec, scope: ScopeId, input: &str, arg: &TaskArg) {
        match arg {
            TaskArg::Parameter(Arg(ArgKind::Constant(Ok(Json::Null) | Err(_)))) => {}
            TaskArg::Parameter(Arg(ArgKind::Constant(Ok(value)))) => {
                let value = ParameterSource::RuntimeValue(RuntimeValue::Constant(value.clone()));
                task.inputs.parameters.insert(input.to_owned(), value.into());
            }
            TaskArg::Parameter(Arg(ArgKind::Source(source, _))) => {
                task.inputs.parameters.insert(input.to_owned(), self.parameter_source(scope, *source).into());
            }
            TaskArg::Artifact(artifact) => {
                for source in &artifact.sources {
                    task.inputs
                        .artifacts
                        .insert(input.to_owned(), self.artifact_source(scope, *source).into());
                }
            }
        }
    }

    fn importer(&mut self, task: &mut TaskSpec, node: &Node, uri: &Arg, kind: &ArtifactType) {
        let (component, label) = self.reserve(&node.name);
        let mut spec = ComponentSpec { executor_label: Some(label.clone()), ..ComponentSpec::default() };
        let output = ArtifactOutput { artifact_type: kind.clone(), ..ArtifactOutput::default() };
        spec.output_definitions.artifacts.insert("artifact".to_owned(), output);
        let input = ParameterInput { parameter_type: ParameterType::String, ..ParameterInput::default() };
        spec.input_definitions.parameters.insert("uri".to_owned(), input);
        self.give(task, node.scope, "uri", &TaskArg::Parameter(uri.clone()));
        let artifact_uri = match &uri.0 {
            ArgKind::Constant(value) => RuntimeValue::Constant(value.clone().unwrap_or_default()),
            ArgKind::Source(..) => RuntimeValue::RuntimeParameter("uri".to_owned()),
        };
        let importer = ImporterSpec {
            artifact_uri,
            type_schema: kind.clone(),
            metadata: serde_json::Map::new(),
            reimport: false,
            download_to_workspace: false,
            extra: Extra::new(),
        };
        self.out.components.insert(component.clone(), spec);
        self.out.deployment_spec.executors.insert(label, ExecutorSpec::Importer(Box::new(importer)).into());
        task.component_ref = ComponentRef { name: component, ..ComponentRef::default() };
    }

    /// Gives to a task in `around` what the closure of `scope` captured.
    fn give_captured(&self, task: &mut TaskSpec, around: ScopeId, scope: ScopeId) {
        for (name, (source, kind)) in self.scopes.get(&scope).into_iter().flat_map(|io| &io.inputs) {
            self.give_source(task, around, name.clone(), *source, kind);
        }
    }

    /// Gives to a task in `around` what the recursion `scope` is called with.
    fn give_slots(&self, task: &mut TaskSpec, around: ScopeId, scope: ScopeId, args: &[Source]) {
        let takes = self.graph.recursion(scope).map_or(&[][..], |recursion| &recursion.takes);
        for ((slot, source), kind) in (0..).zip(args).zip(takes) {
            let name = self.channel(Source::Slot { scope, slot });
            self.give_source(task, around, name, *source, &kind.into());
        }
    }

    fn give_source(&self, task: &mut TaskSpec, around: ScopeId, name: String, source: Source, kind: &Kind) {
        match kind {
            Kind::Parameter(_) => {
                task.inputs.parameters.insert(name, self.parameter_source(around, source).into());
            }
            Kind::Artifact { .. } => {
                task.inputs.artifacts.insert(name, self.artifact_source(around, source).into());
            }
        }
    }

    fn group(&mut self, task: &mut TaskSpec, node: &Node, scope: ScopeId) {
        let (component, _) = self.reserve(&node.name);
        task.component_ref = ComponentRef { name: component.clone(), ..ComponentRef::default() };
        self.give_captured(task, node.scope, scope);
        if let Some(recursion) = self.graph.recursion(scope) {
            self.give_slots(task, node.scope, scope, &recursion.starts);
            self.recursions.insert(scope, component.clone());
            self.added.entry(scope).or_default().max_depth = Some(recursion.max_depth);
        }
        match &self.graph.scope(scope).kind {
            ScopeKind::Pipeline | ScopeKind::Group | ScopeKind::Branches => {}
            ScopeKind::Loop { items, limit, .. } => {
                let item_input = self.channel(Source::Item(scope));
                match items {
                    LoopItems::Values { list, .. } => {
                        let items = match &list.0 {
                            ArgKind::Source(source, _) => Items::InputParameter(self.channel(*source)),
                            ArgKind::Constant(value) => {
                                Items::Raw(value.clone().unwrap_or_default().to_string())
                            }
                        };
                        task.parameter_iterator =
                            Some(Box::new(ParameterIterator { items, item_input, extra: Extra::new() }));
                    }
                    LoopItems::Artifacts { list, .. } => {
                        let items =
                            ArtifactItems { input_artifact: self.channel(*list), ..ArtifactItems::default() };
                        task.artifact_iterator =
                            Some(Box::new(ArtifactIterator { items, item_input, extra: Extra::new() }));
                    }
                }
                if *limit > 0 {
                    task.iterator_policy =
                        Some(IteratorPolicy { parallelism_limit: *limit, ..Default::default() });
                }
            }
            ScopeKind::When(condition) => {
                let condition = Some(self.cel(&condition.expr));
                task.trigger_policy = Some(Box::new(TriggerPolicy { condition, ..TriggerPolicy::default() }));
            }
        }
        let spec = self.scope(scope);
        self.add_to(&component, scope);
        self.out.components.insert(component, spec);
    }
}

/// A DAG's output parameter from tasks and their outputs, of which the first that there is counts.
/// Adds an output to a component that is a DAG: `from` are its tasks and their outputs, of which the first that there is
/// counts.
fn give_out(
    spec: &mut ComponentSpec,
    dag: &mut DagSpec,
    name: String,
    from: Vec<(String, String)>,
    kind: Kind,
) {
    match kind {
        Kind::Parameter(parameter_type) => {
            let output = ParameterOutput { parameter_type, ..ParameterOutput::default() };
            spec.output_definitions.parameters.insert(name.clone(), output);
            dag.outputs.parameters.insert(name, parameter_from(from));
        }
        Kind::Artifact { kind, list } => {
            let output = ArtifactOutput { artifact_type: kind, is_artifact_list: list, ..Default::default() };
            spec.output_definitions.artifacts.insert(name.clone(), output);
            let selector = |(producer_subtask, output_artifact_key)| ArtifactSelector {
                producer_subtask,
                output_artifact_key,
                extra: Extra::new(),
            };
            let artifact_selectors = from.into_iter().map(selector).collect();
            let output = DagOutputArtifact { artifact_selectors, extra: Extra::new() };
            dag.outputs.artifacts.insert(name, output);
        }
    }
}

fn parameter_from(from: Vec<(String, String)>) -> DagOutputParameter {
    let selector = |(producer_subtask, output_parameter_key)| ParameterSelector {
        producer_subtask,
        output_parameter_key,
        extra: Extra::new(),
    };
    let mut selectors: Vec<_> = from.into_iter().map(selector).collect();
    let source = match selectors.len() {
        1 => DagOutputSource::ValueFromParameter(selectors.remove(0)),
        _ => DagOutputSource::ValueFromOneof(ParameterSelectors {
            parameter_selectors: selectors,
            extra: Extra::new(),
        }),
    };
    DagOutputParameter { source, extra: Extra::new() }
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
        extra: Extra::new(),
    })
}
