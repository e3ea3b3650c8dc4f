//! Groups that call themselves.

use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::{Export, Pipeline, RunOutcome, Scope, Value};
use libtest_mimic::Trial;

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_group_calls_itself_until_it_is_done", until_done),
        test("recursions_carry_artifacts_and_lie_in_loops_and_in_one_another", nested),
        test("a_recursion_may_go_far", far),
        test("a_recursion_without_an_end_fails_at_its_depth", too_deep),
        test("recursions_that_make_no_sense_are_refused", refused),
    ]
}

#[component]
fn times(a: i64, b: i64) -> i64 {
    a * b
}

#[component]
fn minus(a: i64, b: i64) -> i64 {
    a - b
}

#[component]
fn same(a: i64) -> i64 {
    a
}

#[component]
fn grow(text: Input<Dataset>, by: String, out: Output<Dataset>) -> TaskResult<u64> {
    let text = std::fs::read_to_string(text.path()?)? + &by;
    out.write(&text)?;
    Ok(text.len() as u64)
}

#[component]
fn seed(out: Output<Dataset>) -> TaskResult {
    out.write("")
}

#[component]
fn read(texts: Vec<Input<Dataset>>) -> TaskResult<String> {
    let texts: Result<Vec<_>, TaskError> =
        texts.iter().map(|text| Ok(std::fs::read_to_string(text.path()?)?)).collect();
    Ok(texts?.join(" "))
}

/// n!, with a factor that is captured from around the recursion.
fn factorial<'p>(p: &Scope<'p>, n: Value<'p, i64>, one: Value<'p, i64>, max_depth: u32) -> Value<'p, i64> {
    let start = p.add(same(one)).output;
    p.recurse("factorial", max_depth, (n, start), |p, (n, product), again| {
        let next = p.add(times(n, product)).output;
        let rest = p.add(minus(n, one)).output;
        p.when(rest.gt(0), |p| again.call(p, (rest, next))).otherwise(|p| p.add(same(next)).output)
    })
}

async fn run(
    pipeline: &Pipeline,
    n: i64,
) -> Result<(RunOutcome, Engine, tempfile::TempDir), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(folder.path()).await?;
    let outcome = engine.start(pipeline, args! { "n" => n }).await?.wait().await?;
    Ok((outcome, engine, folder))
}

fn product(max_depth: u32) -> Result<Pipeline, kf_pipeline::Error> {
    Pipeline::build("product", |p| {
        let (n, one) = (p.param::<i64>("n", 5), p.param::<i64>("one", 1));
        let product = factorial(p, n, one, max_depth);
        p.add(same(product).named("result"));
    })
}

async fn until_done() -> Done {
    for (n, tasks) in [(1, 5), (5, 5 + 4 * 2)] {
        let (outcome, engine, _folder) = run(&product(5)?, n).await?;
        assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
        let report = engine.report(&outcome.run).await?;
        let result = report.task("result").ok_or("no result")?;
        assert_eq!(result.output::<i64>("Output")?, (1..=n).product::<i64>());
        assert_eq!(outcome.tasks.succeeded, tasks, "{outcome:?}");
    }
    // A run that is read back from the file is the same.
    let pipeline = product(5)?;
    let read = Pipeline::from_yaml(pipeline.file()?.to_yaml()?, pipeline.components().clone())?;
    let (outcome, engine, _folder) = run(&read, 4).await?;
    let report = engine.report(&outcome.run).await?;
    assert_eq!(report.task("result").ok_or("no result")?.output::<i64>("Output")?, 24);
    let refused = pipeline.to_ir(&Export::new("example.com/image", "/program")).unwrap_err().to_string();
    assert!(refused.contains("factorial") && refused.contains("maxDepth"), "{refused}");
    Ok(())
}

async fn nested() -> Done {
    let pipeline = Pipeline::build("texts", |p| {
        let letters = p.param::<Vec<String>>("letters", vec!["a".to_owned(), "b".to_owned()]);
        let n = p.param::<i64>("n", 3);
        let one = p.param::<i64>("one", 1);
        let start = p.add(seed()).out;
        let grown = p.parallel_for(letters, |p, letter| {
            p.recurse("outer", 9, (n, start), |p, (left, text), outer| {
                // Grows the text by as many letters as are left, and then by one less.
                let more = p.recurse("inner", 9, (left, text), |p, (still, text), inner| {
                    let longer = p.add(grow(text, letter)).out;
                    let still = p.add(minus(still, one)).output;
                    p.when(still.gt(0), |p| inner.call(p, (still, longer)))
                        .otherwise(|p| p.add(grow(longer, "-")).out)
                });
                let left = p.add(minus(left, one)).output;
                p.when(left.gt(0), |p| outer.call(p, (left, more))).otherwise(|p| p.add(grow(more, ".")).out)
            })
        });
        p.add(read(grown.collect()).named("result"));
    })?;
    let (outcome, engine, _folder) = run(&pipeline, 3).await?;
    assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    let report = engine.report(&outcome.run).await?;
    let result = report.task("result").ok_or("no result")?.output::<String>("Output")?;
    assert_eq!(result, "aaa-aa-a-. bbb-bb-b-.");
    Ok(())
}

async fn far() -> Done {
    let pipeline = Pipeline::build("far", |p| {
        let n = p.param::<i64>("n", 1);
        let one = p.param::<i64>("one", 1);
        let start = p.add(seed()).out;
        let text = p.recurse("further", 300, (n, start), |p, (left, text), again| {
            let longer = p.add(grow(text, "a")).out;
            let left = p.add(minus(left, one)).output;
            p.when(left.gt(0), |p| again.call(p, (left, longer))).otherwise(|p| p.add(grow(longer, ".")).out)
        });
        let each = p.parallel_for(vec![0_i64], |p, _| p.add(grow(text, "")).out);
        p.add(read(each.collect()).named("result"));
    })?;
    let (outcome, engine, _folder) = run(&pipeline, 150).await?;
    assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    let report = engine.report(&outcome.run).await?;
    let result = report.task("result").ok_or("no result")?.output::<String>("Output")?;
    assert_eq!(result, format!("{}.", "a".repeat(150)));
    Ok(())
}

async fn too_deep() -> Done {
    let (outcome, ..) = run(&product(4)?, 5).await?;
    assert_eq!(outcome.state, RunState::Failed);
    let error = outcome.error.ok_or("no error")?;
    assert!(error.contains("more than 4 deep"), "{error}");
    assert_eq!(run(&product(4)?, 4).await?.0.state, RunState::Succeeded);
    Ok(())
}

async fn refused() -> Done {
    let build = |depth: u32, body: fn(&Scope<'_>, u32)| {
        Pipeline::build("bad", |p| body(p, depth)).unwrap_err().to_string()
    };
    let forever = build(3, |p, depth| {
        let n = p.param::<i64>("n", 3);
        p.recurse("forever", depth, n, |p, n, again| {
            let next = p.add(same(n)).output;
            again.call(p, next);
        });
    });
    assert!(forever.contains("`forever` calls itself each time") && forever.contains("p.when"), "{forever}");
    let never = build(0, |p, depth| {
        let n = p.param::<i64>("n", 3);
        p.recurse("never", depth, n, |p, n, _| p.add(same(n)).output);
    });
    assert!(never.contains("depth of 0 would never run"), "{never}");
    let through = build(3, |p, depth| {
        let n = p.param::<i64>("n", 3);
        p.recurse("through", depth, n, |p, n, again| {
            p.when(n.gt(0), |p| again.call(p, p.add(same(n)).output));
            n
        });
    });
    assert!(through.contains("what a recursion is called with"), "{through}");
    let status = build(3, |p, depth| {
        let n = p.param::<i64>("n", 3);
        let first = p.add(same(n));
        let status = p.status_of(first.task);
        p.recurse("status", depth, status, |p, _, _| {
            p.add(seed());
        });
    });
    assert!(status.contains("can't carry the final status of `same`"), "{status}");
    let outside = build(3, |p, depth| {
        let n = p.param::<i64>("n", 3);
        let mut kept = None;
        p.recurse("outside", depth, n, |p, n, _| {
            let made = p.add(same(n)).output;
            kept = Some(made);
            made
        });
        p.add(same(kept.unwrap()));
    });
    assert!(outside.contains("exists only inside of the group"), "{outside}");
    Ok(())
}
