//! Jobs as they are: real ranks in real processes, started by a `main` that dispatches them before it runs the tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests, in a binary of their own main")]

#[cfg(feature = "torch")]
mod agent_store;
#[cfg(feature = "torch")]
mod averaging;
#[cfg(feature = "torch")]
mod checkpoints;
#[cfg(feature = "torch")]
mod coalesced;
#[cfg(feature = "torch")]
mod collectives;
mod conformance;
mod contracts;
mod elastic;
#[cfg(feature = "torch")]
mod exchanges;
mod launch;
mod limits;
#[cfg(feature = "torch")]
mod messages;
#[cfg(feature = "torch")]
mod missing;
#[cfg(feature = "torch")]
mod replaced;
#[cfg(feature = "torch")]
mod rounds;
#[cfg(feature = "torch")]
mod shared_memory;
#[cfg(feature = "torch")]
mod subgroups;
#[cfg(feature = "torch")]
mod trainer;
#[cfg(feature = "torch")]
mod training;
#[cfg(feature = "torch")]
mod works;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kf_core::worker::{Workers, run_if_asked};
use kf_train::LocalLauncher;
use libtest_mimic::{Arguments, Failed, Trial};

/// A rank of this number hangs before it is dispatched.
const HANG: &str = "KF_TEST_HANG_RANK";
/// How many MiB it takes before.
const FILL: &str = "KF_TEST_HANG_MIB";

fn main() -> ExitCode {
    if std::env::var(HANG).is_ok_and(|hang| std::env::var("RANK") == Ok(hang)) {
        let mebibytes = std::env::var(FILL).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let filled: Vec<_> = (0..mebibytes).map(|_| vec![1_u8; 1 << 20]).collect();
        println!("hanging in main");
        std::thread::sleep(Duration::from_secs(600));
        drop(filled);
    }
    let workers = elastic::workers(limits::workers(launch::workers(Workers::new())));
    #[cfg(feature = "torch")]
    if let Some(code) = agent_store::run_if_asked() {
        return code;
    }
    #[cfg(feature = "torch")]
    let workers = [
        averaging::workers,
        checkpoints::workers,
        coalesced::workers,
        collectives::workers,
        exchanges::workers,
        messages::workers,
        missing::workers,
        replaced::workers,
        rounds::workers,
        shared_memory::workers,
        subgroups::workers,
        trainer::workers,
        training::workers,
        works::workers,
    ]
    .into_iter()
    .fold(workers, |workers, with: fn(Workers) -> Workers| with(workers));
    if let Some(code) = run_if_asked(&workers) {
        return code;
    }
    if let Some(code) = elastic::agent::run_if_asked() {
        return code;
    }
    let trials =
        [launch::trials(), limits::trials(), conformance::trials(), elastic::trials(), contracts::trials()];
    let trials: Vec<_> = trials.into_iter().flatten().collect();
    #[cfg(feature = "torch")]
    let trials = [
        trials,
        agent_store::trials(),
        averaging::trials(),
        checkpoints::trials(),
        coalesced::trials(),
        collectives::trials(),
        exchanges::trials(),
        messages::trials(),
        missing::trials(),
        replaced::trials(),
        rounds::trials(),
        shared_memory::trials(),
        subgroups::trials(),
        trainer::trials(),
        training::trials(),
        works::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut arguments = Arguments::from_args();
    // Each test starts processes of its own; the machine may have two cores.
    arguments.test_threads.get_or_insert(2);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test with a runtime, and a launcher in a folder of its own.
fn trial<F>(name: &str, test: fn(LocalLauncher) -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || with_launcher(test))
}

fn with_launcher(test: impl AsyncFnOnce(LocalLauncher)) -> Result<(), Failed> {
    let dir = tempfile::tempdir().map_err(Failed::from)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(test(LocalLauncher::new(dir.path().join("jobs"))));
    Ok(())
}

/// Waits, generously, until something is so.
async fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(in_time(holds).await, "not within 30 s: {what}");
}

/// Waits until something is so, and tells whether it was within 30 s.
async fn in_time(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..600 {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// Whether a process of this id exists and is no zombie.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(')').map(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

/// The process ids in a witness file, one a line.
fn pids(witness: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(witness).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
