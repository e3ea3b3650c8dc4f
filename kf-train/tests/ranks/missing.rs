//! A call that fails tells who was missing: a rank that is busy, frozen, elsewhere, or gone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kf_core::worker::Workers;
use kf_train::{Backend, Error, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, ranks};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::collectives::Failable;
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(ranks("one-is-missing", one_is_missing))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("missing::a_busy_rank_is_named", |launcher| {
            named(launcher, Away::Sleeps, 1, 4, "rank 1 was last seen after call 16 (all_reduce) [1]")
        }),
        trial("missing::a_frozen_rank_is_named", |launcher| {
            named(launcher, Away::Frozen, 2, 3, "rank 2 was last seen after call 16 (all_reduce) [2]")
        }),
        trial("missing::a_rank_in_another_call_is_named", |launcher| {
            named(launcher, Away::Elsewhere, 1, 2, "rank 1 made another call 17 (barrier) [1]")
        }),
        trial("missing::several_are_named", |launcher| {
            let first = "rank 1 was last seen after call 16 (all_reduce)";
            let both = format!("{first}, rank 2 was last seen after call 15 (all_reduce) [1, 2]");
            async move { named(launcher, Away::Several, 1, 4, &both).await }
        }),
        trial("missing::a_rank_that_is_gone_is_named", |launcher| async move {
            let text = told(launcher, Away::Gone, 1, 3).await;
            assert!(text.starts_with(&format!("{CALL} failed on rank 0: ")), "{text}");
            assert!(text.ends_with("; rank 1 was last seen after call 16 (all_reduce) [1]"), "{text}");
        }),
        trial("missing::a_store_that_is_gone_is_named", |launcher| async move {
            let text = told(launcher, Away::Gone, 0, 2).await;
            assert!(text.starts_with(&format!("{CALL} failed on rank 1: ")), "{text}");
            let end = text.split("; nothing is known of the other ranks, for rank 0's store at ").nth(1);
            assert!(end.is_some_and(|end| end.ends_with(" is gone []")), "{text}");
        }),
        trial("missing::a_store_that_does_not_answer_is_named", |launcher| async move {
            let text = told(launcher, Away::Frozen, 0, 2).await;
            assert!(text.starts_with(&format!("{CALL} was not done on rank 1 within 3s: ")), "{text}");
            let end = text.split("; nothing is known of the other ranks, for rank 0's store at ").nth(1);
            assert!(end.is_some_and(|end| end.ends_with(" does not answer []")), "{text}");
        }),
    ]
}

const CALL: &str = "all_reduce (call 17 of this group)";

/// The ranks that wait in vain do so for equally long, and the first of them closes its connections.
async fn named(launcher: LocalLauncher, away: Away, who: usize, world_size: usize, expected: &str) {
    let text = told(launcher, away, who, world_size).await;
    let timed_out = text == format!("{CALL} was not done on rank 0 within 3s: {expected}");
    let closed = format!("{CALL} failed on rank 0: ");
    assert!(timed_out || text.starts_with(&closed) && text.ends_with(&format!("; {expected}")), "{text}");
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Away {
    Sleeps,
    Frozen,
    Elsewhere,
    Several,
    Gone,
}

/// The error of the lowest rank that is not the one away. The job's own end is of no interest.
async fn told(launcher: LocalLauncher, away: Away, who: usize, world_size: usize) -> String {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let job = Job::ranks("one-is-missing", world_size).args(&(away, who, &told));
    let ended = launcher.run::<()>(job).await;
    std::fs::read_to_string(&told).unwrap_or_else(|error| panic!("{error}; the job: {ended:?}"))
}

/// The ranks make 16 calls together, wait until all have told of them, and then one is away from the 17th.
fn one_is_missing(rank: &Rank, (away, who, told): (Away, usize, PathBuf)) -> Failable<()> {
    let options = GroupOptions { timeout: Duration::from_secs(3), verify: false, ..GroupOptions::default() };
    let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    let own = rank.rank();
    let mut tensor = Tensor::from_slice(&[1.0_f32]);
    let pids = group.all_gather(&Tensor::from(i64::from(getpid().as_raw_nonzero().get())))?;
    for _ in 2..=15 {
        group.all_reduce(&mut tensor, ReduceOp::Max)?;
    }
    if away == Away::Several && own == 2 {
        std::thread::sleep(Duration::from_secs(9));
        return Ok(());
    }
    if away == Away::Several {
        // Call 16 of some, which needs rank 2 and does not wait for it.
        let work = group.all_reduce_async(Tensor::zeros([1], (Kind::Float, Device::Cpu)), ReduceOp::Max)?;
        drop(work);
    } else {
        group.all_reduce(&mut tensor, ReduceOp::Max)?;
    }
    std::thread::sleep(Duration::from_millis(1500));
    if own == who {
        match away {
            Away::Sleeps | Away::Several => std::thread::sleep(Duration::from_secs(8)),
            Away::Frozen => kill_process(getpid(), Signal::STOP)?,
            Away::Elsewhere => {
                let _ = group.barrier();
            }
            Away::Gone => std::process::exit(0),
        }
        return Ok(());
    }
    let began = Instant::now();
    let error = match group.all_reduce(&mut tensor, ReduceOp::Max) {
        Err(error) => error,
        Ok(()) => return Err("it was done".into()),
    };
    if began.elapsed() > Duration::from_secs(9) {
        return Err(format!("it took {:?}", began.elapsed()).into());
    }
    if own == usize::from(who == 0) {
        let (Error::CollectiveTimedOut { missing, .. } | Error::Collective { missing, .. }) = &error else {
            return Err(error.into());
        };
        std::fs::write(&told, format!("{error} {missing:?}"))?;
    }
    // A group whose store does not answer ends in time, too.
    let began = Instant::now();
    drop(group);
    if began.elapsed() > Duration::from_secs(5) {
        return Err(format!("its end took {:?}", began.elapsed()).into());
    }
    if away == Away::Frozen {
        let pid = i32::try_from(pids.int64_value(&[who as i64]))?;
        kill_process(Pid::from_raw(pid).ok_or("no pid")?, Signal::CONT)?;
    }
    Ok(())
}
