//! Collectives as futures: many at once, in several runtimes, dropped, failed.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::future::{join_all, poll_immediate};
use kf_core::worker::Workers;
use kf_train::{Backend, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, Work, ranks};
use libtest_mimic::Trial;
use tch::{Device, Kind, Tensor};

use super::collectives::{Failable, floats, joined, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("works", works))
        .with(ranks("a-work-wakes", |rank: &Rank, (): ()| {
            a_work_wakes(rank, false)?;
            a_work_wakes(rank, true)
        }))
        .with(ranks("works-dropped", |rank: &Rank, (): ()| {
            works_dropped(rank, false)?;
            works_dropped(rank, true)
        }))
        .with(ranks("works-failed", works_failed))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("works::values_on_one_rank", |launcher| check(launcher, "works", 1)),
        trial("works::values_on_two_ranks", |launcher| check(launcher, "works", 2)),
        trial("works::values_on_three_ranks", |launcher| check(launcher, "works", 3)),
        trial("works::the_task_is_woken_and_others_go_on", |launcher| check(launcher, "a-work-wakes", 2)),
        trial("works::they_can_be_dropped_at_any_time", |launcher| check(launcher, "works-dropped", 2)),
        trial("works::their_failures_name_the_missing", |launcher| check(launcher, "works-failed", 3)),
    ]
}

async fn check(launcher: LocalLauncher, worker: &'static str, world_size: usize) {
    launcher.run::<()>(Job::ranks(worker, world_size)).await.unwrap();
}

fn filled(length: i64, value: f64) -> Tensor {
    Tensor::full([length], value, (Kind::Float, Device::Cpu))
}

fn runtime() -> Failable<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Big ones and small ones, all at once; the i-th sum is i times that of the ranks' numbers from 1.
fn sums(group: &ProcessGroup) -> Failable<Vec<Work>> {
    let own = (group.rank() + 1) as f64;
    let length = |i: i64| if i % 7 == 0 { 300_000 } else { 1 + i };
    let work = |i: i64| group.all_reduce_async(filled(length(i), own * i as f64), ReduceOp::Sum);
    Ok((0..64).map(work).collect::<Result<_, _>>()?)
}

fn check_sums(group: &ProcessGroup, sums: Vec<Tensor>) -> Failable<()> {
    let total: usize = (1..=group.world_size()).sum();
    for (i, sum) in sums.iter().enumerate() {
        let ends = (sum.min().double_value(&[]), sum.max().double_value(&[]));
        same("a sum", ends, ((total * i) as f64, (total * i) as f64))?;
    }
    Ok(())
}

fn works(rank: &Rank, (): ()) -> Failable<()> {
    for (verify, replaceable) in [(false, false), (true, false), (false, true), (true, true)] {
        let options = GroupOptions { verify, ..GroupOptions::default() };
        let group = joined(rank, options, replaceable)?;
        let (own, world) = (group.rank(), group.world_size());

        let waited: Result<Vec<_>, _> = sums(&group)?.into_iter().map(Work::wait).collect();
        check_sums(&group, waited?)?;
        let reversed: Result<Vec<_>, _> = sums(&group)?.into_iter().rev().map(Work::wait).collect();
        check_sums(&group, reversed?.into_iter().rev().collect())?;
        let joined = futures::executor::block_on(join_all(sums(&group)?));
        check_sums(&group, joined.into_iter().collect::<Result<_, _>>()?)?;
        let works = sums(&group)?;
        let joined = runtime()?.block_on(join_all(works));
        check_sums(&group, joined.into_iter().collect::<Result<_, _>>()?)?;
        // Works are free to go to other threads.
        let works = sums(&group)?;
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
        let tasks: Vec<_> = works.into_iter().map(|work| threads.spawn(work)).collect();
        let joined = threads.block_on(join_all(tasks));
        let joined: Vec<_> =
            joined.into_iter().map(|done| done.map_err(Box::from)).collect::<Failable<_>>()?;
        check_sums(&group, joined.into_iter().collect::<Result<_, _>>()?)?;

        // One of each kind under way, with a blocking call among them.
        let row = |of: usize| filled(2, of as f64);
        let rows = |of: usize| filled(world as i64, of as f64);
        let mean = group.all_reduce_async(row(own), ReduceOp::Avg)?;
        let first = group.broadcast_async(row(own + 5), world - 1)?;
        let most = group.reduce_async(row(own), 0, ReduceOp::Max)?;
        let gathered = group.all_gather_async(&row(own))?;
        let mut blocking = row(own);
        group.all_reduce(&mut blocking, ReduceOp::Max)?;
        let part = group.reduce_scatter_async(&rows(own), ReduceOp::Avg)?;
        let at_root = group.gather_async(&row(own), 0)?;
        let parts = Tensor::arange(world as i64, (Kind::Float, Device::Cpu)).unsqueeze(1);
        let scattered = group.scatter_async(filled(1, -1.0), (own == 0).then_some(&parts), 0)?;
        let swapped = group.all_to_all_async(&rows(own))?;
        let barrier = group.barrier_async()?;
        let all: Vec<f64> = (0..world).map(|of| of as f64).collect();
        let middle = (world - 1) as f64 / 2.0;
        futures::executor::block_on(async {
            barrier.await?;
            same("all_to_all", floats(&swapped.await?)?, all.clone())?;
            same("scatter", floats(&scattered.await?)?, vec![own as f64])?;
            let root = at_root.await?.map(|all| floats(&all.select(1, 0))).transpose()?;
            same("gather", root, (own == 0).then(|| all.clone()))?;
            same("reduce_scatter", floats(&part.await?)?, vec![middle])?;
            same("all_gather", floats(&gathered.await?.select(1, 1))?, all.clone())?;
            let most = most.await?;
            if own == 0 {
                same("reduce", floats(&most)?, vec![(world - 1) as f64; 2])?;
            }
            same("broadcast", floats(&first.await?)?, vec![(world + 4) as f64; 2])?;
            same("all_reduce", floats(&mean.await?)?, vec![middle; 2])?;
            same("the blocking one", floats(&blocking)?, vec![(world - 1) as f64; 2])
        })?;
    }
    Ok(())
}

/// Counts while a future is pending, in a runtime of one thread: whoever blocks it stops the count.
async fn ticks_until<T>(future: impl Future<Output = T>) -> (T, usize) {
    let ticks = AtomicUsize::new(0);
    let tick = async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            ticks.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut future = pin!(future);
    tokio::select! {
        done = &mut future => (done, ticks.load(Ordering::Relaxed)),
        () = tick => unreachable!("it has no end"),
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the test");
    }
}

fn a_work_wakes(rank: &Rank, replaceable: bool) -> Failable<()> {
    let options = GroupOptions { verify: false, ..GroupOptions::default() };
    let group = joined(rank, options, replaceable)?;
    let runtime = runtime()?;
    if !rank.is_main() {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            group.all_reduce(&mut filled(3, 1.0), ReduceOp::Sum)?;
        }
        return Ok(group.barrier()?);
    }
    let work = group.all_reduce_async(filled(3, 1.0), ReduceOp::Sum)?;
    same("done at once", work.is_completed(), false)?;
    let (sum, ticks) = runtime.block_on(ticks_until(work));
    same("the sum", floats(&sum?)?, vec![2.0; 3])?;
    same("the runtime went on", ticks > 20, true)?;

    // The last waker counts, also where an earlier one was another runtime's.
    let mut work = group.all_reduce_async(filled(3, 1.0), ReduceOp::Sum)?;
    same("a first look", futures::executor::block_on(poll_immediate(&mut work)).is_none(), true)?;
    let sum = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), &mut work).await })?;
    same("the second sum", floats(&sum?)?, vec![2.0; 3])?;
    same("is completed", work.is_completed(), true)?;
    same("once more is an error", futures::executor::block_on(work).is_err(), true)?;

    // A waker that panics in Gloo's thread.
    let mut work = group.all_reduce_async(filled(3, 1.0), ReduceOp::Sum)?;
    let waker = Waker::from(Arc::new(Panics));
    let poll = std::pin::Pin::new(&mut work).poll(&mut Context::from_waker(&waker));
    same("a look with that waker", matches!(poll, Poll::Pending), true)?;
    same("the third sum", floats(&work.wait()?)?, vec![2.0; 3])?;
    Ok(group.barrier()?)
}

fn works_dropped(rank: &Rank, replaceable: bool) -> Failable<()> {
    let options = GroupOptions { verify: false, ..GroupOptions::default() };
    let group = joined(rank, options, replaceable)?;
    let began = Instant::now();
    // Neither the tensor nor the work is there when the other rank comes.
    if rank.is_main() {
        for _ in 0..20 {
            drop(group.all_reduce_async(filled(200_000, 1.0), ReduceOp::Sum)?);
        }
        let mut polled = group.all_reduce_async(filled(200_000, 1.0), ReduceOp::Sum)?;
        same("a look", futures::executor::block_on(poll_immediate(&mut polled)).is_none(), true)?;
        drop(polled);
        same("at once", began.elapsed() < Duration::from_secs(5), true)?;
    } else {
        std::thread::sleep(Duration::from_secs(6));
        for _ in 0..21 {
            let sum = group.all_reduce_async(filled(200_000, 1.0), ReduceOp::Sum)?.wait()?;
            same("a sum with a dropped one", sum.max().double_value(&[]), 2.0)?;
        }
    }
    let mut sum = filled(2, 1.0);
    group.all_reduce(&mut sum, ReduceOp::Sum)?;
    same("the sum", floats(&sum)?, vec![2.0; 2])?;
    // A work outlives its group, which waits for it.
    let last = group.all_reduce_async(filled(2, 3.0), ReduceOp::Sum)?;
    if !rank.is_main() {
        std::thread::sleep(Duration::from_millis(300));
    }
    drop(group);
    same("is completed", last.is_completed(), true)?;
    same("the last sum", floats(&last.wait()?)?, vec![6.0; 2])
}

/// Rank 2 makes one call less than the others.
fn works_failed(rank: &Rank, (): ()) -> Failable<()> {
    let options = GroupOptions { timeout: Duration::from_secs(2), verify: false, ..GroupOptions::default() };
    let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    group.barrier()?;
    if rank.rank() == 2 {
        group.all_reduce(&mut filled(2, 1.0), ReduceOp::Sum)?;
        std::thread::sleep(Duration::from_secs(20));
        return Ok(());
    }
    let begun: Vec<_> =
        (0..4).map(|_| group.all_reduce_async(filled(2, 1.0), ReduceOp::Sum)).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let (ends, ticks) = runtime()?.block_on(ticks_until(join_all(begun)));
    same("in time", began.elapsed() < Duration::from_secs(15), true)?;
    // Neither waiting nor looking after the others holds the runtime up.
    same("the runtime went on", ticks > 20, true)?;
    if rank.is_main() {
        // It serves the store that the other looks into, a little later perhaps.
        std::thread::sleep(Duration::from_secs(5));
    }
    let mut ends = ends.into_iter();
    same("the first", ends.next().is_some_and(|end| end.is_ok()), true)?;
    let text = ends.next().and_then(Result::err).ok_or("the second was done")?.to_string();
    let call = "all_reduce (call 3 of this group)";
    let told = "rank 2 was last seen after call 2 (all_reduce)";
    let timed_out = text == format!("{call} was not done on rank {} within 2s: {told}", rank.rank());
    // The other rank's time may have run out a little earlier.
    let closed =
        text.starts_with(&format!("{call} failed on rank {}: ", rank.rank())) && text.ends_with(told);
    same(&text, timed_out || closed, true)?;
    for end in ends {
        same("one after a failed one", end.is_err(), true)?;
    }
    Ok(())
}
