//! The pipeline as a tree of DAGs, as the report draws and lists it.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::text::clipped;
use crate::spec::{
    ArtifactSource, ComponentSpec, DagSpec, Items, KfPlatform, KfTask, Named, ParameterSource, PipelineFile,
    TaskSpec, TriggerStrategy,
};

/// How deep groups may lie in groups, and how many tasks are looked at; more are left out.
const DEPTH: usize = 16;
const TASKS: usize = 20_000;

/// The tasks of a DAG, each after those that it depends on.
#[derive(Debug, Default)]
pub(in crate::report) struct Dag {
    pub(in crate::report) items: Vec<Item>,
    pub(in crate::report) edges: Vec<Edge>,
}

/// That a task of a DAG comes after another, by their places in it.
#[derive(Clone, Copy, Debug)]
pub(in crate::report) struct Edge {
    pub(in crate::report) from: usize,
    pub(in crate::report) to: usize,
    pub(in crate::report) kind: EdgeKind,
}

/// Why a task comes after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::report) enum EdgeKind {
    /// It takes what that one gives.
    Data,
    /// For no other reason than that it was said so.
    Order,
    /// It stands for that one where that has failed.
    Fallback,
}

/// A task of a DAG: something that is carried out, or a group of tasks.
#[derive(Debug)]
pub(in crate::report) struct Item {
    pub(in crate::report) name: String,
    /// Its path without the numbers of iterations.
    pub(in crate::report) path: String,
    /// Whether it is run once for each item of a list.
    pub(in crate::report) is_loop: bool,
    /// Whether it makes this very report.
    pub(in crate::report) is_report: bool,
    /// Whether it runs however the tasks before it ended.
    pub(in crate::report) at_any_end: bool,
    /// Its condition, readable.
    pub(in crate::report) condition: Option<String>,
    /// The task beside it that stands for it where it has failed.
    pub(in crate::report) fallback: Option<String>,
    /// Whether some of its iterations may fail.
    pub(in crate::report) may_fail: bool,
    /// How many iterations run at once; 0 where there is no limit.
    pub(in crate::report) limit: usize,
    /// The list that it goes over, where that is short and known beforehand.
    pub(in crate::report) loop_items: Option<String>,
    /// Its inputs by name, where they are the loop's item.
    pub(in crate::report) takes_item: Vec<String>,
    /// The tasks inside, of a group.
    pub(in crate::report) inside: Option<Dag>,
}

impl Dag {
    pub(in crate::report) fn of(file: &PipelineFile) -> Self {
        let platform = file.platform_spec.kf().unwrap_or_default();
        let mut reader = Reader { file, platform, left: TASKS };
        reader.dag("root", &file.pipeline_spec.root, "", &BTreeSet::new(), 0)
    }

    /// How many tasks are in it that are no groups.
    pub(in crate::report) fn leaves(&self) -> usize {
        self.items.iter().map(Item::leaves).sum()
    }
}

impl Item {
    pub(in crate::report) fn leaves(&self) -> usize {
        self.inside.as_ref().map_or(1, Dag::leaves)
    }
}

struct Reader<'f> {
    file: &'f PipelineFile,
    platform: KfPlatform,
    left: usize,
}

impl Reader<'_> {
    fn dag(
        &mut self,
        name: &str,
        component: &ComponentSpec,
        path: &str,
        item_inputs: &BTreeSet<String>,
        depth: usize,
    ) -> Dag {
        let Some(dag) = &component.dag else { return Dag::default() };
        if depth > DEPTH {
            return Dag::default();
        }
        let added = self.platform.components.get(name).map(|added| added.tasks.clone()).unwrap_or_default();
        let (order, edges) = sorted(dag, &added);
        let mut items = Vec::new();
        for name in order {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            let mut item = self.item(name, &dag.tasks[name], path, item_inputs, depth);
            if let Some(added) = added.get(name) {
                item.fallback.clone_from(&added.fallback);
                item.may_fail = added.min_success.is_some();
            }
            items.push(item);
        }
        let edges = edges.into_iter().filter(|edge| edge.to < items.len()).collect();
        Dag { items, edges }
    }

    fn item(
        &mut self,
        name: &str,
        task: &TaskSpec,
        path: &str,
        item_inputs: &BTreeSet<String>,
        depth: usize,
    ) -> Item {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let file = self.file;
        let component = file.pipeline_spec.components.get(&task.component_ref.name);
        let label = component.and_then(|component| component.executor_label.as_deref());
        let kf = label.and_then(|label| self.platform.executors.get(label));
        let is_report = kf.is_some_and(|kf| kf.component == "run_report");
        let takes = |source: &ParameterSource| matches!(source, ParameterSource::ComponentInputParameter(name) if item_inputs.contains(name));
        let taking = task.inputs.parameters.iter().filter(|(_, given)| takes(&given.source));
        let takes_item: Vec<String> = taking.map(|(name, _)| name.clone()).collect();
        let mut inner: BTreeSet<String> = takes_item.iter().cloned().collect();
        inner.extend(task.parameter_iterator.as_ref().map(|iterator| iterator.item_input.clone()));
        inner.extend(task.artifact_iterator.as_ref().map(|iterator| iterator.item_input.clone()));
        let inside = component.filter(|component| component.dag.is_some());
        let inside =
            inside.map(|component| self.dag(&task.component_ref.name, component, &path, &inner, depth + 1));
        let policy = task.trigger_policy.as_ref();
        Item {
            name: name.to_owned(),
            is_loop: task.parameter_iterator.is_some() || task.artifact_iterator.is_some(),
            is_report,
            at_any_end: policy.and_then(|policy| policy.strategy)
                == Some(TriggerStrategy::AllUpstreamTasksCompleted),
            condition: policy.and_then(|policy| policy.condition.as_deref()).map(readable),
            limit: task.iterator_policy.as_ref().map_or(0, |policy| policy.parallelism_limit as usize),
            loop_items: match (&task.parameter_iterator, &task.artifact_iterator) {
                (Some(iterator), _) => Some(match &iterator.items {
                    Items::Raw(list) => clipped(list, 40),
                    Items::InputParameter(name) => channel(name).to_owned(),
                }),
                (None, Some(iterator)) => Some(channel(&iterator.items.input_artifact).to_owned()),
                (None, None) => None,
            },
            takes_item,
            inside,
            path,
            fallback: None,
            may_fail: false,
        }
    }
}

/// The names of a DAG's tasks, each after those that it depends on, and its edges between their places.
fn sorted<'d>(dag: &'d DagSpec, added: &Named<KfTask>) -> (Vec<&'d str>, Vec<Edge>) {
    let names: Vec<&str> = dag.tasks.keys().map(String::as_str).collect();
    let index: BTreeMap<&str, usize> = names.iter().enumerate().map(|(index, name)| (*name, index)).collect();
    let mut links: BTreeMap<(usize, usize), EdgeKind> = BTreeMap::new();
    for (to, task) in dag.tasks.values().enumerate() {
        let parameters = task.inputs.parameters.values().filter_map(|given| match &given.source {
            ParameterSource::TaskOutputParameter { producer_task, .. } => {
                Some((producer_task, EdgeKind::Data))
            }
            ParameterSource::TaskFinalStatus { producer_task } => Some((producer_task, EdgeKind::Order)),
            _ => None,
        });
        let artifacts = task.inputs.artifacts.values().filter_map(|given| match &given.source {
            ArtifactSource::TaskOutputArtifact { producer_task, .. } => Some((producer_task, EdgeKind::Data)),
            ArtifactSource::ComponentInputArtifact(_) => None,
        });
        let after = task.dependent_tasks.iter().map(|name| (name, EdgeKind::Order));
        for (name, kind) in parameters.chain(artifacts).chain(after) {
            if let Some(from) = index.get(name.as_str()).filter(|from| **from != to) {
                let known = links.entry((*from, to)).or_insert(kind);
                *known = kind.min(*known);
            }
        }
    }
    for (from, name) in names.iter().enumerate() {
        let fallback = added.get(name).and_then(|added| added.fallback.as_deref());
        if let Some(to) = fallback.and_then(|name| index.get(name)).filter(|to| **to != from) {
            links.insert((from, *to), EdgeKind::Fallback);
        }
    }
    let mut open = vec![0_usize; names.len()];
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
    for (from, to) in links.keys() {
        open[*to] += 1;
        next[*from].push(*to);
    }
    let mut ready: BTreeSet<usize> = (0..names.len()).filter(|task| open[*task] == 0).collect();
    let (mut order, mut place) = (Vec::new(), vec![None; names.len()]);
    loop {
        // A cycle, which no plan has, is entered at its first task.
        let first = ready.pop_first().or_else(|| place.iter().position(Option::is_none));
        let Some(task) = first else { break };
        place[task] = Some(order.len());
        order.push(names[task]);
        for to in &next[task] {
            open[*to] = open[*to].saturating_sub(1);
            if open[*to] == 0 && place[*to].is_none() {
                ready.insert(*to);
            }
        }
    }
    let edge = |((from, to), kind): ((usize, usize), EdgeKind)| {
        Some(Edge { from: place[from]?, to: place[to]?, kind })
    };
    let edges = links.into_iter().filter_map(edge).filter(|edge| edge.from < edge.to).collect();
    (order, edges)
}

/// `pipelinechannel--evaluate-accuracy` as `evaluate-accuracy`.
fn channel(name: &str) -> &str {
    name.trim_start_matches("pipelinechannel--")
}

/// A CEL condition with the names of inputs only.
fn readable(condition: &str) -> String {
    const BEFORE: &str = "inputs.parameter_values['";
    let mut out = String::new();
    let mut rest = condition;
    while let Some(start) = rest.find(BEFORE) {
        let after = &rest[start + BEFORE.len()..];
        let Some(end) = after.find("']") else { break };
        let (mut head, mut tail) = (&rest[..start], &after[end + 2..]);
        if let (Some(shorter), Some(inner)) = (head.strip_suffix("int("), tail.strip_prefix(')')) {
            (head, tail) = (shorter, inner);
        }
        out.push_str(head);
        out.push_str(channel(&after[..end]));
        rest = tail;
    }
    out.push_str(rest);
    out.replace(" >= ", " ≥ ").replace(" <= ", " ≤ ").replace(" != ", " ≠ ").replace(" == ", " = ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_like_sentences() {
        let cel = "(inputs.parameter_values['pipelinechannel--evaluate-accuracy'] >= 0.95) && (int(inputs.parameter_values['pipelinechannel--n']) != 3)";
        assert_eq!(readable(cel), "(evaluate-accuracy ≥ 0.95) && (n ≠ 3)");
        assert_eq!(readable("inputs.parameter_values['x"), "inputs.parameter_values['x");
    }

    #[test]
    fn a_cycle_is_cut_and_every_task_kept() {
        let after = |name: &str| TaskSpec { dependent_tasks: vec![name.to_owned()], ..TaskSpec::default() };
        let tasks = Named::from([
            ("a".to_owned(), after("c")),
            ("b".to_owned(), after("a")),
            ("c".to_owned(), after("b")),
            ("d".to_owned(), after("d")),
        ]);
        let dag = DagSpec { tasks, ..DagSpec::default() };
        let (order, edges) = sorted(&dag, &Named::default());
        assert_eq!(order.len(), 4);
        assert_eq!(edges.len(), 2);
    }

    #[test]
    fn a_component_that_holds_itself_ends() {
        let mut file = PipelineFile::default();
        let task = || TaskSpec {
            component_ref: crate::spec::ComponentRef { name: "comp-a".to_owned(), ..Default::default() },
            ..TaskSpec::default()
        };
        let tasks = Named::from([("a".to_owned(), task()), ("b".to_owned(), task())]);
        let component = ComponentSpec {
            dag: Some(Box::new(DagSpec { tasks, ..DagSpec::default() })),
            ..ComponentSpec::default()
        };
        file.pipeline_spec.components.insert("comp-a".to_owned(), component.clone());
        file.pipeline_spec.root = component;
        assert!(Dag::of(&file).leaves() <= TASKS);
    }
}
