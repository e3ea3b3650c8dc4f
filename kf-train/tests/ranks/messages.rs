//! Messages under way: in rings that all send first, in order, mixed with blocking ones, late, unfit, given up.

use std::time::{Duration, Instant};

use futures::future::{poll_immediate, try_join_all};
use kf_core::worker::Workers;
use kf_train::{Backend, Error, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, ranks};
use libtest_mimic::Trial;
use tch::{Device, Kind, Tensor};

use super::collectives::{Failable, floats, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("messages", messages))
        .with(ranks("late-messages", late))
        .with(ranks("unfit-messages", unfit))
        .with(ranks("messages-given-up", given_up))
        .with(ranks("messages-dropped", dropped))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("messages::rings_that_all_send_first_on_two_ranks", |launcher| check(launcher, "messages", 2)),
        trial("messages::rings_that_all_send_first_on_three_ranks", |launcher| {
            check(launcher, "messages", 3)
        }),
        trial("messages::who_does_not_send_is_named_and_holds_no_other_up", |launcher| {
            check(launcher, "late-messages", 3)
        }),
        trial("messages::what_does_not_fit_is_an_error_and_leaves_the_tensor", |launcher| {
            check(launcher, "unfit-messages", 2)
        }),
        trial("messages::what_was_begun_is_sent_though_the_group_is_dropped", |launcher| {
            check(launcher, "messages-dropped", 2)
        }),
        trial("messages::those_under_way_end_with_a_group_that_is_given_up", |launcher| {
            check(launcher, "messages-given-up", 2)
        }),
    ]
}

/// What was begun is sent though the group is dropped.
fn dropped(rank: &Rank, (): ()) -> Failable<()> {
    for group in groups(rank, Duration::from_secs(30)) {
        let group = group?;
        if rank.rank() == 1 {
            for value in 0..3 {
                // Nobody waits for it.
                drop(group.send_async(&filled(1 << 20, f64::from(value)), 0)?);
            }
            drop(group);
            continue;
        }
        std::thread::sleep(Duration::from_millis(300));
        for value in 0..3 {
            let mut received = filled(1 << 20, -1.0);
            group.recv(&mut received, 1)?;
            same("what was sent", ends(&received), (f64::from(value), f64::from(value)))?;
        }
    }
    Ok(())
}

async fn check(launcher: LocalLauncher, worker: &'static str, world_size: usize) {
    launcher.run::<()>(Job::ranks(worker, world_size)).await.unwrap();
}

fn filled(length: i64, value: f64) -> Tensor {
    Tensor::full([length], value, (Kind::Float, Device::Cpu))
}

fn ends(tensor: &Tensor) -> (f64, f64) {
    (tensor.min().double_value(&[]), tensor.max().double_value(&[]))
}

/// Over Gloo, over Gloo as a replaceable group, and over shared memory, one after another.
fn groups(rank: &Rank, timeout: Duration) -> impl Iterator<Item = kf_train::Result<ProcessGroup>> {
    let options = GroupOptions { timeout, ..GroupOptions::default() };
    let ways = [(Backend::Gloo, false), (Backend::Gloo, true), (Backend::SharedMemory, false)];
    ways.into_iter().map(move |(backend, replaceable)| {
        let group = ProcessGroup::join_with(rank, backend, options)?;
        if replaceable { group.replaceable() } else { Ok(group) }
    })
}

fn messages(rank: &Rank, (): ()) -> Failable<()> {
    for group in groups(rank, Duration::from_secs(60)) {
        let group = group?;
        let (own, world) = (group.rank(), group.world_size());
        let (next, previous) = ((own + 1) % world, (own + world - 1) % world);
        // Long and short ones, in both directions at once; the long ones don't fit into any buffer on the way.
        let length = |nth: i64| match nth {
            0 | 5 | 10 => 4 << 20,
            7 => 0,
            _ => nth,
        };
        let value = |of: usize, nth: i64| (100 * of) as f64 + nth as f64;
        let begin_sends = |to: usize| {
            let send = |nth| group.send_async(&filled(length(nth), value(own, nth)), to);
            (0..12).map(send).collect::<Result<Vec<_>, _>>()
        };
        let begin_receipts = |from: usize| {
            let receive = |nth| group.recv_async(filled(length(nth), -1.0), from);
            (0..12).map(receive).collect::<Result<Vec<_>, _>>()
        };
        let sends = begin_sends(next)?;
        let receipts = begin_receipts(previous)?;
        // A collective goes its own way.
        let mut sum = Tensor::from(1.0);
        group.all_reduce(&mut sum, ReduceOp::Sum)?;
        same("a sum meanwhile", sum.double_value(&[]), world as f64)?;
        // Blocking ones wait for their turns behind those under way, with which they share their ways.
        let after = |nth: i64| filled(3, value(own, nth));
        let send = || {
            group.send_async(&after(12), next)?.wait()?;
            group.send(&after(13), next)
        };
        if own % 2 == 0 {
            send()?;
        }
        for nth in [12, 13] {
            let mut last = filled(3, -1.0);
            group.recv(&mut last, previous)?;
            same("a late one", ends(&last), (value(previous, nth), value(previous, nth)))?;
        }
        if own % 2 == 1 {
            send()?;
        }
        let received = futures::executor::block_on(try_join_all(receipts))?;
        for (nth, received) in received.iter().enumerate() {
            let nth = nth as i64;
            same("its length", received.size1()?, length(nth))?;
            if nth != 7 {
                same("a message", ends(received), (value(previous, nth), value(previous, nth)))?;
            }
        }
        for send in sends {
            send.wait()?;
        }
        group.barrier()?;
    }
    Ok(())
}

/// Rank 1 sends nothing; rank 2 does, and is received from meanwhile.
fn late(rank: &Rank, (): ()) -> Failable<()> {
    let timeout = Duration::from_secs(3);
    for backend in [Backend::Gloo, Backend::SharedMemory] {
        let options = GroupOptions { timeout, verify: false, ..GroupOptions::default() };
        let group = ProcessGroup::join_with(rank, backend, options)?;
        match rank.rank() {
            0 => {
                let began = Instant::now();
                let mut never = group.recv_async(filled(2, 0.0), 1)?;
                let other = group.recv_async(filled(2, 0.0), 2)?.wait()?;
                same("rank 2's", floats(&other)?, vec![7.0; 2])?;
                same("it is done", never.is_completed(), false)?;
                let early = futures::executor::block_on(poll_immediate(&mut never));
                same("it has ended", early.is_some(), false)?;
                let ended = futures::executor::block_on(never);
                let took = began.elapsed();
                let Err(error @ Error::CollectiveTimedOut { operation: "recv", .. }) = ended else {
                    return Err(format!("{ended:?}").into());
                };
                let told = error.to_string();
                if took < timeout || took > 2 * timeout || !told.contains("rank 1") {
                    return Err(format!("{took:?}: {told}").into());
                }
            }
            1 => std::thread::sleep(timeout + Duration::from_secs(2)),
            _ => {
                std::thread::sleep(Duration::from_millis(300));
                group.send_async(&filled(2, 7.0), 0)?.wait()?;
                std::thread::sleep(timeout + Duration::from_secs(1));
            }
        }
        drop(group);
    }
    Ok(())
}

fn unfit(rank: &Rank, (): ()) -> Failable<()> {
    for group in groups(rank, Duration::from_secs(5)) {
        let group = group?;
        if rank.rank() == 1 {
            // More than a description takes.
            let sends: Vec<_> =
                (0..3).map(|_| group.send_async(&filled(400, 5.0), 0)).collect::<Result<_, _>>()?;
            for sent in sends {
                // Rank 1 need not learn of it.
                let _ = sent.wait();
            }
            continue;
        }
        let to_receive = filled(2, 1.0);
        let first = group.recv_async(to_receive.shallow_clone(), 1)?;
        // What is left of the first must not come here.
        let fitting = filled(400, 1.0);
        let began = Instant::now();
        let behind: Vec<_> =
            (0..20).map(|_| group.recv_async(fitting.shallow_clone(), 1)).collect::<Result<_, _>>()?;
        let told = first.wait().map(drop).unwrap_err().to_string();
        let expected = "rank 1 sends Float [400], and Float [2] is to be received";
        if !told.contains(expected) {
            return Err(told.into());
        }
        same("what was there", floats(&to_receive)?, vec![1.0; 2])?;
        for work in behind {
            // In an executor, which another kind of wait would not bear.
            let told = futures::executor::block_on(async { work.wait() }).map(drop).unwrap_err().to_string();
            if !told.contains("before it on the same way has failed") || !told.contains(expected) {
                return Err(told.into());
            }
        }
        let told = group.recv(&mut filled(400, 1.0), 1).unwrap_err().to_string();
        same("a blocking one behind it", told.contains("before it on the same way"), true)?;
        same("what was there for the second", ends(&fitting), (1.0, 1.0))?;
        if began.elapsed() > Duration::from_secs(4) {
            return Err(format!("the ends took {:?}", began.elapsed()).into());
        }
    }
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let itself = group.send_async(&filled(1, 0.0), rank.rank()).map(drop).unwrap_err().to_string();
    same("refused at once", itself.contains("which is this one, expected another rank"), true)?;
    group.barrier()?;
    Ok(())
}

fn given_up(rank: &Rank, (): ()) -> Failable<()> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?.replaceable()?;
    let receipt = group.recv_async(filled(2, 0.0), 1 - rank.rank())?;
    let queued = group.recv_async(filled(2, 0.0), 1 - rank.rank())?;
    let began = Instant::now();
    if rank.is_main() {
        std::thread::sleep(Duration::from_millis(200));
        group.aborter()?.abort("enough")?;
    }
    let told = receipt.wait().map(drop).unwrap_err().to_string();
    // The other rank sees that a connection was closed.
    if rank.is_main() && !told.contains("enough") {
        return Err(told.into());
    }
    let behind = queued.wait().map(drop).unwrap_err().to_string();
    same("what is behind it", behind.contains("before it on the same way has failed"), true)?;
    if began.elapsed() > Duration::from_secs(10) {
        return Err(format!("after {:?}", began.elapsed()).into());
    }
    let again = group.regroup(&[0, 1], 1, GroupOptions::default())?;
    group.replace(again)?;
    let other = 1 - rank.rank();
    let (sent, received) =
        (group.send_async(&filled(2, rank.rank() as f64), other)?, group.recv_async(filled(2, -1.0), other)?);
    same("after it", floats(&received.wait()?)?, vec![other as f64; 2])?;
    sent.wait()?;
    group.barrier()?;
    Ok(())
}
