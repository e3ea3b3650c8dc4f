//! Failures that the run goes on in spite of: something stands for what failed, or a loop has enough iterations that
//! did not.

use std::collections::HashMap;

use super::facts::{Facts, place_of};
use super::tree::{Dag, Item};
use crate::TaskState;

/// So many fallbacks of fallbacks are followed.
const CHAIN: usize = 100;

/// The failed tasks that something makes up for, each with what.
pub(super) fn find(root: &Dag, facts: &Facts<'_>) -> HashMap<usize, String> {
    let mut items = HashMap::new();
    let makes_up = add(root, &mut items);
    let mut found = HashMap::new();
    if !makes_up {
        return found;
    }
    for (index, task) in facts.report.tasks.iter().enumerate() {
        if task.state == TaskState::Failed
            && let Some(what) = made_up_for(&task.path, &items, facts)
        {
            found.insert(index, what);
        }
    }
    found
}

/// Notes tasks by path; whether anything may make up for a failure.
fn add<'t>(dag: &'t Dag, items: &mut HashMap<&'t str, &'t Item>) -> bool {
    let mut any = false;
    for item in &dag.items {
        items.insert(item.path.as_str(), item);
        any |= item.fallback.is_some() || item.may_fail;
        any |= item.inside.as_ref().is_some_and(|inside| add(inside, items));
    }
    any
}

/// What makes up for a failure here, or in something around it.
fn made_up_for(path: &str, items: &HashMap<&str, &Item>, facts: &Facts<'_>) -> Option<String> {
    let went_well = |path: &str| {
        let state = facts.index(path).map(|index| facts.task(index).state);
        matches!(state, Some(TaskState::Succeeded | TaskState::Cached))
    };
    let mut path = path;
    loop {
        let item = items.get(place_of(path).as_str())?;
        match iteration_of(path) {
            Some(whole) => {
                if item.may_fail && went_well(whole) {
                    return Some(format!("enough other iterations of `{}` succeeded", item.name));
                }
                path = whole;
                continue;
            }
            None => {
                let beside = |name: &str| match path.rsplit_once('/') {
                    Some((around, _)) => format!("{around}/{name}"),
                    None => name.to_owned(),
                };
                let mut next = item.fallback.as_deref();
                for _ in 0..CHAIN {
                    let Some(name) = next else { break };
                    let fallback = beside(name);
                    if went_well(&fallback) {
                        return Some(format!("`{name}` stands for it"));
                    }
                    next = items.get(place_of(&fallback).as_str())?.fallback.as_deref();
                }
            }
        }
        path = path.rsplit_once('/')?.0;
    }
}

/// The loop that a path ends with an iteration of.
fn iteration_of(path: &str) -> Option<&str> {
    let (whole, number) = path.strip_suffix(']')?.rsplit_once('[')?;
    number.parse::<usize>().is_ok().then_some(whole)
}
