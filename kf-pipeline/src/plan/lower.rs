//! From [`PipelineFile`] to [`Plan`]: names become indices.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kf_core::backoff::Backoff;
use petgraph::graph::{DiGraph, NodeIndex};
use serde::Deserialize;
use serde_json::Value as Json;

use super::shared::{Once, Shared};
use super::size::refuse_oversize;
use super::{
    Caching, Component, ComponentKind, Condition, ContainerTask, Dag, Executor, Iterator_, LoopItems, Name,
    Plan, Retry, Selector, Source, Task, TaskOutput, Work, check, locks, names, platform,
};
use crate::engine::of_name;
use crate::spec::{
    self, ArtifactSource, ComponentSpec, DagOutputSource, DagSpec, ExecutorSpec, Items, KfComponent,
    KfExecutor, KfPlatform, Named, OutputDefinitions, ParameterSource, PipelineFile, Platforms, RetryPolicy,
    RuntimeValue, SCHEMA_VERSION, TaskParameter, TaskSpec,
};
use crate::{Error, Result, placeholder};

/// The word that stands for the outermost DAG in places and messages.
pub(super) const ROOT: &str = "root";

/// Takes the file apart, so that the plan of a large one takes the room that what is lowered already leaves.
pub(super) fn lower(file: PipelineFile) -> Result<Plan> {
    let PipelineFile { pipeline_spec: spec, platform_spec: mut platforms } = file;
    refuse_other_versions(&spec.schema_version)?;
    let (platform, kf_executors) = platforms.take_kf().map_err(not_understood)?;
    if spec.components.contains_key(ROOT) {
        return Err(Error::plan(ROOT, "a component is called `root`, which is the outermost DAG's name"));
    }
    let (root, root_name) = (spec.components.len(), ROOT.to_owned());
    let all = spec.components.iter().chain([(&root_name, &spec.root)]);
    let declared: Vec<Declared> =
        all.map(|(name, component)| Declared::of(name, component, kf_executors.as_ref())).collect();
    let mut lowering = Lowering {
        executors: spec.deployment_spec.executors,
        platforms: &platforms,
        platform: &platform,
        kf_executors,
        declared: &declared,
        shared: &Shared::default(),
    };
    let mut components = Vec::with_capacity(declared.len());
    for (declared, (_, component)) in declared.iter().zip(spec.components) {
        components.push(lowering.component(declared, component)?);
    }
    lowering.refuse_unread_executors()?;
    if spec.root.dag.is_some() {
        // Nobody asks for them any more, and the outermost DAG of a large file needs their room.
        lowering.executors = Named::new();
        lowering.kf_executors = None;
    }
    components.push(lowering.component(&declared[root], spec.root)?);
    if !matches!(components[root].kind, ComponentKind::Dag(_)) {
        return Err(Error::plan(ROOT, "the root component is not a DAG"));
    }
    refuse_recursion(&components)?;
    refuse_oversize(&components)?;
    if platform.max_tasks == Some(0) {
        return Err(Error::plan("platforms.kf.maxTasks", "with at most 0 tasks at once nothing would run"));
    }
    let name = spec.pipeline_info.name.into();
    let plan = Plan { name, components, root, max_tasks: platform.max_tasks };
    check::types(&plan)?;
    Ok(plan)
}

/// Refuses a version of the IR whose fields may mean something else than they do here.
fn refuse_other_versions(version: &str) -> Result<()> {
    let major = version.split('.').next().unwrap_or_default();
    if version.is_empty() || major == "2" {
        return Ok(());
    }
    let problem = format!(
        "version `{version}` of the IR is not known; expected 2.1.0 or another 2.x, which the SDKs 2.x of Kubeflow \
         Pipelines write"
    );
    Err(Error::plan(SCHEMA_VERSION, problem))
}

/// The platform `kf` of a file.
pub(crate) fn kf_platform(file: &PipelineFile) -> Result<KfPlatform> {
    file.platform_spec.kf().map_err(not_understood)
}

fn not_understood(error: serde_json::Error) -> Error {
    Error::plan("platforms.kf", format!("not understood: {error}"))
}

struct Lowering<'a> {
    executors: Named<spec::Executor>,
    platforms: &'a Platforms,
    /// The platform `kf` without its executors.
    platform: &'a KfPlatform,
    kf_executors: Option<serde_json::Map<String, Json>>,
    /// All components in the order of their names, and the outermost behind them.
    declared: &'a [Declared],
    shared: &'a Shared,
}

/// What others ask of a component that may be lowered already.
struct Declared {
    name: Name,
    /// The executor's, where it is no DAG.
    label: Option<Name>,
    /// What the executor says of waits between attempts.
    jitter: Option<f64>,
}

impl Declared {
    fn of(name: &str, spec: &ComponentSpec, kf: Option<&serde_json::Map<String, Json>>) -> Self {
        let label = spec.executor_label.as_deref();
        let jitter = label.and_then(|label| kf?.get(label)?.get("backoffJitter")?.as_f64());
        Self { name: name.into(), label: label.map(Name::from), jitter }
    }
}

impl Lowering<'_> {
    fn component(&self, declared: &Declared, spec: ComponentSpec) -> Result<Component> {
        let name = &*declared.name;
        let inputs = self.shared.inputs.of(&spec.input_definitions);
        let outputs = self.shared.outputs.of(&spec.output_definitions);
        names::ports(name, &spec)?;
        let kind = match (spec.dag, &declared.label) {
            (Some(dag), None) => ComponentKind::Dag(self.dag(name, *dag)?),
            (None, Some(label)) => {
                let executor = self.executor(name, label, Arc::clone(&outputs))?;
                if let Some(problem) = executor.locks.iter().find_map(|lock| locks::problem(lock, &inputs)) {
                    return Err(Error::plan(name, problem));
                }
                ComponentKind::Executor(Arc::new(executor))
            }
            _ => return Err(Error::plan(name, "expected either `dag` or `executorLabel`")),
        };
        let max_depth = self.platform.components.get(name).and_then(|added| added.max_depth);
        if max_depth == Some(0) {
            return Err(Error::plan(
                name,
                "platform kf gives it a `maxDepth` of 0, with which it would never run",
            ));
        }
        Ok(Component { name: Name::clone(&declared.name), inputs, outputs, kind, max_depth })
    }

    fn executor(&self, component: &str, label: &Name, outputs: Arc<OutputDefinitions>) -> Result<Executor> {
        let spec = self.executors.get(label).ok_or_else(|| {
            Error::plan(component, format!("executor `{label}` is not in deploymentSpec.executors"))
        })?;
        let kf = self.kf_executor(label)?.unwrap_or_default();
        let work = match &spec.spec {
            ExecutorSpec::Resolver(_) | ExecutorSpec::CustomJob(_) => {
                let problem = format!("executor `{label}` is neither a container nor an importer");
                return Err(Error::plan(component, problem));
            }
            ExecutorSpec::Importer(importer) => Work::Importer(importer.clone()),
            ExecutorSpec::Container(_) if kf.approval.is_some() => {
                Work::Approval(kf.approval.map(|approval| approval.message).unwrap_or_default())
            }
            ExecutorSpec::Container(container) if kf.component.is_empty() => {
                Work::Container(Arc::new(ContainerTask {
                    container: container.as_ref().clone(),
                    outputs: OutputDefinitions {
                        parameters: outputs.parameters.clone(),
                        artifacts: outputs.artifacts.clone(),
                        ..OutputDefinitions::default()
                    },
                    kubernetes: self.kubernetes(label).cloned().unwrap_or_default(),
                }))
            }
            ExecutorSpec::Container(container) => {
                let name = self.shared.names.of(kf.component.as_str());
                Work::Component { name, container: self.shared.containers.of(container) }
            }
        };
        Ok(Executor {
            label: Name::clone(label),
            work,
            module: kf.module,
            version: kf.version,
            carrier: kf.executor,
            timeout: kf.timeout,
            cache_ttl: kf.cache_ttl,
            resources: kf.resources,
            locks: kf.locks,
            answer: None,
            outputs,
        })
    }

    /// What the platform `kf` adds to an executor.
    fn kf_executor(&self, label: &str) -> Result<Option<KfExecutor>> {
        let executor = self.kf_executors.as_ref().and_then(|executors| executors.get(label));
        executor.map(KfExecutor::deserialize).transpose().map_err(|error| {
            Error::plan(format!("platforms.kf.executors.{label}"), format!("not understood: {error}"))
        })
    }

    /// Refuses what can't be understood also where no component asks for it.
    fn refuse_unread_executors(&self) -> Result<()> {
        let read: HashSet<&str> =
            self.declared.iter().filter_map(|declared| declared.label.as_deref()).collect();
        let labels = self.kf_executors.iter().flat_map(|executors| executors.keys());
        labels
            .filter(|label| !read.contains(label.as_str()))
            .try_for_each(|label| self.kf_executor(label).map(drop))
    }

    /// Where a component is among all of them.
    fn index(&self, name: &str) -> Option<usize> {
        let (root, others) = self.declared.split_last()?;
        match name == &*root.name {
            true => Some(others.len()),
            false => others.binary_search_by(|declared| declared.name.as_ref().cmp(name)).ok(),
        }
    }

    /// The component of a task.
    fn declared(&self, task: &TaskSpec) -> Option<&Declared> {
        self.index(&task.component_ref.name).map(|index| &self.declared[index])
    }

    /// The executor that carries a task, where it is no DAG.
    fn label(&self, task: &TaskSpec) -> Option<&str> {
        self.declared(task)?.label.as_deref()
    }

    /// What the platform `kubernetes` adds to an executor.
    fn kubernetes(&self, label: &str) -> Option<&serde_json::Map<String, Json>> {
        let platform = self.platforms.platforms.get("kubernetes")?;
        platform.get("deploymentSpec")?.get("executors")?.get(label)?.as_object()
    }

    /// What the task's executor takes from parameters for the platform `kubernetes` alone.
    fn kubernetes_parameters(
        &self,
        scope: &Scope<'_>,
        place: &str,
        spec: &TaskSpec,
    ) -> Result<Vec<(Name, Source)>> {
        let Some(config) = self.label(spec).and_then(|label| self.kubernetes(label)) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        find_parameters(&Json::Object(config.clone()), &mut String::new(), &mut found);
        let parameter = |(pointer, value): (String, Json)| {
            let name = ContainerTask::kubernetes_parameter(&pointer);
            let given = serde_json::from_value::<TaskParameter>(value)
                .map_err(|error| Error::plan(place, format!("platform kubernetes, `{pointer}`: {error}")))?;
            Ok((name.as_str().into(), parameter(scope, place, &name, given)?))
        };
        found.into_iter().map(parameter).collect()
    }

    fn dag(&self, place: &str, spec: DagSpec) -> Result<Dag> {
        let names: Vec<Name> = spec.tasks.keys().map(|name| Name::from(name.as_str())).collect();
        let scope = Scope { place, names: &self.shared.names, tasks: &names };
        let mut tasks = Vec::with_capacity(names.len());
        for (name, (_, task)) in names.iter().zip(spec.tasks) {
            tasks.push(self.task(&scope, name, task)?);
        }
        let none = KfComponent::default();
        platform::add(place, &mut tasks, self.platform.components.get(place).unwrap_or(&none))?;
        for task in 0..tasks.len() {
            for upstream in [tasks[task].upstream.as_slice(), &tasks[task].waits].concat() {
                tasks[upstream].downstream.push(task);
            }
        }
        refuse_cycles(place, &tasks)?;
        let parameters = spec
            .outputs
            .parameters
            .iter()
            .map(|(name, output)| {
                let from = match &output.source {
                    DagOutputSource::ValueFromParameter(one) => std::slice::from_ref(one),
                    DagOutputSource::ValueFromOneof(several) => several.parameter_selectors.as_slice(),
                }
                .iter();
                let from = from.map(|s| scope.output(name, &s.producer_subtask, &s.output_parameter_key));
                Ok((name.as_str().into(), from.collect::<Result<_>>()?))
            })
            .collect::<Result<_>>()?;
        let artifacts = spec
            .outputs
            .artifacts
            .iter()
            .map(|(name, output)| {
                let from = output.artifact_selectors.iter();
                let from = from.map(|s| scope.output(name, &s.producer_subtask, &s.output_artifact_key));
                Ok((name.as_str().into(), from.collect::<Result<_>>()?))
            })
            .collect::<Result<_>>()?;
        let mut dag = Dag { tasks, parameters, artifacts };
        mark_taken(&mut dag);
        Ok(dag)
    }

    fn retry(&self, place: &str, spec: &TaskSpec) -> Result<Option<Box<Retry>>> {
        let Some(policy) = spec.retry_policy.as_deref() else { return Ok(None) };
        let mut retry = retry(place, policy)?;
        retry.backoff.jitter = self.declared(spec).and_then(|declared| declared.jitter).unwrap_or(0.0);
        Ok(Some(Box::new(retry)))
    }

    fn task(&self, scope: &Scope<'_>, name: &Name, mut spec: TaskSpec) -> Result<Task> {
        let place = format!("{}/{name}", scope.place);
        names::task(&place, name)?;
        let component = self.index(&spec.component_ref.name).ok_or_else(|| {
            Error::plan(&place, format!("component `{}` is not in components", spec.component_ref.name))
        })?;
        let mut upstream = BTreeSet::new();
        let inputs = std::mem::take(&mut spec.inputs);
        let mut parameters = Vec::with_capacity(inputs.parameters.len());
        for (input, given) in inputs.parameters {
            let source = parameter(scope, &place, &input, given)?;
            upstream.extend(source.producer());
            parameters.push((self.shared.names.of(&input), source));
        }
        for (input, source) in self.kubernetes_parameters(scope, &place, &spec)? {
            upstream.extend(source.producer());
            parameters.push((input, source));
        }
        let mut artifacts = Vec::with_capacity(inputs.artifacts.len());
        for (input, source) in &inputs.artifacts {
            let source = match &source.source {
                ArtifactSource::ComponentInputArtifact(name) => Source::Input(self.shared.names.of(name)),
                ArtifactSource::TaskOutputArtifact { producer_task, output_artifact_key } => {
                    let output = scope.output(&place, producer_task, output_artifact_key)?;
                    upstream.insert(output.task);
                    Source::Output(output)
                }
            };
            artifacts.push((self.shared.names.of(input), source));
        }
        for other in &spec.dependent_tasks {
            upstream.insert(scope.task(&place, other)?);
        }
        let policy = spec.trigger_policy.take().unwrap_or_default();
        let condition = policy.condition.filter(|text| !text.trim().is_empty());
        let condition = condition.map(|text| Condition::compile(&text).map(Box::new)).transpose();
        Ok(Task {
            name: Name::clone(name),
            component,
            parameters,
            artifacts,
            upstream: upstream.into_iter().collect(),
            waits: Vec::new(),
            fallback_of: None,
            has_fallback: false,
            is_taken: false,
            downstream: Vec::new(),
            condition: condition.map_err(|problem| Error::plan(&place, problem))?,
            strategy: policy.strategy.unwrap_or_default(),
            iterator: iterator(scope, &place, &spec)?,
            retry: self.retry(&place, &spec)?,
            caching: match &spec.caching_options {
                Some(options) if !options.enable_cache => Caching::Off,
                None => Caching::Off,
                Some(options) if options.cache_key.is_empty() => Caching::Derived,
                Some(options) => Caching::Named(of_name(&spec.component_ref.name, &options.cache_key)),
            },
        })
    }
}

/// Finds the objects that say where a parameter comes from, each with its JSON pointer.
fn find_parameters(value: &Json, pointer: &mut String, found: &mut Vec<(String, Json)>) {
    let before = pointer.len();
    let children: Vec<(String, &Json)> = match value {
        Json::Object(fields) => {
            let sources = ["taskOutputParameter", "runtimeValue", "componentInputParameter"];
            if sources.iter().any(|source| fields.contains_key(*source)) {
                found.push((pointer.clone(), value.clone()));
            }
            fields.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Json::Array(items) => {
            items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => return,
    };
    for (key, child) in children {
        pointer.push('/');
        pointer.push_str(&key);
        find_parameters(child, pointer, found);
        pointer.truncate(before);
    }
}

/// The tasks of one DAG by name.
struct Scope<'a> {
    place: &'a str,
    names: &'a Once<str>,
    /// In the order of their names.
    tasks: &'a [Name],
}

impl Scope<'_> {
    fn task(&self, place: &str, name: &str) -> Result<usize> {
        self.tasks.binary_search_by(|task| task.as_ref().cmp(name)).map_err(|_| {
            let known = self.tasks.join(", ");
            Error::plan(
                place,
                format!("task `{name}` is not in the DAG `{}`, which has: {known}", self.place),
            )
        })
    }

    fn output(&self, place: &str, task: &str, key: &str) -> Result<TaskOutput> {
        Ok(TaskOutput { task: self.task(place, task)?, key: self.names.of(key) })
    }
}

/// Where a task's parameter comes from.
fn parameter(scope: &Scope<'_>, place: &str, input: &str, given: TaskParameter) -> Result<Source> {
    let refuse = |problem: String| Error::plan(place, format!("input `{input}`: {problem}"));
    let source = match given.source {
        ParameterSource::RuntimeValue(RuntimeValue::Constant(value)) => match placeholder::may_hold(&value) {
            true => Source::Template(Arc::new(value)),
            false => Source::Constant(Arc::new(value)),
        },
        ParameterSource::RuntimeValue(RuntimeValue::ConstantValue(value)) => {
            Source::Constant(Arc::new(value.to_json().map_err(refuse)?))
        }
        ParameterSource::RuntimeValue(RuntimeValue::RuntimeParameter(name)) => {
            if scope.place != ROOT {
                let problem = format!("only tasks of the outermost DAG may name the run's argument `{name}`");
                return Err(refuse(problem));
            }
            Source::Input(name.as_str().into())
        }
        ParameterSource::ComponentInputParameter(name) => Source::Input(scope.names.of(&name)),
        ParameterSource::TaskOutputParameter { producer_task, output_parameter_key } => {
            Source::Output(scope.output(place, &producer_task, &output_parameter_key)?)
        }
        ParameterSource::TaskFinalStatus { producer_task } => {
            Source::FinalStatus(scope.task(place, &producer_task)?)
        }
    };
    let selector = given.parameter_expression_selector.as_deref().filter(|text| !text.is_empty());
    match selector.map(Selector::compile).transpose().map_err(refuse)? {
        Some(selector) => Ok(Source::Selected(Arc::new((source, selector)))),
        None => Ok(source),
    }
}

/// The list that a task goes over, where it does.
fn iterator(scope: &Scope<'_>, place: &str, spec: &TaskSpec) -> Result<Option<Box<Iterator_>>> {
    let (items, input) = match (&spec.parameter_iterator, &spec.artifact_iterator) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Error::plan(place, "has both a parameterIterator and an artifactIterator"));
        }
        (None, Some(iterator)) => {
            (LoopItems::Artifacts(iterator.items.input_artifact.as_str().into()), &iterator.item_input)
        }
        (Some(iterator), None) => {
            let items = match &iterator.items {
                Items::InputParameter(name) => LoopItems::Input(name.as_str().into()),
                Items::Raw(text) => match serde_json::from_str::<serde_json::Value>(text) {
                    Ok(list @ serde_json::Value::Array(_)) => LoopItems::Constant(Arc::new(list)),
                    Ok(_) => return Err(Error::plan(place, "the loop's items are not a JSON array")),
                    Err(error) => {
                        let problem = format!("the loop's items are not valid JSON: {error}");
                        return Err(Error::plan(place, problem));
                    }
                },
            };
            (items, &iterator.item_input)
        }
    };
    let limit = spec.iterator_policy.as_ref().map_or(0, |policy| policy.parallelism_limit as usize);
    let input = scope.names.of(input);
    Ok(Some(Box::new(Iterator_ { items, input, limit, min_success: None, failures: None })))
}

fn retry(place: &str, policy: &RetryPolicy) -> Result<Retry> {
    let mut backoff = Backoff::default();
    if let Some(text) = &policy.backoff_duration {
        backoff.initial = duration(place, text)?;
    }
    if let Some(factor) = policy.backoff_factor.filter(|factor| *factor != 0.0) {
        backoff.factor = factor;
    }
    if let Some(text) = &policy.backoff_max_duration {
        backoff.max = duration(place, text)?;
    }
    Ok(Retry { max: policy.max_retry_count, backoff })
}

/// A protobuf duration in its JSON form: seconds with an `s`.
fn duration(place: &str, text: &str) -> Result<Duration> {
    let seconds = text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| Error::plan(place, format!("`{text}` is not a duration such as `1.5s`")))
}

/// Marks the tasks whose outputs something may take.
fn mark_taken(dag: &mut Dag) {
    let outputs = dag.parameters.iter().chain(&dag.artifacts);
    let of_dag = outputs.flat_map(|(_, outputs)| outputs).map(|output| output.task);
    let sources = dag.tasks.iter().flat_map(|task| task.parameters.iter().chain(&task.artifacts));
    let of_tasks = sources.filter_map(|(_, source)| source.producer());
    let fallbacks = dag.tasks.iter().enumerate().filter(|(_, task)| task.fallback_of.is_some());
    let taken: Vec<usize> = of_dag.chain(of_tasks).chain(fallbacks.map(|(index, _)| index)).collect();
    taken.into_iter().for_each(|index| dag.tasks[index].is_taken = true);
}

fn refuse_cycles(place: &str, tasks: &[Task]) -> Result<()> {
    let edges = tasks
        .iter()
        .enumerate()
        .flat_map(|(to, task)| task.upstream.iter().chain(&task.waits).map(move |&from| (from, to)));
    if let Some(cycle) = cycle(tasks.len(), edges) {
        let names: Vec<&str> = cycle.iter().map(|&task| tasks[task].name.as_ref()).collect();
        return Err(Error::plan(place, format!("these tasks wait for one another: {}", names.join(", "))));
    }
    Ok(())
}

fn refuse_recursion(components: &[Component]) -> Result<()> {
    let edges = components.iter().enumerate().flat_map(|(from, component)| {
        let tasks = match &component.kind {
            ComponentKind::Dag(dag) => dag.tasks.as_slice(),
            ComponentKind::Executor(_) => &[],
        };
        tasks.iter().map(move |task| (from, task.component))
    });
    // A way back that goes through a component with an explicit depth ends.
    let edges = edges.filter(|(_, to)| components[*to].max_depth.is_none());
    if let Some(cycle) = cycle(components.len(), edges) {
        let names: Vec<&str> = cycle.iter().map(|&component| components[component].name.as_ref()).collect();
        let names = names.join(", ");
        let problem = "these components contain one another, which would never end: give one of them a `maxDepth` under \
                       the platform kf's `components`";
        return Err(Error::plan(&names, problem));
    }
    Ok(())
}

fn cycle(nodes: usize, edges: impl Iterator<Item = (usize, usize)>) -> Option<Vec<usize>> {
    let mut graph = DiGraph::<(), (), u32>::with_capacity(nodes, 0);
    for _ in 0..nodes {
        graph.add_node(());
    }
    for (from, to) in edges {
        if from == to {
            return Some(vec![from]);
        }
        graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), ());
    }
    // Not Tarjan's, which petgraph does by recursion: a long chain would overflow the stack.
    let groups = petgraph::algo::kosaraju_scc(&graph);
    let group = groups.into_iter().find(|group| group.len() > 1)?;
    let mut group: Vec<usize> = group.into_iter().map(NodeIndex::index).collect();
    group.sort_unstable();
    Some(group)
}
