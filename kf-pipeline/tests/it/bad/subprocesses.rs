//! Subprocesses that end in ways of their own.

use std::path::Path;
use std::time::Duration;

use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use super::components::{boom, exits, kills_itself, prints, sleeper, unlisted};
use super::{end_of, one, says};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("subprocesses_that_end_badly", end_badly),
        test("a_subprocess_that_prints_100_mb", prints_much),
        test("a_subprocess_that_hangs_is_killed", hangs),
        test("cancel_of_subprocesses_running_and_waiting", cancel),
    ]
}

async fn fails(pipeline: kf_pipeline::Result<Pipeline>, wanted: &[&str]) -> Done {
    let outcome = end_of(&pipeline?).await?;
    assert_eq!((outcome.state, outcome.tasks.failed), (RunState::Failed, 1), "{outcome:?}");
    says(outcome.error.as_deref(), wanted);
    Ok(())
}

async fn end_badly() -> Done {
    fails(one!(exits(3).executor("subprocess")), &["exits", "exit code 3", "log.txt", "its last words"])
        .await?;
    // Success without an answer is none.
    fails(one!(exits(0).executor("subprocess")), &["exits", "without an answer", "exit code 0"]).await?;
    fails(one!(kills_itself().executor("subprocess")), &["kills-itself", "signal 9 (SIGKILL)"]).await?;
    fails(one!(boom().executor("subprocess")), &["boom", "panicked: boom of async"]).await?;
    fails(one!(unlisted().executor("subprocess")), &["no component `unlisted`", "run_if_asked"]).await
}

async fn prints_much() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&one!(prints(100_u64).executor("subprocess"))?, args! {}).await?;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    let log = find(&engine.home().run_dir(run.id()), "log.txt").unwrap();
    let text = std::fs::read(log)?;
    assert!(text.len() < 6 << 20, "{} bytes of log", text.len());
    assert!(text.ends_with(b"the end\n"));
    Ok(())
}

async fn hangs() -> Done {
    let (home, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let engine = Engine::open(home.path()).await?;
    let text = folder.path().display().to_string();
    let pipeline = one!(sleeper(text.as_str()).executor("subprocess").timeout(Duration::from_secs(6)))?;
    let outcome = engine.start(&pipeline, args! {}).await?.wait().await?;
    assert_eq!(outcome.state, RunState::Failed);
    says(outcome.error.as_deref(), &["sleeper", "took longer than its timeout of 6s"]);
    let pids = pids(folder.path())?;
    assert_eq!(pids.len(), 1, "it never began");
    for pid in pids {
        assert!(!lives(&pid), "process {pid} lives on");
    }
    Ok(())
}

/// One runs, the other waits for room: both end at once.
async fn cancel() -> Done {
    let (home, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let engine = Engine::builder().max_subprocesses(1).open(home.path()).await?;
    let text = folder.path().display().to_string();
    let pipeline = Pipeline::build("sleepers", |p| {
        p.add(sleeper(text.as_str()).executor("subprocess"));
        p.add(sleeper(text.as_str()).executor("subprocess").named("other"));
    })?;
    let run = engine.start(&pipeline, args! {}).await?;
    let mut running = Vec::new();
    for _ in 0..6000 {
        running = pids(folder.path())?;
        if !running.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    run.cancel("enough").await;
    let outcome = tokio::time::timeout(Duration::from_secs(30), run.wait()).await??;
    assert_eq!((outcome.state, outcome.tasks.canceled), (RunState::Canceled, 2));
    assert_eq!(pids(folder.path())?, running, "the other has run too");
    assert!(running.len() == 1 && !lives(&running[0]), "{running:?}");
    Ok(())
}

/// The process ids that sleepers have written.
fn pids(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        // Between making the file and writing into it, there is none.
        if !text.is_empty() {
            pids.push(text);
        }
    }
    Ok(pids)
}

/// Whether a process exists and is no zombie.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let state = stat.and_then(|stat| stat.rsplit_once(')').map(|(_, rest)| rest.trim_start().to_owned()));
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        if path.file_name()? == name {
            return Some(path);
        }
        if path.is_dir()
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}
