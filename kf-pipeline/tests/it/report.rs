//! What the report finds beside the journal: logs, and where cached outputs come from.

use std::time::Duration;

use kf_pipeline::prelude::*;
use kf_pipeline::{Pipeline, RerunOptions, TaskState};
use libtest_mimic::Trial;

use crate::components::talker;
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("logs_and_the_origin_of_cached_outputs_are_found", logs_and_origins),
        test("loops_are_shown_as_they_ended", loops),
        test("what_attempts_used_is_told", usage),
        test("what_a_command_used_is_told", usage_of_a_command),
    ]
}

#[component]
fn same(number: i64) -> Result<i64, TaskError> {
    if number == 13 { Err(TaskError::permanent("unlucky")) } else { Ok(number) }
}

/// Has so much memory, and keeps a processor at work for so many milliseconds. A first attempt ends its process then.
#[component(cache = false, retries = 1)]
pub(crate) fn works(megabytes: i64, milliseconds: i64, ends: bool, context: Context) -> TaskResult<i64> {
    let held = vec![7_u8; usize::try_from(megabytes)? << 20];
    let worked = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (begin, mut sum) = (worked(), 0_i64);
    loop {
        sum += held.iter().step_by(4096).map(|byte| i64::from(*byte)).sum::<i64>();
        let now = worked();
        if (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1_000_000 >= milliseconds {
            break;
        }
    }
    if ends && context.attempt() == 1 {
        std::process::exit(3);
    }
    Ok(sum % 7)
}

async fn usage() -> Done {
    const HELD: u64 = 100 << 20;
    let pipeline = Pipeline::build("works", |p| {
        p.add(works(100, 300, true).named("apart").executor("subprocess"));
        p.add(works(1, 30, false).named("here"));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    assert_eq!(run.wait().await?.error, None);
    let report = engine.report(run.id()).await?;
    let (apart, here) = (report.task("apart").unwrap(), report.task("here").unwrap());
    let (used, last) = (apart.failed_attempts[0].usage, apart.usage);
    for used in [used, last] {
        assert!(used.wall >= used.cpu.map(|_| Duration::from_millis(300)), "{used:?}");
        assert!(used.cpu.is_some_and(|cpu| (280..10_000).contains(&cpu.as_millis())), "{used:?}");
    }
    // It ended before it could say.
    assert_eq!(used.peak_memory, None);
    assert!(last.peak_memory.is_some_and(|bytes| (HELD..5 * HELD).contains(&bytes)), "{last:?}");
    // This process is not the task's alone.
    assert!(here.usage.wall.is_some_and(|wall| wall.as_millis() >= 30), "{here:?}");
    assert_eq!((here.usage.cpu, here.usage.peak_memory), (None, None));
    let told = format!(
        "\"used\":[{},{},{}]",
        last.wall.unwrap().as_millis(),
        last.cpu.unwrap().as_millis(),
        last.peak_memory.unwrap()
    );
    assert!(report.to_html().contains(&told), "{told}");
    Ok(())
}

/// Its children's time is its own.
async fn usage_of_a_command() -> Done {
    let script = "sh -c 'i=0; while [ $i -lt 90000 ]; do i=$((i + 1)); done'; true";
    let file = serde_json::from_value(serde_json::json!({"pipeline_spec": {
        "pipelineInfo": {"name": "command"},
        "deploymentSpec": {"executors": {"work": crate::containers::shell(script)}},
        "components": {"work": {"executorLabel": "work"}},
        "root": {"dag": {"tasks": {"work": {"componentRef": {"name": "work"}}}}},
    }}))?;
    let pipeline = Pipeline::from_file(file, Components::new())?;
    let home = tempfile::tempdir()?;
    let engine = crate::containers::engine(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    assert_eq!(run.wait().await?.error, None);
    let used = engine.report(run.id()).await?.task("work").unwrap().usage;
    assert!(used.cpu.is_some_and(|cpu| cpu.as_millis() >= 20), "{used:?}");
    assert!(used.wall.is_some() && used.peak_memory.is_none(), "{used:?}");
    Ok(())
}

async fn loops() -> Done {
    let pipeline = Pipeline::build("loops", |p| {
        let outer = p.param::<Vec<i64>>("outer", vec![1, 2]);
        let _ = p.parallel_for(outer, |p, number| {
            let _ = p.parallel_for(vec![3_i64, 4, 5], |p, inner| p.add(same(inner).named("one")));
            p.add(same(number).named("two"))
        });
        let _ = p.parallel_for(vec![7_i64, 13], |p, number| p.add(same(number).named("three")));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    run.wait().await?;
    let html = engine.report(run.id()).await?.to_html();
    for shown in ["2 iterations", "6 iterations", "1 succeeded", "1 failed"] {
        assert!(html.contains(shown), "{shown}");
    }
    for wrong in ["0 iterations", "1 running", "2 running", "3 running", "6 running"] {
        let at = html.find(wrong);
        assert!(at.is_none(), "{wrong}: {:?}", at.map(|at| &html[at.saturating_sub(200)..at + 60]));
    }
    Ok(())
}

async fn logs_and_origins() -> Done {
    let pipeline = Pipeline::build("talk", |p| {
        let counts = p.param::<Vec<i64>>("counts", vec![2, 5_000]);
        let _ = p.parallel_for(counts, |p, lines| p.add(talker(lines).executor("subprocess")));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let first = engine.start(&pipeline, args! {}).await?;
    assert_eq!(first.wait().await?.error, None);
    let report = engine.report(first.id()).await?;
    let task = |name: &str| report.task(name).unwrap();
    let short = task("for-loop-1[0]/talker").log.clone().unwrap();
    assert_eq!(short.text.trim_end(), "attempt 2 line 0 </script>\nattempt 2 line 1 </script>");
    assert_eq!(std::fs::read(&short.path)?.len() as u64, short.size);
    let long = task("for-loop-1[1]/talker");
    let log = long.log.clone().unwrap();
    assert!(log.text.starts_with("attempt 2 line ") && log.text.trim_end().ends_with("line 4999 </script>"));
    assert!(log.size > 100_000 && log.text.len() <= 8 * 1024, "{} of {}", log.text.len(), log.size);
    assert_eq!((long.attempts, long.failed_attempts.len()), (2, 1));
    let html = report.to_html();
    assert!(html.contains("line 4999 \\u003c/script>") && !html.contains("line 4999 </script>"));

    let again = engine.start(&pipeline, args! {}).await?;
    again.wait().await?;
    let report = engine.report(again.id()).await?;
    let task = report.task("for-loop-1[1]/talker").unwrap();
    let from = task.cached_from.as_ref().unwrap();
    assert_eq!((task.state, &from.run), (TaskState::Cached, first.id()));
    assert_eq!((from.task.as_str(), &task.log), ("for-loop-1[1]/talker", &None));
    assert!(report.to_html().contains(&format!("\"cached\":[\"{}\"", first.id())));

    // What a run that does another again keeps of it did not take any of its time.
    let options = RerunOptions::default();
    let third = engine.rerun(&pipeline, first.id(), options).await?;
    third.wait().await?;
    let report = engine.report(third.id()).await?;
    let task = report.task("for-loop-1[1]/talker").unwrap();
    assert_eq!((report.rerun_of.as_ref(), task.state), (Some(first.id()), TaskState::Cached));
    assert_eq!(&task.cached_from.as_ref().unwrap().run, first.id());
    assert!(report.to_html().contains("No task has run."));
    Ok(())
}
