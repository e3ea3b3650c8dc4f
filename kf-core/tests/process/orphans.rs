//! A parent that is killed outright leaves nothing behind.

use std::io::Write;
use std::path::Path;

use kf_core::process::{Command, Exit, Spawner};
use kf_core::worker::WorkerError;

use rustix::process::{Pid, Signal, kill_process};

use super::{lives, until};

/// The parent's part: starts an entry and a foreign program that starts another, notes their ids, waits for ever.
pub(crate) fn parent(witness: &Path, kill_guard: bool) -> Result<(), WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(WorkerError::failed)?.block_on(async {
        let spawner = Spawner::new().map_err(WorkerError::failed)?;
        let entry = Command::entry("sleep", &()).map_err(WorkerError::failed)?.ahead();
        let script = "sleep 600 & echo $! >> \"$0\"; wait";
        let program = Command::program("sh", ["-c", script, &witness.display().to_string()]);
        let entry = spawner.spawn(entry).await.map_err(WorkerError::failed)?;
        if kill_guard {
            let mine = |pid: &u32| parent_of(*pid) == Some(std::process::id());
            let guard = super::ahead::with_environment(&[("KF_WORKER", "kf:guard")]).into_iter().find(mine);
            let guard = guard.and_then(|guard| Pid::from_raw(guard.try_into().ok()?));
            let guard = guard.ok_or_else(|| WorkerError::failed("it has no guard"))?;
            kill_process(guard, Signal::KILL).map_err(WorkerError::failed)?;
            until("the guard is gone", || !lives(guard.as_raw_nonzero().get().unsigned_abs())).await;
        }
        let program = spawner.spawn(program).await.map_err(WorkerError::failed)?;
        let mut file =
            std::fs::File::options().append(true).create(true).open(witness).map_err(WorkerError::failed)?;
        writeln!(file, "{}\n{}", entry.pid(), program.pid()).map_err(WorkerError::failed)?;
        std::future::pending().await
    })
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

pub(crate) async fn none_after_sigkill_of_the_parent() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let witness = dir.path().join(format!("witness-{round}"));
        let spawner = Spawner::new().unwrap();
        let parent =
            spawner.spawn(Command::entry("parent", &(&witness, round % 2 == 1)).unwrap()).await.unwrap();
        let pids = || -> Vec<u32> {
            let text = std::fs::read_to_string(&witness).unwrap_or_default();
            text.lines().filter_map(|line| line.parse().ok()).collect()
        };
        until("the parent has started all", || pids().len() == 3).await;
        let pids = pids();
        assert!(pids.iter().all(|&pid| lives(pid)), "{pids:?}");
        let id = parent.pid().to_string();
        let waiting = [("KF_WORKER_PARENT", &*id), ("KF_WORKER_REQUEST", "+")];
        until("a copy waits", || super::ahead::with_environment(&waiting).len() == 1).await;
        // Its children have groups of their own, so that only the kernel can end them, and the guard what they started.
        parent.kill();
        assert_eq!(parent.wait().await, Exit::Signal(9));
        for pid in pids {
            until("the orphan is gone", || !lives(pid)).await;
        }
        let left = || super::ahead::with_environment(&[("KF_WORKER_PARENT", &id)]);
        until("the one that waited is gone", || left().is_empty()).await;
    }
}

pub(crate) async fn none_of_a_start_that_nobody_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let witness = dir.path().join("witness");
    let spawner = Spawner::new().unwrap();
    let script = "sleep 600 & echo $! > \"$0.new\"; mv \"$0.new\" \"$0\"; wait";
    let mut spawn =
        Box::pin(spawner.spawn(Command::program("sh", ["-c", script, &witness.display().to_string()])));
    assert!(futures::poll!(&mut spawn).is_pending());
    until("it has started another", || witness.exists()).await;
    let pid = std::fs::read_to_string(&witness).unwrap().trim().parse().unwrap();
    assert!(lives(pid));
    drop(spawn);
    until("what it has started is gone", || !lives(pid)).await;
}
