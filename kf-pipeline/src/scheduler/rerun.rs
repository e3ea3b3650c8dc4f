//! What of an ended run a new one may keep, so that it runs the rest again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kf_core::Timestamp;

use super::{JournalEvent, TaskState, Values};
use crate::plan::{ComponentKind, Name, Plan, Work, nearest, parse_part};

/// A task of an ended run that a new one keeps.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) outputs: Arc<Values>,
}

/// A task chosen to run again, with what follows from it.
struct Chosen {
    levels: Vec<Level>,
    component: usize,
}

/// One DAG on the way from the outermost one to a chosen task.
struct Level {
    task: Name,
    iteration: Option<usize>,
    is_loop: bool,
    /// The tasks of this DAG that wait for it, directly or not.
    after: BTreeSet<Name>,
}

/// The tasks that succeeded in the run with this journal, but for those in `again`, what comes after them and what comes
/// after those that did not succeed; also but for those that give something else in this plan.
///
/// # Errors
/// Names the part of a path that the plan does not have, and what may have been meant.
pub(crate) fn keep(
    plan: &Plan,
    journal: Vec<JournalEvent>,
    again: &[Arc<str>],
) -> Result<BTreeMap<Arc<str>, Kept>, String> {
    let (mut kept, mut unwell, mut ended) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for event in journal {
        match event {
            JournalEvent::Task { task, state, attempts, started_at, ended_at, outputs, .. } => {
                if matches!(state, TaskState::Succeeded | TaskState::Cached) {
                    kept.insert(task, Kept { started_at, ended_at, attempts, outputs });
                } else {
                    unwell.insert(task);
                }
            }
            JournalEvent::Group { task, state, .. } => {
                if matches!(state, TaskState::Failed | TaskState::Canceled) {
                    unwell.insert(Arc::clone(&task));
                }
                if matches!(state, TaskState::Failed | TaskState::Succeeded) {
                    ended.insert(task);
                }
            }
            _ => {}
        }
    }
    let wanted = |path: &Arc<str>| {
        Chosen::find(plan, path).map_err(|problem| match nearest(plan, path).as_slice() {
            [] => problem,
            near => format!("{problem}; did you mean `{}`?", near.join("` or `")),
        })
    };
    let had: BTreeSet<&str> = kept.keys().chain(&unwell).map(|path| &**path).collect();
    again.iter().try_for_each(|path| refuse_iteration(path, &ended, &had))?;
    let mut chosen = again.iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
    // Of a group, what failed in it: the rest of it is kept.
    let inner =
        unwell.iter().filter(|path| !unwell.iter().any(|other| other != *path && lies_in(other, path)));
    // A path that a changed pipeline no longer has keeps nothing from running.
    chosen.extend(inner.filter_map(|path| Chosen::find(plan, path).ok()));
    kept.retain(|path, kept: &mut Kept| {
        let still = Chosen::find(plan, path).is_ok_and(|found| found.gives(plan, &kept.outputs));
        still && !chosen.iter().any(|chosen| chosen.drops(path))
    });
    Ok(kept)
}

/// Refuses an iteration that a loop did not have which has ended in the run.
fn refuse_iteration(path: &str, ended: &BTreeSet<Arc<str>>, had: &BTreeSet<&str>) -> Result<(), String> {
    let places = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for place in places.map(|end| &path[..end]) {
        let last = place.rsplit_once('/').map_or(place, |(_, last)| last);
        let (name, Some(iteration)) = parse_part(last) else { continue };
        let whole = &place[..place.len() - last.len() + name.len()];
        let number = |had: &&str| had.strip_prefix(whole)?.strip_prefix('[')?.split(']').next()?.parse().ok();
        let count = had.iter().filter_map(number).max().map_or(0, |most: usize| most + 1);
        if ended.contains(whole) && iteration >= count {
            return Err(format!(
                "task `{path}`: in that run `{whole}` had {count} iterations, counted from 0"
            ));
        }
    }
    Ok(())
}

/// Whether a task is this group or lies in it.
pub(super) fn lies_in(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '[']))
}

impl Chosen {
    fn find(plan: &Plan, path: &str) -> Result<Self, String> {
        let (mut levels, mut component) = (Vec::new(), plan.root);
        for part in path.split('/') {
            let (name, iteration) = parse_part(part);
            let ComponentKind::Dag(dag) = &plan.components[component].kind else {
                return Err(format!("task `{path}`: what `{part}` is to lie in is no group"));
            };
            if levels.last().is_some_and(|level: &Level| level.is_loop && level.iteration.is_none()) {
                return Err(format!(
                    "task `{path}`: say which iteration of the loop before `{part}`, as in `loop[0]/{part}`"
                ));
            }
            let Some(index) = dag.tasks.iter().position(|task| task.name.as_ref() == name) else {
                let known: Vec<&str> = dag.tasks.iter().map(|task| task.name.as_ref()).collect();
                return Err(format!("task `{path}`: there is no `{name}`; there are: {}", known.join(", ")));
            };
            let task = &dag.tasks[index];
            if iteration.is_some() && task.iterator.is_none() {
                return Err(format!("task `{path}`: `{name}` is no loop"));
            }
            let (mut after, mut next) = (BTreeSet::new(), task.downstream.clone());
            while let Some(index) = next.pop() {
                if after.insert(Name::clone(&dag.tasks[index].name)) {
                    next.extend(&dag.tasks[index].downstream);
                }
            }
            levels.push(Level { task: name.into(), iteration, is_loop: task.iterator.is_some(), after });
            component = task.component;
        }
        Ok(Self { levels, component })
    }

    /// Whether these outputs are of the names and types that its component has.
    fn gives(&self, plan: &Plan, outputs: &Values) -> bool {
        let declared = &plan.components[self.component].outputs;
        let parameters = outputs.named_parameters().all(|(name, value)| {
            declared
                .parameters
                .get(name)
                .is_some_and(|output| value.is_null() || output.kind().accepts(value))
        });
        // What a container leaves out, it left out before.
        let all = declared.parameters.keys().all(|name| outputs.parameter(name).is_some())
            || !matches!(&plan.components[self.component].kind, ComponentKind::Executor(executor)
                if matches!(executor.work, Work::Component { .. }));
        parameters && all && declared.artifacts.keys().all(|name| outputs.artifact(name).is_some())
    }

    /// Whether a task runs again: it is this one, lies in it, or comes after it.
    fn drops(&self, path: &str) -> bool {
        let mut parts = path.split('/').map(parse_part);
        for level in &self.levels {
            let Some((name, iteration)) = parts.next() else { return false };
            if name != level.task.as_ref() {
                return level.after.contains(name);
            }
            if level.iteration.is_some() && iteration != level.iteration {
                return false;
            }
        }
        true
    }
}
