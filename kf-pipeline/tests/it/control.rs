//! Branches that give something, loops over artifacts, groups, and what runs though something failed.

use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::report::Report;
use kf_pipeline::{Args, Pipeline, RunOutcome, TaskState};
use libtest_mimic::Trial;

use crate::components::{double, join, make};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("the_branch_that_is_taken_gives", the_branch_that_is_taken),
        test("what_branches_in_a_loop_gave_is_collected", collected_branches),
        test("a_condition_that_fails_takes_no_branch", failing_condition),
        test("loops_over_artifacts_nest", loops_over_artifacts),
    ]
}

#[component]
async fn redouble(input: Input<Model>, out: Output<Model>) -> TaskResult<i64> {
    let number: i64 = std::fs::read_to_string(input.path()?)?.parse()?;
    out.write((2 * number).to_string())?;
    Ok(2 * number)
}

/// A run of the pipeline in a home of its own, and its report.
async fn ran(pipeline: &Pipeline, args: Args) -> Result<(RunOutcome, Report), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(pipeline, args).await?;
    let outcome = run.wait().await?;
    Ok((outcome, engine.report(run.id()).await?))
}

fn state(report: &Report, task: &str) -> Option<TaskState> {
    report.task(task).map(|task| task.state)
}

async fn the_branch_that_is_taken() -> Done {
    let pipeline = Pipeline::build("branches", |p| {
        let number = p.required_param::<i64>("number");
        let (out, output) = p
            .when(number.gt(10), |p| {
                let made = p.add(make(1).named("large"));
                let twice = p.add(double(made.out).named("twice"));
                (twice.out, twice.output)
            })
            .or_when(number.gt(5), |p| {
                let made = p.add(make(2).named("medium"));
                let twice = p.add(double(made.out).named("twice-medium"));
                (twice.out, twice.output)
            })
            .otherwise(|p| {
                let made = p.add(make(3).named("small"));
                let twice = p.add(double(made.out).named("twice-small"));
                (twice.out, twice.output)
            });
        let again = p.add(redouble(out).named("again"));
        p.when(output.ge(4), |p| p.add(redouble(again.out).named("last")));
    })?;
    for (number, again, last) in [(11, 4, false), (6, 8, true), (5, 12, true)] {
        let (outcome, report) = ran(&pipeline, args! {"number" => number}).await?;
        assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
        assert_eq!(report.task("again").unwrap().output::<i64>("Output")?, again);
        let expected = if last { TaskState::Succeeded } else { TaskState::Skipped };
        assert_eq!(state(&report, "condition-4"), Some(expected), "{number}");
        let taken = ["condition-1", "condition-2", "condition-3"]
            .map(|branch| state(&report, &format!("condition-branches-1/{branch}")));
        let count = |state| taken.iter().filter(|found| **found == Some(state)).count();
        assert_eq!((count(TaskState::Succeeded), count(TaskState::Skipped)), (1, 2), "{taken:?}");
    }
    Ok(())
}

async fn collected_branches() -> Done {
    let pipeline = Pipeline::build("collected", |p| {
        let numbers = p.param::<Vec<i64>>("numbers", vec![1, 2, 3, 4]);
        let each = p.parallel_for(numbers, |p, number| {
            let all = p
                .when(number.gt(2), |p| p.add(double(p.add(make(number)).out)))
                .otherwise(|p| p.add(double(p.add(make(100)).out)));
            let some = p.when(number.gt(2), |p| p.add(redouble(all.out)));
            (all, some)
        });
        let (all, some) = each.collect();
        p.add(join(all.out, all.output).named("all"));
        p.add(join(some.out, some.output).named("some"));
    })?;
    let (outcome, report) = ran(&pipeline, args! {}).await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    let output = |task: &str| report.task(task).unwrap().output::<String>("Output");
    assert_eq!(output("all")?, "200,200,6,8 [200, 200, 6, 8]");
    assert_eq!(output("some")?, "12,16 [12, 16]");
    Ok(())
}

#[component]
fn part(word: String) -> TaskResult<i64> {
    Ok(word.parse()?)
}

async fn failing_condition() -> Done {
    let pipeline = Pipeline::build("failing", |p| {
        let parsed = p.add(part("no number"));
        p.when(parsed.output.gt(1), |p| p.add(make(1))).otherwise(|p| p.add(make(2)));
    })?;
    let (outcome, report) = ran(&pipeline, args! {}).await?;
    assert_eq!(outcome.state, RunState::Failed);
    assert_eq!(state(&report, "condition-branches-1"), Some(TaskState::Skipped));
    Ok(())
}

#[component]
fn content(data: Input<Model>) -> TaskResult<String> {
    Ok(std::fs::read_to_string(data.path()?)?)
}

#[component]
fn words(all: Vec<Vec<String>>) -> String {
    format!("{all:?}")
}

async fn loops_over_artifacts() -> Done {
    let pipeline = Pipeline::build("artifacts", |p| {
        let numbers = p.param::<Vec<i64>>("numbers", vec![1, 2]);
        let made = p.parallel_for(numbers, |p, number| p.add(make(number)).out).collect();
        let each = p.parallel_for(made, |p, one| {
            let twice = p.parallel_for(vec![1_i64, 2], |p, _| p.add(double(one)).out).collect();
            let texts = p.parallel_for_limited(twice, 1, |p, twice| p.add(content(twice)).output).collect();
            (twice, texts)
        });
        let (artifacts, texts) = each.collect();
        p.add(words(texts));
        let flat = p.parallel_for(artifacts, |p, one| p.add(content(one)).output).collect();
        p.add(join(artifacts, Vec::new()).after(p.add(words(vec![Vec::new()]).named("none"))));
        let _ = p.parallel_for(flat, |p, word| p.add(part(word)));
    })?;
    let (outcome, report) = ran(&pipeline, args! {}).await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    assert_eq!(report.task("words").unwrap().output::<String>("Output")?, r#"[["2", "2"], ["4", "4"]]"#);
    assert_eq!(report.task("join").unwrap().output::<String>("Output")?, "2,2,4,4 []");
    assert_eq!(state(&report, "for-loop-2[1]/for-loop-4[1]/content"), Some(TaskState::Succeeded));
    assert_eq!(report.task("for-loop-6[3]/part").unwrap().output::<i64>("Output")?, 4);

    let (outcome, report) = ran(&pipeline, args! {"numbers" => Vec::<i64>::new()}).await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    assert_eq!(report.task("words").unwrap().output::<String>("Output")?, "[]");
    Ok(())
}
