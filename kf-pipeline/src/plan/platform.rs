//! What the platform `kf` adds to the tasks of a DAG.

use std::collections::{HashMap, HashSet};

use super::{Dag, MinSuccess, Name, Task};
use crate::spec::{KfComponent, KfMinSuccess};
use crate::{Error, Result};

/// Adds it, before the order of tasks is checked.
pub(super) fn add(place: &str, tasks: &mut [Task], kf: &KfComponent) -> Result<()> {
    let find = |tasks: &[Task], at: &str, name: &str| {
        let found = tasks.iter().position(|task| task.name.as_ref() == name);
        found.ok_or_else(|| {
            Error::plan(at, format!("platform kf names task `{name}`, which is not in this DAG"))
        })
    };
    let mut fallbacks = Vec::new();
    for (name, added) in &kf.tasks {
        let at = format!("{place}/{name}");
        let index = find(tasks, place, name)?;
        if let Some(fallback) = &added.fallback {
            fallbacks.push((index, find(tasks, &at, fallback)?));
        }
        let task = &mut tasks[index];
        if added.min_success.is_none() && added.failures.is_none() {
            continue;
        }
        let Some(iterator) = &mut task.iterator else {
            return Err(Error::plan(&at, "has `minSuccess` or `failures`, which are for loops"));
        };
        iterator.min_success = added.min_success.map(|min| min_success(&at, min)).transpose()?;
        iterator.failures = added.failures.as_deref().map(Name::from);
    }
    for (index, fallback) in &fallbacks {
        stand_in(place, tasks, *index, *fallback)?;
    }
    let fallbacks: HashMap<usize, usize> = fallbacks.into_iter().collect();
    if !fallbacks.is_empty() {
        for index in 0..tasks.len() {
            wait_for_fallbacks(tasks, &fallbacks, index);
        }
    }
    Ok(())
}

fn min_success(place: &str, min: KfMinSuccess) -> Result<MinSuccess> {
    match min {
        KfMinSuccess::Count(count) => Ok(MinSuccess::Count(usize::try_from(count).unwrap_or(usize::MAX))),
        KfMinSuccess::Ratio(ratio) if (0.0..=1.0).contains(&ratio) => Ok(MinSuccess::Ratio(ratio)),
        KfMinSuccess::Ratio(ratio) => {
            Err(Error::plan(place, format!("minSuccess: expected a ratio from 0 to 1, found {ratio}")))
        }
    }
}

/// Lets one task run where another has failed, and stand for it.
fn stand_in(place: &str, tasks: &mut [Task], index: usize, fallback: usize) -> Result<()> {
    let at = format!("{place}/{}", tasks[index].name);
    let name = Name::clone(&tasks[fallback].name);
    let refuse = |problem: String| Err(Error::plan(&at, problem));
    if let Some(other) = tasks[fallback].fallback_of {
        return refuse(format!("its fallback `{name}` is that of `{}` already", tasks[other].name));
    }
    if let Some(consumer) = tasks.iter().find(|task| task.upstream.contains(&fallback)) {
        let problem =
            format!("`{}` waits for its fallback `{name}`: let it wait for the task itself", consumer.name);
        return refuse(problem);
    }
    if tasks[index].iterator.is_some() != tasks[fallback].iterator.is_some() {
        return refuse(format!("one of it and its fallback `{name}` is a loop, and one is not"));
    }
    if tasks[fallback].upstream.contains(&index) {
        return refuse(format!(
            "its fallback `{name}` takes something from it, which it has not given when it fails"
        ));
    }
    tasks[index].has_fallback = true;
    tasks[fallback].fallback_of = Some(index);
    tasks[fallback].waits.push(index);
    Ok(())
}

/// Who waits for a task waits for its fallback too, and for that one's.
fn wait_for_fallbacks(tasks: &mut [Task], fallbacks: &HashMap<usize, usize>, index: usize) {
    let task = &mut tasks[index];
    let mut seen: HashSet<usize> = task.upstream.iter().chain(&task.waits).copied().collect();
    let mut left: Vec<usize> = seen.iter().copied().collect();
    left.sort_unstable();
    while let Some(before) = left.pop() {
        if let Some(&fallback) = fallbacks.get(&before).filter(|fallback| **fallback != index)
            && seen.insert(fallback)
        {
            left.push(fallback);
            task.waits.push(fallback);
        }
    }
}

/// That what a DAG gives is not taken from fallbacks themselves, and that these give what they stand for.
pub(super) fn check(plan: &super::Plan, place: &str, dag: &Dag) -> Result<()> {
    let outputs = dag.parameters.iter().chain(&dag.artifacts);
    for (name, from) in outputs {
        for output in from {
            let task = &dag.tasks[output.task];
            if let Some(of) = task.fallback_of {
                let problem = format!(
                    "output `{name}` is taken from `{}`, a fallback: take it from `{}`, for which it stands",
                    task.name, dag.tasks[of].name
                );
                return Err(Error::plan(place, problem));
            }
        }
    }
    for task in &dag.tasks {
        let Some(of) = task.fallback_of else { continue };
        let (wanted, found) =
            (&plan.components[dag.tasks[of].component].outputs, &plan.components[task.component].outputs);
        let parameter = wanted.parameters.iter().find(|(name, wanted)| {
            found.parameters.get(name).is_none_or(|found| found.kind() != wanted.kind())
        });
        let artifact = wanted.artifacts.iter().find(|(name, wanted)| {
            found.artifacts.get(name).is_none_or(|found| !found.artifact_type.fits(&wanted.artifact_type))
        });
        let missing = parameter.map(|(name, _)| name).or(artifact.map(|(name, _)| name));
        if let Some(name) = missing {
            let problem = format!(
                "the fallback of `{}` has no output `{name}` of the same type, which that one gives",
                dag.tasks[of].name
            );
            return Err(Error::plan(format!("{place}/{}", task.name), problem));
        }
    }
    Ok(())
}
