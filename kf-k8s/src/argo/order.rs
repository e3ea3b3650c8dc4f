//! When tasks run: after which, whether, and how often.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kf_pipeline::spec::{
    ArtifactSource, DagSpec, Items, ParameterSource, TaskParameter, TaskSpec, TriggerStrategy,
};

/// Whether a task runs however those before it ended.
pub(super) fn at_any_end(task: &TaskSpec) -> bool {
    let strategy = task.trigger_policy.as_ref().and_then(|policy| policy.strategy);
    strategy == Some(TriggerStrategy::AllUpstreamTasksCompleted)
}

/// The condition of a task, where it has one.
pub(super) fn condition(task: &TaskSpec) -> Option<&str> {
    let text = task.trigger_policy.as_ref()?.condition.as_deref()?;
    (!text.trim().is_empty()).then_some(text)
}

/// Whether a task runs once for each of a list.
pub(super) fn is_loop(task: &TaskSpec) -> bool {
    task.parameter_iterator.is_some() || task.artifact_iterator.is_some()
}

/// Whether a task may turn out to run not once, its list being empty; Argo calls it skipped then.
pub(super) fn may_be_empty(task: &TaskSpec) -> bool {
    task.parameter_iterator.as_ref().is_some_and(|iterator| match &iterator.items {
        Items::InputParameter(_) => true,
        Items::Raw(text) => text.trim_start_matches('[').trim_end_matches(']').trim().is_empty(),
    })
}

/// The tasks before a task: those that it takes something from, and those that it names.
pub(super) fn upstream(task: &TaskSpec, more: &[TaskParameter]) -> BTreeSet<String> {
    let parameters = task.inputs.parameters.values().chain(more);
    let parameters = parameters.filter_map(|given| match &given.source {
        ParameterSource::TaskOutputParameter { producer_task, .. }
        | ParameterSource::TaskFinalStatus { producer_task } => Some(producer_task),
        _ => None,
    });
    let artifacts = task.inputs.artifacts.values().filter_map(|given| match &given.source {
        ArtifactSource::TaskOutputArtifact { producer_task, .. } => Some(producer_task),
        ArtifactSource::ComponentInputArtifact(_) => None,
    });
    parameters.chain(artifacts).chain(&task.dependent_tasks).cloned().collect()
}

/// The names of those tasks that may be skipped: by a condition, or since one before them was.
pub(super) fn skippable(dag: &DagSpec) -> HashSet<String> {
    let mut found: HashSet<String> = dag
        .tasks
        .iter()
        .filter(|(_, task)| condition(task).is_some())
        .map(|(name, _)| name.clone())
        .collect();
    let mut follows: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for (name, task) in dag.tasks.iter().filter(|(_, task)| !at_any_end(task)) {
        for before in upstream(task, &[]) {
            follows.entry(before).or_default().push(name);
        }
    }
    let mut left: Vec<String> = found.iter().cloned().collect();
    while let Some(before) = left.pop() {
        for name in follows.get(&before).into_iter().flatten() {
            if found.insert((*name).clone()) {
                left.push((*name).clone());
            }
        }
    }
    found
}
