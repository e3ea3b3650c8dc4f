//! The tasks of a plan whose paths come near one that it does not have.

use std::collections::VecDeque;

use super::{ComponentKind, Name, Plan};

/// So many tasks are looked at.
const LOOKED_AT: usize = 20_000;
/// Longer names are near none.
const LONGEST: usize = 200;
/// So many are named.
const NAMED: usize = 3;

/// A part of a path: a task's name and its iteration.
pub(crate) fn parse_part(part: &str) -> (&str, Option<usize>) {
    let iteration = part.strip_suffix(']').and_then(|part| part.rsplit_once('['));
    match iteration.and_then(|(name, number)| Some((name, number.parse().ok()?))) {
        Some((name, number)) => (name, Some(number)),
        None => (part, None),
    }
}

/// A task, and the one whose component it lies in.
struct Step {
    name: Name,
    is_loop: bool,
    component: usize,
    around: Option<usize>,
}

/// The way to a task, from its own place among `steps` up to the outermost.
fn way_up(steps: &[Step], place: usize) -> impl Iterator<Item = &Step> {
    std::iter::successors(Some(&steps[place]), |step| step.around.map(|around| &steps[around]))
}

/// Paths that may have been meant: those of tasks that `path` is the end of, or else of tasks that are called nearly so;
/// the nearest first. Of a loop that `path` gives no iteration of, the first stands for all.
pub(crate) fn nearest(plan: &Plan, path: &str) -> Vec<String> {
    let asked: Vec<(&str, Option<usize>)> = path.split('/').map(parse_part).collect();
    let mut steps: Vec<Step> = Vec::new();
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut dags = VecDeque::from([(plan.root, None)]);
    while let Some((component, around)) = dags.pop_front() {
        let ComponentKind::Dag(dag) = &plan.components[component].kind else { continue };
        for task in &dag.tasks {
            if steps.len() == LOOKED_AT {
                break;
            }
            let place = steps.len();
            let (name, is_loop) = (Name::clone(&task.name), task.iterator.is_some());
            steps.push(Step { name, is_loop, component: task.component, around });
            found.extend(distance(&asked, &steps, place).map(|distance| (distance, place)));
            // Of a component within itself, the outermost stands for all.
            if !way_up(&steps, place).skip(1).any(|step| step.component == task.component) {
                dags.push_back((task.component, Some(place)));
            }
        }
    }
    // What lies less deep comes first among equals.
    found.sort_by_key(|(distance, _)| *distance);
    let least = found.first().map_or(0, |(distance, _)| *distance);
    let alike = found.into_iter().filter(|(distance, _)| (*distance == 0) == (least == 0));
    alike.take(NAMED).map(|(_, place)| written(&asked, &steps, place)).collect()
}

/// How far a task is from what was asked for: 0 where that is the end of its path, none where nobody would take one for
/// the other.
fn distance(asked: &[(&str, Option<usize>)], steps: &[Step], place: usize) -> Option<usize> {
    let mut way = way_up(steps, place);
    let ends = asked.iter().rev().all(|(name, _)| way.next().is_some_and(|step| *step.name == **name));
    if ends {
        return Some(0);
    }
    let (asked, found) = (asked.last()?.0, &*steps[place].name);
    if asked.len() > LONGEST || found.len() > LONGEST {
        return None;
    }
    let letters = asked.chars().count();
    let distance = strsim::osa_distance(asked, found);
    (distance < letters && distance <= (letters / 3).max(1)).then_some(distance + 1)
}

/// A path with the iterations that were asked for.
fn written(asked: &[(&str, Option<usize>)], steps: &[Step], place: usize) -> String {
    let mut way: Vec<&Step> = way_up(steps, place).collect();
    way.reverse();
    let last = way.len() - 1;
    let part = |(at, step): (usize, &&Step)| {
        let same = (asked.len() + at).checked_sub(way.len()).and_then(|at| asked.get(at));
        let given = same.filter(|(name, _)| **name == *step.name).and_then(|(_, iteration)| *iteration);
        match given.or((at < last).then_some(0)).filter(|_| step.is_loop) {
            Some(iteration) => format!("{}[{iteration}]", step.name),
            None => step.name.to_string(),
        }
    };
    way.iter().enumerate().map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::PipelineFile;

    #[test]
    fn ends_of_paths_come_before_names_that_are_nearly_right() {
        let task = |component: &str| json!({"componentRef": {"name": component}});
        let each = json!({
            "componentRef": {"name": "group"},
            "parameterIterator": {"items": {"raw": "[1, 2]"}, "itemInput": "item"},
        });
        let file = json!({"pipeline_spec": {
            "pipelineInfo": {"name": "p"},
            "deploymentSpec": {"executors": {"e": {"container": {"image": "a"}}}},
            "components": {
                "leaf": {"executorLabel": "e"},
                "group": {
                    "inputDefinitions": {"parameters": {"item": {"parameterType": "NUMBER_INTEGER"}}},
                    "dag": {"tasks": {"train": task("leaf"), "test": task("leaf"), "a": task("leaf")}},
                },
            },
            "root": {"dag": {"tasks": {"prepare": task("leaf"), "each": each}}},
        }});
        let file: PipelineFile = serde_json::from_value(file).unwrap();
        let plan = Plan::new(&file).unwrap();
        for (asked, expected) in [
            ("train", vec!["each[0]/train"]),
            ("trian", vec!["each[0]/train"]),
            ("each/train", vec!["each[0]/train"]),
            ("each[1]/trian", vec!["each[1]/train"]),
            ("eech[1]/train", vec!["each[0]/train"]),
            ("tast", vec!["each[0]/test"]),
            ("prepare[3]", vec!["prepare"]),
            ("eahc", vec!["each"]),
            ("a", vec!["each[0]/a"]),
            ("b", vec![]),
            ("", vec![]),
            ("predict", vec![]),
        ] {
            assert_eq!(nearest(&plan, asked), expected, "{asked}");
        }
    }
    #[test]
    fn a_component_within_itself_is_looked_at_once() {
        let task = |component: &str| json!({"componentRef": {"name": component}});
        let file = json!({"pipeline_spec": {
            "pipelineInfo": {"name": "p"},
            "deploymentSpec": {"executors": {"e": {"container": {"image": "a"}}}},
            "components": {
                "leaf": {"executorLabel": "e"},
                "again": {"dag": {"tasks": {"work": task("leaf"), "more": task("again"), "also": task("again")}}},
            },
            "root": {"dag": {"tasks": {"first": task("again")}}},
        }, "platform_spec": {"platforms": {"kf": {"components": {"again": {"maxDepth": 150}}}}}});
        let file: PipelineFile = serde_json::from_value(file).unwrap();
        let plan = Plan::new(&file).unwrap();
        assert_eq!(nearest(&plan, "work"), ["first/work"]);
        assert_eq!(nearest(&plan, &"w".repeat(1 << 20)), Vec::<String>::new());
    }
}
