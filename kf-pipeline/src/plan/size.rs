//! How much a pipeline is once its components are put into one another: a short text may say very much.

use super::{Component, ComponentKind, Task};
use crate::{Error, Result};

/// Tasks of one run, each loop counted as one iteration: only those under way are there at once.
const MOST_TASKS: u64 = 1_000_000;
/// How deep DAGs may lie in one another. A loop and a branch are each a level of their own.
const DEEPEST: usize = 100;

#[derive(Clone, Copy, Default)]
struct Size {
    tasks: u64,
    depth: usize,
}

/// Refuses what would be more than a run can be, or deeper. A component that may run within itself counts as one task
/// where it is used: how often it does so is known when it runs.
pub(super) fn refuse_oversize(components: &[Component]) -> Result<()> {
    let mut sizes: Vec<Option<Size>> = vec![None; components.len()];
    let mut left: Vec<usize> = (0..components.len()).collect();
    let opens = |task: &Task| components[task.component].max_depth.is_none();
    while let Some(&at) = left.last() {
        if sizes[at].is_some() {
            left.pop();
            continue;
        }
        let tasks: &[Task] = match &components[at].kind {
            ComponentKind::Dag(dag) => &dag.tasks,
            _ => &[],
        };
        let before = left.len();
        let inner = tasks.iter().filter(|task| opens(task)).map(|task| task.component);
        left.extend(inner.filter(|inner| sizes[*inner].is_none()));
        if left.len() > before {
            continue;
        }
        left.pop();
        let mut size = Size::default();
        for task in tasks {
            let inner = sizes[task.component].filter(|_| opens(task)).unwrap_or_default();
            size.tasks = size.tasks.saturating_add(1).saturating_add(inner.tasks);
            size.depth = size.depth.max(inner.depth + 1);
        }
        let name = components[at].name.as_ref();
        if size.tasks > MOST_TASKS {
            let problem = format!(
                "with the components in it, this has {} tasks; at most {MOST_TASKS} are taken; go over a list in a loop \
                 instead",
                size.tasks
            );
            return Err(Error::plan(name, problem));
        }
        if size.depth > DEEPEST {
            let problem = format!("DAGs lie more than {DEEPEST} deep in one another");
            return Err(Error::plan(name, problem));
        }
        sizes[at] = Some(size);
    }
    Ok(())
}
