//! The pipeline that is killed, with everything in it that a pipeline can have.

use std::time::Duration;

use kf_core::backoff::Backoff;
use kf_pipeline::prelude::*;
use kf_pipeline::{Artifact, Question, Result, Scope, TaskRef, Value};

use super::components::{
    add_up, alone, answers, check, grid, join, list, long, make, pair, positive, read, read_all, say, seed,
    stubborn, survivors, tell, whole, word,
};

/// What is imported.
pub(crate) const SEED: &str = "a seed";
/// What [`whole`] writes, by file.
pub(crate) const WHOLE: [(&str, &str); 6] = [
    (
        "grid",
        "[[111, 112], [121, 122], [131, 132]] 1-1 of a seed,1-2 of a seed,2-1 of a seed,2-2 of a seed,\
         3-1 of a seed,3-2 of a seed",
    ),
    ("branches", "small 1,medium 5,large 9"),
    ("words", "the word a,the word b"),
    ("survivors", "[1, 3] without [\"-2 `positive`: -2 is negative\"]"),
    ("tried", "attempt 3; attempt 1"),
    ("answers", "[10, 20] [1, 2, 3] [28, 28]"),
];
/// How many tasks ask a person.
pub(crate) const QUESTIONS: usize = 3;

type At<'p> = Value<'p, String>;

pub(crate) fn richest(name: &str) -> Result<Pipeline> {
    Pipeline::build(name, |p| {
        let at = p.required_param::<String>("witness");
        let file = p.required_param::<String>("file");
        let seed = p.add(seed(at, p.import::<Dataset>(file)));
        let grid = table(p, at, seed.output, seed.out);
        let survivors = some_fail(p, at);
        let items = p.add(list(
            at,
            p.add(long(at).after(seed)).output,
            p.add(long(at).named("long-apart").executor("subprocess").after(seed)).output,
        ));
        let held = one_at_a_time(p, at, seed.output, items.into());
        let words = p.nest("inner", |p| words(p, at, items.into()));
        let tried = attempts(p, at, items.into());
        let answers = people(p, at, held, items.output);
        p.add(whole(at, grid, branches(p, at), words, survivors, tried, answers));
        p.on_exit(tell(at, None, p.run_status()).named("bye"));
    })
}

/// Loops in one another, what they give through both, and a loop over artifacts.
fn table<'p>(
    p: &Scope<'p>,
    at: At<'p>,
    rows: Value<'p, Vec<i64>>,
    seed: Artifact<'p, Dataset>,
) -> Value<'p, String> {
    let rows = p.parallel_for(rows, |p, row| {
        let cells = p.parallel_for_limited(vec![1_i64, 2], 1, |p, column| {
            let made = p.add(make(at, row, column, seed));
            (p.add(check(at, made.out, made.output)).output, made.out)
        });
        cells.collect()
    });
    let (numbers, models) = rows.collect();
    let texts = p.parallel_for(models, |p, model| p.add(read(at, model)).output);
    p.add(grid(at, numbers, texts.collect())).output
}

/// One of three branches, in a loop.
fn branches<'p>(p: &Scope<'p>, at: At<'p>) -> Value<'p, String> {
    let each = p.parallel_for(vec![1_i64, 5, 9], |p, number| {
        p.when(number.gt(7), |p| p.add(say(at, "large", number)).output)
            .or_when(number.gt(3), |p| p.add(say(at, "medium", number)).output)
            .otherwise(|p| p.add(say(at, "small", number)).output)
    });
    p.add(join(at, each.collect())).output
}

/// A group that is cleaned up after, with a loop in it of tasks that come from the cache.
fn words<'p>(p: &Scope<'p>, at: At<'p>, after: TaskRef<'p>) -> Value<'p, String> {
    p.exit_group(
        |status| tell(at, None, status).named("clean-up"),
        |p| {
            let each = p.parallel_for(["a", "b"].map(str::to_owned).to_vec(), |p, each| {
                p.add(word(each).after(after)).out
            });
            p.add(read_all(at, each.collect())).output
        },
    )
}

/// A loop one of whose iterations fails, and a task that runs all the same.
fn some_fail<'p>(p: &Scope<'p>, at: At<'p>) -> Value<'p, String> {
    let each = p
        .parallel_for(vec![1_i64, -2, 3], |p, number| {
            let found = p.add(positive(at, number));
            p.add(tell(at, found.output, p.status_of(found)).even_if_failed());
            found.output
        })
        .min_success(2);
    let failed = each.failures();
    p.add(survivors(at, each.collect(), failed)).output
}

/// Tasks that hold the same mutex, in the engine's process and in their own.
fn one_at_a_time<'p>(
    p: &Scope<'p>,
    at: At<'p>,
    numbers: Value<'p, Vec<i64>>,
    after: TaskRef<'p>,
) -> Value<'p, Vec<i64>> {
    let each = p.parallel_for(numbers, |p, number| {
        p.add(alone(at, number).mutex("door").executor("subprocess").named("alone-apart").after(after));
        p.add(alone(at, number).mutex("door").after(after)).output
    });
    each.collect()
}

/// Retries with waits between them, and a task that fails for good and has a fallback.
fn attempts<'p>(p: &Scope<'p>, at: At<'p>, after: TaskRef<'p>) -> Value<'p, String> {
    let waits = || Backoff { initial: Duration::from_millis(60), ..Backoff::default() };
    let third = p.add(stubborn(at, 3).retries(2).backoff(waits()).after(after));
    let hopeless = stubborn(at, 9).retries(1).backoff(waits()).executor("subprocess");
    let known = stubborn(at, 1).named("known");
    p.add(pair(at, third.output, p.add_or(hopeless.named("hopeless-apart").after(after), known).output))
        .output
}

/// A yes, and a value for each of two items.
fn people<'p>(
    p: &Scope<'p>,
    at: At<'p>,
    held: Value<'p, Vec<i64>>,
    items: Value<'p, Vec<i64>>,
) -> Value<'p, String> {
    let sum = p.add(add_up(at, held));
    let yes = p.approval(Question::new("Go on?").show("sum", sum.output));
    let numbers = p.add(list(at, 10, 20).named("numbers").after(sum)).output;
    let each = p.parallel_for(numbers, |p, number| {
        let value = p.ask_for::<i64>(Question::new("How many?").named("value").show("of", number));
        (value.value, value.by)
    });
    let (values, by) = each.collect();
    p.add(answers(at, values, by, held, items).after(yes)).output
}
