//! Data flows, loops collect, branches are taken or skipped, failures are retried, exit handlers run.

use std::time::Duration;

use kf_core::CancellationToken;
use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::{Pipeline, StartOptions, TaskState};
use libtest_mimic::Trial;

use crate::components::{double, fail, flaky, join, make, measure, witness};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("data_flows_through_a_loop_in_process", || data_flows("in-process")),
        test("data_flows_through_a_loop_in_subprocesses", || data_flows("subprocess")),
        test("branches", branches),
        test("same_name_in_another_module_is_another_component", same_name),
        test("arguments_are_of_their_rust_type", arguments),
        test("retries_and_exit_handler", retries_and_exit_handler),
        test("the_first_listener_hears_all", first_listener),
        test("a_pipeline_gives_outputs", outputs),
        test("ends_are_written_soon_where_tasks_start_before", started_before),
        Trial::test("a_body_that_has_its_thread_delays_nobody", || {
            // However few cores there are.
            let threads =
                tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
            threads.block_on(blocked()).map_err(|error| error.to_string().into())
        }),
        test("a_loop_over_items_that_may_be_absent", absent_items),
        test("an_unfinished_run_is_found_behind_hundreds_of_others", found_behind_others),
    ]
}

/// Until told to end.
#[component(cache = false)]
async fn lasts(ctx: Context) {
    ctx.cancellation().cancelled().await;
}

#[component(cache = false)]
async fn next(number: i64) -> i64 {
    number + 1
}

async fn started_before() -> Done {
    let pipeline = Pipeline::build("eager", |p| {
        p.add(lasts());
        let mut last = p.add(next(0)).output;
        for _ in 0..50 {
            last = p.add(next(last)).output;
        }
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::builder().start_before_commit().open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    // Beside a task that goes on, which nobody knows the end of.
    let written = async {
        while engine.report(run.id()).await?.task("next-51").is_none_or(|t| t.state != TaskState::Succeeded) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, kf_pipeline::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(60), written).await??;
    run.cancel("enough").await;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.tasks.succeeded, outcome.tasks.canceled), (RunState::Canceled, 51, 1));
    Ok(())
}

#[component(cache = false)]
fn write(text: String, data: Output<Dataset>) -> TaskResult {
    data.write(text)
}

async fn outputs() -> Done {
    for clean_up in [false, true] {
        let pipeline = Pipeline::build("gives", |p| {
            let last = p.add(next(p.required_param::<i64>("number"))).output;
            let each = p.parallel_for(vec![10, 20], |p, number| p.add(next(number)).output).collect();
            let parts = p.parallel_for(vec!["a".to_owned(), "b".to_owned()], |p, text| p.add(write(text)));
            let large = p.when(last.gt(5), |p| p.add(next(100)).output);
            p.output("next", last);
            p.output("each", each);
            p.output("size", large.otherwise(|p| p.add(next(0)).output));
            p.output("parts", parts.collect().data);
            if clean_up {
                p.on_exit(next(0).named("over"));
            }
        })?;
        let home = tempfile::tempdir()?;
        let engine = Engine::open(home.path()).await?;
        for (number, size) in [(1, 1), (7, 101)] {
            let run = engine.start(&pipeline, args! {"number" => number}).await?;
            let outcome = run.wait().await?;
            assert_eq!(outcome.output::<i64>("next")?, number + 1);
            assert_eq!(outcome.output::<Vec<i64>>("each")?, [11, 21]);
            assert_eq!(outcome.output::<i64>("size")?, size);
            let parts = outcome.outputs.artifacts["parts"].iter().filter_map(|part| part.digest);
            let mut read = String::new();
            for part in parts {
                let path = engine.home().artifacts().fetch(&part).await?;
                read += &std::fs::read_to_string(path)?;
            }
            assert_eq!(read, "ab");
            let error = outcome.output::<i64>("large").unwrap_err().to_string();
            assert!(error.contains("gave no parameter `large`; it gave: each, next, size"), "{error}");
            assert!(outcome.output::<i64>("each").unwrap_err().to_string().contains("output `each`"));
            // Taken from what is written.
            let again = engine.start_with(
                &pipeline,
                args! {"number" => number},
                StartOptions::new().id(run.id().clone()),
            );
            assert_eq!(again.await?.wait().await?.outputs, outcome.outputs);
        }
    }
    Ok(())
}

/// Has its thread, which others want, for as long as it likes.
#[component(cache = false)]
async fn blocks(end: State<CancellationToken>) {
    for _ in 0..6000 {
        if end.is_cancelled() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

async fn blocked() -> Done {
    let pipeline = Pipeline::build("blocked", |p| {
        let mut last = p.add(next(0)).output;
        p.add(blocks().timeout(Duration::from_secs(1)));
        for _ in 0..50 {
            last = p.add(next(last)).output;
        }
    })?;
    for eager in [false, true] {
        let (home, end) = (tempfile::tempdir()?, CancellationToken::new());
        let engine = Engine::builder().state(end.clone()).grace(Duration::from_millis(100));
        let engine = if eager { engine.start_before_commit() } else { engine }.open(home.path()).await?;
        let run = engine.start(&pipeline, args! {}).await?;
        // Its time is over and all others have ended while it has its thread.
        let outcome = tokio::time::timeout(Duration::from_secs(50), run.wait()).await??;
        assert_eq!((outcome.tasks.succeeded, outcome.tasks.failed), (51, 1), "{outcome:?}");
        let error = outcome.error.unwrap_or_default();
        assert!(error.contains("took longer than its timeout of 1s"), "{error}");
        end.cancel();
    }
    Ok(())
}

async fn data_flows(executor: &'static str) -> Done {
    let pipeline = Pipeline::build("flow", |p| {
        let numbers = p.param::<Vec<i64>>("numbers", vec![1, 2, 3]);
        let each = p.parallel_for(numbers, |p, number| {
            let made = p.add(make(number).executor(executor));
            p.add(double(made.out).executor(executor))
        });
        let all = each.collect();
        p.add(join(all.out, all.output).executor(executor));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    assert_eq!(outcome.tasks.succeeded, 7);
    let report = engine.report(run.id()).await?;
    assert_eq!(report.task("join").unwrap().output::<String>("Output")?, "2,4,6 [2, 4, 6]");
    assert_eq!(report.task("for-loop-1[1]/make").unwrap().output_artifacts[0].artifact.metadata["number"], 2);

    // The same again comes from the cache; other numbers run what depends on them.
    let again = engine.start(&pipeline, args! {}).await?.wait().await?;
    assert_eq!((again.tasks.cached, again.tasks.succeeded), (7, 0));
    let other = engine.start(&pipeline, args! {"numbers" => [2, 5]}).await?;
    let outcome = other.wait().await?;
    assert_eq!((outcome.tasks.cached, outcome.tasks.succeeded), (2, 3));
    let report = engine.report(other.id()).await?;
    assert_eq!(report.task("join").unwrap().output::<String>("Output")?, "4,10 [4, 10]");
    Ok(())
}

#[component]
async fn or_zero(number: Option<i64>) -> i64 {
    number.unwrap_or(0)
}

async fn absent_items() -> Done {
    let pipeline = Pipeline::build("absent", |p| {
        let each = p.parallel_for(vec![Some(1_i64), None, Some(3)], |p, number| p.add(or_zero(number)));
        p.add(total(each.collect().output));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    assert_eq!(run.wait().await?.error, None);
    assert_eq!(engine.report(run.id()).await?.task("total").unwrap().output::<i64>("Output")?, 4);
    Ok(())
}

#[component]
async fn total(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

async fn found_behind_others() -> Done {
    let pipeline = Pipeline::build("many", |p| {
        let number = p.required_param::<i64>("number");
        p.add(total(vec![1]).named("wait").after(p.add(or_zero(number))));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    // Runs that were asked for and that nobody began, as an engine leaves them that dies at once.
    let spec = serde_json::to_string(&pipeline.file()?)?;
    for number in 0..250 {
        let new = kf_core::metadata::NewRun {
            id: format!("run-{number}").parse()?,
            pipeline: "many".to_owned(),
            spec_digest: kf_core::Digest::of(&spec),
            spec: spec.as_str().into(),
            args: format!(r#"{{"number":{number}}}"#),
            created_at: kf_core::Timestamp::now(),
        };
        engine.metadata().create_run(new).await?;
    }
    let options = StartOptions::new().resume_unfinished();
    let run = engine.start_with(&pipeline, args! {"number" => 3}, options).await?;
    assert_eq!(run.id().as_str(), "run-3");
    assert_eq!(run.wait().await?.tasks.succeeded, 2);
    Ok(())
}

async fn first_listener() -> Done {
    use futures::StreamExt as _;

    let pipeline = Pipeline::build("short", |p| {
        p.add(or_zero(None).cache(false));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    for late in [false, true] {
        let run = engine.start(&pipeline, args! {}).await?;
        if late {
            run.wait().await?;
        }
        let events: Vec<String> = run.events().map(|event| format!("{event:?}")).collect().await;
        let told = |word: &str| events.iter().filter(|event| event.starts_with(word)).count();
        let found = (told("TaskStarted"), told("TaskEnded"), told("RunEnded"));
        assert_eq!(found, (1, 1, 1), "{events:?}");
    }
    Ok(())
}

async fn branches() -> Done {
    let home = tempfile::tempdir()?;
    let file = home.path().join("witness").display().to_string();
    let pipeline = Pipeline::build("branches", |p| {
        let score = p.required_param::<f64>("score");
        let measured = p.add(measure(score));
        let good = measured.score.ge(0.95) & measured.label.ne("s2.0");
        p.when(good, |p| p.add(witness(file.as_str(), measured.label)));
    })?;
    let engine = Engine::open(home.path().join("home")).await?;
    for (score, state) in
        [(0.96, TaskState::Succeeded), (0.5, TaskState::Skipped), (2.0, TaskState::Succeeded)]
    {
        let run = engine.start(&pipeline, args! {"score" => score}).await?;
        assert_eq!(run.wait().await?.state, RunState::Succeeded);
        let report = engine.report(run.id()).await?;
        assert_eq!(report.task("condition-1").unwrap().state, state, "{score}");
    }
    assert_eq!(std::fs::read_to_string(&file)?, "s0.96\ns2\n");
    Ok(())
}

async fn retries_and_exit_handler() -> Done {
    let home = tempfile::tempdir()?;
    let file = home.path().join("witness").display().to_string();
    let pipeline = Pipeline::build("exit", |p| {
        let tried = p.add(flaky());
        p.add(fail("no way"));
        p.add(measure(1.0).after(tried));
        p.on_exit(witness(file.as_str(), "bye"));
    })?;
    let engine = Engine::open(home.path().join("home")).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    let outcome = run.wait().await?;
    assert_eq!(outcome.state, RunState::Failed);
    assert!(outcome.error.as_deref().unwrap().contains("task `exit-handler-1/fail`: no way"), "{outcome:?}");
    let report = engine.report(run.id()).await?;
    let tried = report.task("exit-handler-1/flaky").unwrap();
    assert_eq!((tried.state, tried.attempts, tried.failed_attempts.len()), (TaskState::Succeeded, 3, 2));
    assert_eq!(report.task("exit-handler-1/measure").unwrap().state, TaskState::Succeeded);
    assert_eq!(std::fs::read_to_string(&file)?, "bye\n");
    Ok(())
}

mod ours {
    use kf_pipeline::prelude::*;

    #[component(version = "1")]
    pub(super) fn who() -> String {
        "ours".to_owned()
    }
}

mod theirs {
    use kf_pipeline::prelude::*;

    #[component(version = "1")]
    pub(super) fn who() -> String {
        "theirs".to_owned()
    }
}

async fn same_name() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let pipelines = [
        Pipeline::build("one", |p| {
            p.add(ours::who());
        })?,
        Pipeline::build("one", |p| {
            p.add(theirs::who());
        })?,
    ];
    for (pipeline, wanted) in pipelines.iter().zip(["ours", "theirs"]) {
        let run = engine.start(pipeline, args! {}).await?;
        assert_eq!(run.wait().await?.tasks.cached, 0);
        let report = engine.report(run.id()).await?;
        assert_eq!(report.task("who").unwrap().output::<String>("Output")?, wanted);
    }
    Ok(())
}

async fn arguments() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let pipeline = Pipeline::build("typed", |p| {
        let sizes = p.param::<Vec<u32>>("sizes", vec![1]);
        let limit = p.param::<Option<u32>>("limit", Some(3));
        p.add(count(sizes, limit));
    })?;
    for wrong in [args! {"sizes" => [1.5]}, args! {"sizes" => [-1]}, args! {"sizes" => 1}] {
        let error = engine.start(&pipeline, wrong).await.unwrap_err().to_string();
        assert!(error.contains("argument `sizes`"), "{error}");
    }
    let run = engine.start(&pipeline, args! {"limit" => None::<u32>}).await?;
    assert_eq!(run.wait().await?.state, RunState::Succeeded);
    let report = engine.report(run.id()).await?;
    assert_eq!(report.task("count").unwrap().output::<String>("Output")?, "[1] None");
    Ok(())
}

#[component]
fn count(sizes: Vec<u32>, limit: Option<u32>) -> String {
    format!("{sizes:?} {limit:?}")
}
