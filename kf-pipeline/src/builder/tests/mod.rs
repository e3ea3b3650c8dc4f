//! What `build` makes, and what it refuses.

use std::time::Duration;

use kf_core::backoff::Backoff;
use serde_json::{Value as Json, json};

use crate::builder::{Artifact, Value};
use crate::plan::Plan;
use crate::prelude::*;
use crate::spec::{Items, ParameterType, PipelineFile};
use crate::{Error, Problem};

#[component]
fn load(seed: i64, data: Output<Dataset>) -> i64 {
    let _ = data;
    seed
}

#[component]
fn fit(train: Input<Dataset>, rate: f64, model: Output<Model>) -> f64 {
    let _ = (train, model);
    rate
}

#[component]
fn pick(models: Vec<Input<Model>>, scores: Vec<f64>, best: Output<Model>) -> f64 {
    let _ = (models, best);
    scores.len() as f64
}

#[component]
fn tell(text: Option<String>) {
    let _ = text;
}

#[component]
fn add(one: i64, other: i64) -> i64 {
    one + other
}

#[component]
fn total(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

mod branches;
mod groups;
mod outer;
mod outputs;

mod elsewhere {
    use crate::prelude::*;

    #[component]
    pub(super) fn load(seed: i64) -> i64 {
        seed
    }
}

/// A component's DAG as its JSON.
fn dag(pipeline: &Pipeline, component: &str) -> Json {
    let spec = serde_json::to_value(&file(pipeline).pipeline_spec).unwrap();
    match component {
        "root" => spec["root"]["dag"].clone(),
        name => spec["components"][name]["dag"].clone(),
    }
}

fn problems(built: crate::Result<Pipeline>) -> Vec<Problem> {
    match built {
        Err(Error::Build { problems, .. }) => problems,
        other => panic!("expected problems, found {other:?}"),
    }
}

/// The one problem, which is at `line` of this file.
#[track_caller]
fn problem_at(line: u32, built: crate::Result<Pipeline>) -> String {
    let found = problems(built);
    assert_eq!(found.len(), 1, "{found:?}");
    let file = std::panic::Location::caller().file();
    assert_eq!(found[0].at, format!("{file}:{line}"), "{}", found[0].message);
    found[0].message.clone()
}

/// The file as another program would read it, which has passed the plan's checks too.
fn file(pipeline: &Pipeline) -> PipelineFile {
    let read = pipeline.file().unwrap();
    let text = serde_json::to_string(&read).unwrap();
    assert_eq!(text, **pipeline.text());
    assert_eq!(read, serde_json::from_str(&text).unwrap());
    Plan::new(&read).unwrap();
    read
}

#[test]
fn a_handle_escaped_from_a_loop_is_refused_where_it_is_used() {
    let opened = line!() + 4;
    let used = line!() + 7;
    let built = Pipeline::build("escaped", |p| {
        let mut escaped = None;
        let _ = p.parallel_for(vec![1_i64, 2], |p, item| {
            escaped = Some((item, p.add(load(item)).output));
        });
        if let Some((_, output)) = escaped {
            p.add(load(output));
        }
    });
    let message = problem_at(used, built);
    assert!(message.contains("output `Output` of task `load`"), "{message}");
    assert!(message.contains(&format!("the loop at {}:{opened}", file!())), "{message}");
    assert!(message.contains("`.collect()`"), "{message}");

    let used = line!() + 5;
    let built = Pipeline::build("escaped", |p| {
        let mut escaped: Option<Value<'_, i64>> = None;
        let _ = p.parallel_for(vec![1_i64, 2], |_, item| escaped = Some(item));
        if let Some(item) = escaped {
            p.add(load(item));
        }
    });
    assert!(problem_at(used, built).contains("the item of a loop"));
}

#[test]
fn a_handle_escaped_from_a_branch_is_refused_where_it_is_used() {
    let opened = line!() + 4;
    let used = line!() + 5;
    let built = Pipeline::build("escaped", |p| {
        let mut kept = None;
        p.when(p.param("wanted", true), |p| kept = Some(p.add(load(1))));
        if let Some(loaded) = kept {
            p.add(fit(loaded.data, 0.1));
        }
    });
    let message = problem_at(used, built);
    assert!(message.contains(&format!("where the condition at {}:{opened} holds", file!())), "{message}");
    assert!(message.contains("`.otherwise(…)`"), "{message}");

    // Into a sibling, a condition and a loop's items too.
    let built = Pipeline::build("escaped", |p| {
        let wanted = p.param("wanted", true);
        let (mut numbers, mut lists) = (None, None);
        p.when(wanted, |p| {
            numbers = Some(p.add(load(1)).output);
            let each = p.parallel_for(vec![1.0], |p, rate| p.add(fit(p.import("file:///x"), rate)));
            lists = Some(each.collect());
        })
        .or_when(!wanted, |p| {
            p.add(load(numbers.unwrap()));
        });
        p.when(numbers.unwrap().gt(3), |_| ());
        let _ = p.parallel_for(lists.unwrap().output, |_, _| ());
        let _ = p.parallel_for(lists.unwrap().model, |_, _| ());
    });
    assert_eq!(problems(built).len(), 4);
}

#[test]
fn an_exit_handler_takes_parameters_alone() {
    let used = line!() + 3;
    let built = Pipeline::build("exit", |p| {
        let loaded = p.add(load(1));
        p.on_exit(load(loaded.output));
    });
    let message = problem_at(used, built);
    assert!(message.contains("an exit handler, which also runs when that task has failed"), "{message}");

    let used = line!() + 2;
    let built = Pipeline::build("exit", |p| {
        p.when(p.param("wanted", true), |p| p.on_exit(tell(None)));
    });
    assert!(problem_at(used, built).contains("outside of loops, branches and groups"));

    let pipeline = Pipeline::build("exit", |p| {
        let seed = p.param("seed", 3);
        p.add(load(seed));
        p.on_exit(load(seed));
    });
    let file = file(&pipeline.unwrap());
    let tasks = &file.pipeline_spec.root.dag.unwrap().tasks;
    assert_eq!(tasks.keys().collect::<Vec<_>>(), ["exit-handler-1", "load-2"]);
    assert_eq!(tasks["load-2"].dependent_tasks, ["exit-handler-1"]);
}

#[test]
fn bad_names_and_literals_are_refused() {
    let line = line!() + 3;
    let built = Pipeline::build("names", |p| {
        p.param::<i64>("n", 1);
        p.param::<f64>("n", 1.0);
    });
    assert!(problem_at(line, built).contains("has a parameter `n` already"));

    for name in ["", "é", "a b", "1a", "a-b", "pipelinechannel--a"] {
        let line = line!() + 2;
        let built = Pipeline::build("names", |p| {
            p.required_param::<i64>(name);
        });
        assert!(problem_at(line, built).contains("parameter name"), "{name}");
    }
    let long = "é".repeat(80) + "a";
    for name in ["", "é", "a b", "a/b", "a[0]", long.as_str()] {
        let line = line!() + 2;
        let built = Pipeline::build("names", |p| {
            p.add(load(1).named(name));
        });
        assert!(problem_at(line, built).contains("task name"), "{name}");
    }
    for name in ["", "A", "a_b", "-a", "a-", "é"] {
        let line = line!() + 1;
        let built = Pipeline::build(name, |p| {
            p.add(load(1));
        });
        assert!(problem_at(line, built).contains("pipeline name"), "{name}");
    }
    let (first, second) = (line!() + 2, line!() + 3);
    let built = Pipeline::build("numbers", |p| {
        p.param::<f64>("rate", f64::NAN);
        p.add(fit(p.import("file:///x"), f64::INFINITY));
        p.when(p.param("score", 0.5).ge(f64::NAN), |_| ());
        let _ = p.parallel_for(vec![0.1, f64::NEG_INFINITY], |_, _| ());
        let _ = p.parallel_for_limited(vec![0.1], 0, |_, _| ());
        p.add(load(1).memory("plenty"));
    });
    let found = problems(built);
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(found[0].at, format!("{}:{first}", file!()));
    assert!(
        found[1].at.ends_with(&format!(":{second}")) && found[1].message.contains("input `rate`"),
        "{found:?}"
    );
}

#[test]
fn two_components_of_one_name_are_refused() {
    let line = line!() + 3;
    let built = Pipeline::build("namesakes", |p| {
        p.add(load(1));
        p.add(elsewhere::load(1));
    });
    let message = problem_at(line, built);
    assert!(
        message.contains("two components are called `load`") && message.contains("rename one"),
        "{message}"
    );
}

#[test]
fn what_closures_capture_goes_through_every_scope_around_them() {
    let pipeline = Pipeline::build("captures", |p| {
        let text = p.param::<Option<String>>("text", None);
        let loaded = p.add(load(1));
        p.when(loaded.output.gt(0), |p| {
            let _ = p.parallel_for(vec![0.1, 0.2], |p, rate| {
                p.when(rate.lt(0.5), |p| {
                    p.add(fit(loaded.data, rate));
                    p.add(tell(text));
                });
            });
        });
    });
    let spec = file(&pipeline.unwrap()).pipeline_spec;
    for name in ["comp-condition-1", "comp-for-loop-1", "comp-condition-2"] {
        let inputs = &spec.components[name].input_definitions;
        assert!(inputs.artifacts.contains_key("pipelinechannel--load-data"), "{name}");
        assert!(inputs.parameters["pipelinechannel--text"].is_optional, "{name}");
    }
    let loops = &spec.components["comp-condition-1"].dag.as_ref().unwrap().tasks["for-loop-1"];
    assert_eq!(loops.parameter_iterator.as_ref().unwrap().items, Items::Raw("[0.1,0.2]".to_owned()));
}

#[test]
fn nested_loops_collect_lists_of_lists() {
    let pipeline = Pipeline::build("nested", |p| {
        let data: Artifact<'_, Dataset> = p.import("file:///data");
        let outer = p.parallel_for(vec![0.1, 0.2], |p, _| {
            let inner = p.parallel_for(vec![0.3, 0.4], |p, rate| p.add(fit(data, rate))).collect();
            let best = p.add(pick(inner.model, inner.output));
            (best, inner.model, inner.output)
        });
        let (best, all, _) = outer.collect();
        let one = p.add(pick(best.best, best.output));
        p.when(one.output.ge(1.0), |p| p.add(pick(all, vec![0.5])));
    });
    let spec = file(&pipeline.unwrap()).pipeline_spec;
    let outputs = &spec.components["comp-for-loop-1"].output_definitions;
    assert_eq!(
        outputs.parameters["pipelinechannel--pick-Output"].parameter_type,
        ParameterType::NumberDouble
    );
    assert!(outputs.artifacts["pipelinechannel--for-loop-2--fit-model"].is_artifact_list);
}

#[test]
fn what_is_not_made_in_a_loop_is_not_collected() {
    let line = line!() + 4;
    let built = Pipeline::build("outside", |p| {
        let loaded = p.add(load(1));
        let each = p.parallel_for(vec![1_i64], |_, item| (loaded.data, item));
        let _ = each.collect();
    });
    let found = problems(built);
    assert!(found.iter().all(|problem| problem.at.ends_with(&format!(":{line}"))), "{found:?}");
    assert!(found[0].message.contains("comes from outside of the loop"), "{found:?}");
    assert!(found[1].message.contains("returned the item itself"), "{found:?}");
}

#[test]
fn generated_names_meet_no_others() {
    #[component]
    fn condition_1() {}
    #[component]
    fn importer() {}

    let pipeline = Pipeline::build("collide", |p| {
        p.add(tell(None).named("for-loop-1"));
        p.add(tell(None).named("exit-handler-1"));
        p.add(tell(None).named("tell-2"));
        p.add(importer());
        let data: Artifact<'_, Dataset> = p.import("file:///data");
        let each = p.parallel_for(vec![0.1], |p, rate| {
            p.when(rate.gt(0.0), |p| p.add(condition_1()));
            p.add(fit(data, rate))
        });
        p.add(fit(data, 0.2).named("for_loop_2__fit"));
        p.add(pick(each.collect().model, vec![0.1]));
        for _ in 0..3 {
            p.add(tell(None));
        }
        p.on_exit(tell(None));
    });
    let spec = file(&pipeline.unwrap()).pipeline_spec;
    let of =
        |name: &str| spec.components[name].dag.as_ref().unwrap().tasks.keys().cloned().collect::<Vec<_>>();
    assert_eq!(spec.root.dag.as_ref().unwrap().tasks.len(), 2);
    let body = &spec.root.dag.as_ref().unwrap().tasks["exit-handler-1"].component_ref.name;
    assert_eq!(
        of(body),
        [
            "exit-handler-1-2",
            "for-loop-1",
            "for-loop-2",
            "for-loop-2-fit",
            "importer",
            "importer-2",
            "pick",
            "tell",
            "tell-2",
            "tell-3",
            "tell-4",
        ]
    );
    let executors = &spec.deployment_spec.executors;
    assert!(
        spec.components
            .values()
            .all(|component| component.dag.is_some() != component.executor_label.is_some())
    );
    assert!(executors.len() >= 6, "{executors:?}");
}

#[test]
fn a_component_with_other_options_is_another_executor() {
    let pipeline = Pipeline::build("options", |p| {
        p.add(load(1));
        p.add(load(2));
        p.add(load(3).cpu(2.0));
        p.add(load(4).timeout(Duration::from_secs(3)).retries(2));
        p.add(load(5).executor("subprocess").cache(false));
    });
    let spec = file(&pipeline.unwrap()).pipeline_spec;
    let tasks = &spec.root.dag.as_ref().unwrap().tasks;
    let component = |task: &str| tasks[task].component_ref.name.as_str();
    assert_eq!(component("load"), component("load-2"));
    let distinct: std::collections::BTreeSet<_> = tasks.keys().map(|task| component(task)).collect();
    assert_eq!(distinct.len(), 4);
    assert_eq!(tasks["load-4"].retry_policy.as_ref().unwrap().max_retry_count, 2);
    assert!(!tasks["load-5"].caching_options.as_ref().unwrap().enable_cache);
}

#[test]
fn a_backoff_is_carried_out_as_it_was_given() {
    let backoff = Backoff {
        initial: Duration::from_millis(1500),
        factor: 3.0,
        max: Duration::from_secs(60),
        jitter: 0.25,
    };
    let pipeline = Pipeline::build("backoff", |p| {
        p.add(load(1).retries(2).backoff(backoff));
        p.add(load(1).retries(2).named("plain"));
    });
    let pipeline = pipeline.unwrap();
    let plan = pipeline.plan();
    let crate::plan::ComponentKind::Dag(root) = &plan.components[plan.root].kind else { panic!("a DAG") };
    let found: Vec<_> = root.tasks.iter().map(|task| (task.name.as_ref(), task.retry().backoff)).collect();
    assert_eq!(found, [("load", backoff), ("plain", Backoff::default())]);
}

#[test]
fn conditions_say_in_cel_what_they_say_in_rust() {
    let odd = "a 'quoted' \"text\" \\ with\n\u{1} é 😀";
    let pipeline = Pipeline::build("conditions", |p| {
        let text = p.param("text", odd.to_owned());
        let count = p.param("count", 3_i64);
        let score = p.param("score", 1.0);
        let on = p.param("on", true);
        p.when(text.eq(odd) & count.ge(3) & score.eq(1.0) & !(count.lt(i64::MIN + 1)), |p| p.add(tell(None)));
        p.when(on, |p| p.add(tell(None)));
        p.when(count.gt(3) | score.ne(1.0) | !text.eq(odd) | on.eq(false), |p| p.add(tell(None)));
    });
    let pipeline = pipeline.unwrap();
    let plan = pipeline.plan();
    let crate::plan::ComponentKind::Dag(root) = &plan.components[plan.root].kind else { panic!("a DAG") };
    let values = [
        ("pipelinechannel--text", json!(odd)),
        ("pipelinechannel--count", json!(3.0)),
        ("pipelinechannel--score", json!(1)),
        ("pipelinechannel--on", json!(true)),
    ];
    let holds: Vec<_> = root
        .tasks
        .iter()
        .map(|task| {
            task.condition
                .as_ref()
                .unwrap()
                .holds(values.iter().map(|(name, value): &(&str, Json)| (*name, value)))
        })
        .collect();
    assert_eq!(holds, [Ok(true), Ok(true), Ok(false)]);
}

/// How long this thread has run, whatever else the machine does.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

#[test]
fn ten_thousand_tasks_are_built_in_linear_time() {
    let build = |tasks: usize| {
        let began = cpu_time();
        let pipeline = Pipeline::build("large", |p| {
            let mut sum = p.param::<i64>("start", 0);
            for index in 0..tasks {
                sum = match index % 2 {
                    0 => p.add(add(sum, 1)).output,
                    _ => p.add(add(sum, sum).named(format!("task-{index}"))).output,
                };
            }
        });
        let tasks_built =
            pipeline.unwrap().file().unwrap().pipeline_spec.root.dag.as_ref().unwrap().tasks.len();
        assert_eq!(tasks_built, tasks);
        cpu_time() - began
    };
    build(100);
    let (small, large) = (build(1_000), build(10_000));
    // Ten times as many: quadratic would be a hundred times as long.
    assert!(large < 40 * small.max(Duration::from_millis(20)), "1,000 tasks: {small:?}, 10,000: {large:?}");
}
