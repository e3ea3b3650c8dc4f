//! What runs at the end of the whole workflow, however that came.

use std::collections::{BTreeSet, HashSet};

use kf_pipeline::spec::{DagOutputSource, DagSpec, ParameterSource, TaskSpec};

use super::Result;
use super::exporter::Exporter;
use super::scope::Scope;
use super::{names, order, task};
use crate::objects::argo::{Dag, Template};

/// The outermost tasks that run after the one other task, whatever becomes of that, and that take nothing from it: Argo's
/// own exit handler runs them also where the workflow was stopped or took too long. Where it is otherwise there are none.
pub(super) fn tasks(dag: &DagSpec) -> HashSet<String> {
    let last = |task: &TaskSpec| {
        order::at_any_end(task) && order::condition(task).is_none() && !order::is_loop(task)
    };
    let (ends, others): (Vec<_>, Vec<_>) = dag.tasks.iter().partition(|(_, task)| last(task));
    let [(only, _)] = others.as_slice() else { return HashSet::new() };
    let takes_nothing = |task: &TaskSpec| {
        let mut given = task.inputs.parameters.values();
        task.inputs.artifacts.is_empty()
            && !given.any(|given| matches!(given.source, ParameterSource::TaskOutputParameter { .. }))
    };
    let outputs = dag.outputs.parameters.values().flat_map(|output| match &output.source {
        DagOutputSource::ValueFromParameter(one) => std::slice::from_ref(one),
        DagOutputSource::ValueFromOneof(several) => several.parameter_selectors.as_slice(),
        _ => &[],
    });
    let parameters_from = outputs.map(|one| one.producer_subtask.as_str());
    let artifacts_from = dag.outputs.artifacts.values().flat_map(|output| &output.artifact_selectors);
    let artifacts_from = artifacts_from.map(|one| one.producer_subtask.as_str());
    let given: BTreeSet<&str> = parameters_from.chain(artifacts_from).collect();
    let fits = ends.iter().all(|(name, task)| {
        let before = order::upstream(task, &[]);
        let after_all = before.len() == 1 && before.contains(only.as_str());
        after_all && takes_nothing(task) && !given.contains(name.as_str())
    });
    if fits { ends.into_iter().map(|(name, _)| name.clone()).collect() } else { HashSet::new() }
}

/// The name of the template that runs them; none where there are none.
pub(super) fn handler(
    exporter: &mut Exporter<'_>,
    tasks: &HashSet<String>,
    absent: &BTreeSet<String>,
) -> Result<Option<String>> {
    let root = &exporter.spec.root;
    let Some(dag) = root.dag.as_deref().filter(|_| !tasks.is_empty()) else { return Ok(None) };
    let scope = Scope {
        place: "root",
        component: root,
        dag,
        absent,
        names: names::tasks(dag.tasks.keys()),
        may_skip: HashSet::new(),
        at_exit: true,
    };
    let mut calls = Vec::with_capacity(tasks.len());
    for (name, spec) in dag.tasks.iter().filter(|(name, _)| tasks.contains(*name)) {
        let mut call = task::task(exporter, &scope, name, spec)?;
        // What it comes after is the workflow itself.
        call.depends = None;
        calls.push(call);
    }
    let dag = Some(Dag { tasks: calls, target: None, fail_fast: Some(false) });
    Ok(Some(exporter.add("at-exit", Template { dag, ..Template::default() })))
}
