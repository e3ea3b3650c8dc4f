//! Pipelines of the typed builder that do all that a workflow can.

use std::time::Duration;

use kf_core::backoff::Backoff;
use kf_pipeline::prelude::*;
use kf_pipeline::{Question, Scope, Value};

#[component(retries = 2, cpu = 0.5, memory = "1Gi", timeout = "90s")]
fn load(data: Output<Dataset>) -> TaskResult<i64> {
    data.write("1")?;
    Ok(1)
}

/// A type whose JSON is text, though it is no text to a pipeline.
#[derive(Clone, serde::Serialize, serde::Deserialize, Param)]
pub(crate) enum Mode {
    Exact,
    Within(f64),
}

#[derive(Outputs)]
pub(crate) struct Fitted {
    accuracy: f64,
    mode: Mode,
    name: String,
}

#[component]
fn fit(data: Input<Dataset>, rate: f64, label: String, model: Output<Model>) -> TaskResult<Fitted> {
    let _ = data;
    model.write(label.clone())?;
    let mode = if rate > 0.0 { Mode::Exact } else { Mode::Within(rate) };
    Ok(Fitted { accuracy: rate, mode, name: label })
}

#[component]
fn best(accuracies: Vec<f64>, names: Vec<String>) -> TaskResult<String> {
    let _ = accuracies;
    Ok(names.concat())
}

#[component]
fn publish(model: Input<Model>, note: Option<String>) {
    let _ = (model, note);
}

#[component]
fn number(of: i64) -> i64 {
    of
}

#[component]
fn list(upto: i64) -> Vec<i64> {
    (0..upto).collect()
}

#[component]
fn total(all: Vec<i64>) -> i64 {
    all.into_iter().sum()
}

#[component]
fn totals(all: Vec<Vec<i64>>) -> i64 {
    all.into_iter().flatten().sum()
}

#[derive(Clone, serde::Serialize, serde::Deserialize, Param)]
pub(crate) struct Setting {
    depth: u32,
    kind: String,
}

#[component]
fn try_out(setting: Setting) -> String {
    format!("{} {}", setting.kind, setting.depth)
}

#[component]
fn tell(status: FinalStatus, who: String) {
    let _ = (status, who);
}

/// All of them, by name.
pub(crate) fn all() -> Vec<Pipeline> {
    vec![artifacts(), branches(), loops(), ends(), people()]
}

/// Artifacts into and out of groups; retries, waits, mutexes; inputs that are not given.
pub(crate) fn artifacts() -> Pipeline {
    Pipeline::build("artifacts", |p| {
        let rate = p.param::<f64>("rate", 0.5);
        let label = p.required_param::<String>("label");
        let data = p.add(load());
        let fitted = p.nest("training", |p| {
            let waits = Backoff {
                initial: Duration::from_secs(2),
                max: Duration::from_secs(30),
                ..Backoff::default()
            };
            p.add(fit(data.data, rate, label).retries(3).backoff(waits).mutex("gpu"))
        });
        p.add(publish(fitted.model, Some("it's \"new\"\n".to_owned())).named("noted"));
        p.add(publish(fitted.model, None::<String>).named("bare").after(data));
        p.output("accuracy", fitted.accuracy);
        p.max_tasks(4);
    })
    .unwrap()
}

/// What one of several branches gives, as parameter and as artifact; one that gives nothing.
pub(crate) fn branches() -> Pipeline {
    Pipeline::build("branches", |p| {
        let size = p.param::<i64>("size", 7);
        let flag = p.param::<bool>("flag", true);
        let kind = p.param::<String>("kind", "it's");
        let data = p.add(load());
        let fitted = p
            .when(size.gt(9), |p| {
                let fitted = p.add(fit(data.data, 0.1, "large"));
                (fitted.model, fitted.name)
            })
            .or_when(flag.eq(true), |p| {
                let fitted = p.add(fit(data.data, 0.2, kind));
                (fitted.model, fitted.name)
            })
            .otherwise(|p| {
                let fitted = p.add(fit(data.data, 0.3, "small"));
                (fitted.model, fitted.name)
            });
        p.add(publish(fitted.0, fitted.1));
        p.when(kind.eq("it's"), |p| {
            let first = p.add(number(size).named("first"));
            p.when(first.output.lt(3), |p| {
                p.add(number(first.output).named("inner"));
            });
        });
    })
    .unwrap()
}

fn doubled<'p>(p: &Scope<'p>, of: Value<'p, i64>) -> Value<'p, i64> {
    p.add(number(of)).output
}

/// Loops over constants, arguments and what tasks give, in one another, of texts and of structs.
pub(crate) fn loops() -> Pipeline {
    Pipeline::build("loops", |p| {
        let upto = p.param::<i64>("upto", 3);
        let words = p.param::<Vec<String>>("words", vec!["a".to_owned()]);
        let data = p.add(load());
        let each = p.parallel_for(vec![0.5, 1.0], |p, rate| p.add(fit(data.data, rate, "a")));
        let fitted = each.collect();
        p.add(best(fitted.accuracy, fitted.name));
        let numbers = p.add(list(upto));
        let sums = p.parallel_for(numbers.output, |p, outer| {
            let rows = p.parallel_for(vec![1_i64, 2], |p, _| doubled(p, outer));
            p.add(total(rows.collect()).named("row"))
        });
        p.add(total(sums.collect().output).named("all"));
        let table = p.parallel_for(vec![1_i64, 2], |p, outer| {
            p.parallel_for(vec![3_i64, 4], |p, _| doubled(p, outer)).collect()
        });
        p.add(totals(table.collect()));
        p.parallel_for_limited(words, 1, |p, word| {
            p.add(fit(data.data, 0.5, word).named("one-word"));
        });
        let settings = [1, 2].map(|depth| Setting { depth, kind: "x".to_owned() }).to_vec();
        p.parallel_for(settings, |p, setting| {
            p.add(try_out(setting));
        });
    })
    .unwrap()
}

/// Clean-ups: of a group, of the whole, and a task that runs although another failed.
pub(crate) fn ends() -> Pipeline {
    Pipeline::build("ends", |p| {
        let who = p.param::<String>("who", "all");
        p.exit_group(
            |status| tell(status, "group").named("tell-group"),
            |p| {
                p.add(number(1).named("in-group"));
            },
        );
        let first = p.add(number(2).named("first"));
        p.add(number(3).named("second").after(first).even_if_failed());
        p.on_exit(tell(p.run_status(), who).named("tell-all"));
    })
    .unwrap()
}

/// Questions to people.
pub(crate) fn people() -> Pipeline {
    Pipeline::build("people", |p| {
        let found = p.add(number(2));
        let yes = p.approval(Question::new("Go on?").show("found", found.output));
        let limit =
            p.ask_for::<f64>(Question::new("Which limit?").named("limit").timeout(Duration::from_secs(60)));
        let data = p.add(load().after(yes));
        p.add(fit(data.data, limit.value, "a"));
    })
    .unwrap()
}
