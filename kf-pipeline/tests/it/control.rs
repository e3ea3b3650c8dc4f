//! Branches that give something, loops over artifacts, groups, and what runs though something failed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::report::Report;
use kf_pipeline::{Args, Artifact, Handles, Pipeline, RunOutcome, Scope, TaskState, Value};
use libtest_mimic::Trial;

use crate::components::{double, join, make};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("the_branch_that_is_taken_gives", the_branch_that_is_taken),
        test("what_branches_in_a_loop_gave_is_collected", collected_branches),
        test("a_condition_that_fails_takes_no_branch", failing_condition),
        test("loops_over_artifacts_nest", loops_over_artifacts),
        test("groups_are_cleaned_up_after", exit_groups),
        test("a_cancelled_group_is_cleaned_up_after", cancelled_groups),
        test("pipelines_nest", nested_pipelines),
        test("a_pipeline_limits_its_tasks", limited),
        test("what_runs_though_something_failed_is_told", even_if_failed),
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

#[component(cache = false)]
fn clean_up(file: String, who: String, status: FinalStatus, number: Option<i64>) -> TaskResult {
    let error = status.error.as_ref().map_or("", |error| error.message.as_str());
    let line = format!("{who} {} {} {number:?} {error}\n", status.state, status.pipeline_task_name);
    Ok(std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()))?)
}

#[component]
fn at_most(number: i64, most: i64) -> TaskResult<i64> {
    if number > most { Err(TaskError::permanent(format!("{number} is too much"))) } else { Ok(number) }
}

async fn exit_groups() -> Done {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("witness").display().to_string();
    let pipeline = Pipeline::build("exit-groups", |p| {
        let most = p.required_param::<i64>("most");
        let first = p.add(at_most(1, most));
        let sum = p.exit_group(
            |status| clean_up(file.as_str(), "all", status, first.output),
            |p| {
                let each = p.parallel_for_limited(vec![1_i64, 2, 3], 1, |p, number| {
                    p.exit_group(
                        |status| clean_up(file.as_str(), "each", status, number),
                        |p| p.add(at_most(number, most)).output,
                    )
                });
                p.add(part("5").after(first));
                p.add(words_of(each.collect())).output
            },
        );
        p.add(part(sum).named("after"));
        p.on_exit(clean_up(file.as_str(), "run", p.run_status(), None));
    })?;
    let lines = || -> Result<Vec<String>, std::io::Error> {
        let text = std::fs::read_to_string(&file)?;
        std::fs::remove_file(&file)?;
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    };
    let (outcome, report) = ran(&pipeline, args! {"most" => 3}).await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    assert_eq!(report.task("exit-handler-1/after").unwrap().output::<i64>("Output")?, 3);
    assert_eq!(
        lines()?,
        [
            "each SUCCEEDED exit-handler-3 Some(1)",
            "each SUCCEEDED exit-handler-3 Some(2)",
            "each SUCCEEDED exit-handler-3 Some(3)",
            "all SUCCEEDED exit-handler-2 Some(1)",
            "run SUCCEEDED exit-handler-1 None",
        ]
    );

    // One iteration fails: all are cleaned up after, and so is what they are in.
    let (outcome, report) = ran(&pipeline, args! {"most" => 2}).await?;
    assert_eq!(outcome.state, RunState::Failed);
    assert_eq!(state(&report, "exit-handler-1/after"), Some(TaskState::Skipped));
    let found = lines()?;
    assert_eq!(found[2], "each FAILED exit-handler-3 Some(3) `at-most-2`: 3 is too much");
    let all = "all FAILED exit-handler-2 Some(1) `for-loop-1`: 1 of 3 iterations failed; iteration 2: \
               `exit-handler-3`: `at-most-2`: 3 is too much";
    assert_eq!(found[3], all);
    assert!(found[4].starts_with("run FAILED exit-handler-1 None `exit-handler-2`:"), "{}", found[4]);

    // What it waits for fails: the group never runs, and its clean-up is told so.
    let (_, report) = ran(&pipeline, args! {"most" => 0}).await?;
    assert_eq!(state(&report, "exit-handler-1/exit-handler-2"), Some(TaskState::Skipped));
    let found = lines()?;
    assert_eq!(found[0], "all SKIPPED exit-handler-2 None `at-most` before it is FAILED");
    assert_eq!(found.len(), 2, "{found:?}");
    Ok(())
}

#[component]
fn words_of(all: Vec<i64>) -> String {
    all.len().to_string()
}

async fn cancelled_groups() -> Done {
    use futures::StreamExt as _;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("witness").display().to_string();
    let pipeline = Pipeline::build("cancelled", |p| {
        p.nest("outer", |p| {
            p.exit_group(|status| clean_up(file.as_str(), "inner", status, None), |p| p.add(wait()));
        });
    })?;
    let engine = Engine::open(folder.path().join("home")).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    let mut events = run.events();
    while !matches!(events.next().await, Some(kf_pipeline::RunEvent::TaskStarted { .. }) | None) {}
    run.cancel("enough").await;
    assert_eq!(run.wait().await?.state, RunState::Canceled);
    assert_eq!(std::fs::read_to_string(&file)?.trim(), "inner CANCELED exit-handler-2 None");
    Ok(())
}

#[component(cache = false)]
async fn wait(context: Context) -> TaskResult {
    context.cancellation().cancelled().await;
    Err(TaskError::new("asked to end"))
}

#[derive(Clone, Copy, Handles)]
struct Doubled<'p> {
    data: Artifact<'p, Model>,
    number: Value<'p, i64>,
}

fn doubled<'p>(p: &Scope<'p>, number: Value<'p, i64>) -> Doubled<'p> {
    let twice = p.add(double(p.add(make(number)).out));
    Doubled { data: twice.out, number: twice.output }
}

async fn nested_pipelines() -> Done {
    let pipeline = Pipeline::build("nested", |p| {
        let number = p.param::<i64>("number", 3);
        let one = p.nest("doubled", |p| doubled(p, number));
        let two = p.nest("quadrupled", |p| p.nest("doubled", |p| doubled(p, one.number)));
        let each = p.parallel_for(vec![1_i64, 2], |p, number| p.nest("doubled", |p| doubled(p, number)));
        let all = each.collect();
        p.add(join(all.data, all.number).after(p.add(redouble(two.data).named("last"))));
    })?;
    let (outcome, report) = ran(&pipeline, args! {}).await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    assert_eq!(report.task("last").unwrap().output::<i64>("Output")?, 24);
    assert_eq!(report.task("join").unwrap().output::<String>("Output")?, "2,4 [2, 4]");
    assert_eq!(report.task("quadrupled/doubled-2/double-2").unwrap().output::<i64>("Output")?, 12);
    assert_eq!(state(&report, "for-loop-1[1]/doubled-3/double-3"), Some(TaskState::Succeeded));
    Ok(())
}

#[component]
fn what_came(number: Option<i64>, model: Option<Input<Model>>, status: FinalStatus) -> TaskResult<String> {
    let text = match model {
        Some(model) => std::fs::read_to_string(model.path()?)?,
        None => "nothing".to_owned(),
    };
    Ok(format!("{number:?} {text} {}", status.succeeded()))
}

async fn even_if_failed() -> Done {
    let pipeline = Pipeline::build("even-if", |p| {
        let wanted = p.required_param::<String>("wanted");
        let number = p.add(part(wanted));
        let made = p.add(make(number.output));
        let twice = p.add(double(made.out));
        for carrier in ["in-process", "subprocess"] {
            let came = what_came(twice.output, twice.out, p.status_of(twice));
            p.add(came.executor(carrier).named(format!("in-{carrier}")));
            p.add(
                what_came(None, None, p.status_of(number)).executor(carrier).named(format!("none-{carrier}")),
            );
        }
    })?;
    for (wanted, outcome, text) in
        [("4", RunState::Succeeded, "Some(8) 8 true"), ("x", RunState::Failed, "None nothing false")]
    {
        let (ended, report) = ran(&pipeline, args! {"wanted" => wanted}).await?;
        assert_eq!(ended.state, outcome, "{:?}", ended.error);
        for carrier in ["in-process", "subprocess"] {
            let task = report.task(&format!("in-{carrier}")).unwrap();
            assert_eq!(task.output::<String>("Output")?, text);
            let none = format!("None nothing {}", outcome == RunState::Succeeded);
            assert_eq!(report.task(&format!("none-{carrier}")).unwrap().output::<String>("Output")?, none);
        }
    }
    Ok(())
}

/// How many tasks are under way, and the most there were.
#[derive(Clone, Default)]
struct UnderWay(std::sync::Arc<(AtomicUsize, AtomicUsize)>);

#[component]
async fn counted(under_way: State<UnderWay>, number: u32) -> u32 {
    let (now, most) = &*under_way.0;
    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(20)).await;
    now.fetch_sub(1, Ordering::SeqCst);
    number
}

async fn limited() -> Done {
    let pipeline = |most: Option<u32>| {
        Pipeline::build("limited", |p| {
            if let Some(most) = most {
                p.max_tasks(most);
            }
            let _ = p.parallel_for((0..12).collect::<Vec<u32>>(), |p, number| p.add(counted(number)));
        })
    };
    for (most, wanted) in [(None, 4..=12), (Some(3), 3..=3), (Some(100), 4..=12)] {
        let (home, state) = (tempfile::tempdir()?, UnderWay::default());
        let engine = Engine::builder().state(state.clone()).open(home.path()).await?;
        let run = engine.start(&pipeline(most)?, args! {}).await?;
        assert_eq!(run.wait().await?.tasks.succeeded, 12);
        let found = state.0.1.load(Ordering::SeqCst);
        assert!(wanted.contains(&found), "{most:?}: {found}");
    }
    let refused = pipeline(Some(0)).unwrap_err().to_string();
    assert!(refused.contains("at most 0 tasks"), "{refused}");
    Ok(())
}

/// What runs in a process of its own.
pub(crate) fn with_components(components: Components) -> Components {
    components.with::<what_came>()
}
