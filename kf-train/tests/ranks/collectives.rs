//! Two or three real ranks over Gloo: every collective's values, and how it fails.

use std::time::{Duration, Instant};

use kf_core::worker::Workers;
use kf_train::{
    Backend, Error, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, Result, ranks,
};
use libtest_mimic::Trial;
use tch::{Kind, Tensor};

use super::trial;

pub(crate) type Failable<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("values", values))
        .with(ranks("refusals", refusals))
        .with(ranks("late-for-a-barrier", late_for_a_barrier))
        .with(ranks("killed-in-a-collective", killed_in_a_collective))
        .with(ranks("never-joins", never_joins))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("collectives::values_on_two_ranks", |launcher| check_values(launcher, 2, false)),
        trial("collectives::values_on_three_ranks", |launcher| check_values(launcher, 3, false)),
        trial("collectives::values_on_one_rank", |launcher| check_values(launcher, 1, false)),
        trial("collectives::values_of_a_replaceable_group", |launcher| check_values(launcher, 3, true)),
        trial("collectives::refusals", check_refusals),
        trial("collectives::timeout_is_an_error", timeout_is_an_error),
        trial("collectives::a_killed_rank_is_named", a_killed_rank_is_named),
        trial("collectives::rank_1_never_joins", |launcher| never_joining_is_named(launcher, 1)),
        trial("collectives::rank_0_never_joins", |launcher| never_joining_is_named(launcher, 0)),
        trial("collectives::many_groups_at_once", many_groups_at_once),
    ]
}

pub(crate) fn joined(rank: &Rank, options: GroupOptions, replaceable: bool) -> Result<ProcessGroup> {
    let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    if replaceable { group.replaceable() } else { Ok(group) }
}

pub(crate) fn floats(tensor: &Tensor) -> Failable<Vec<f64>> {
    Ok(Vec::try_from(tensor.flatten(0, -1).to_kind(Kind::Double))?)
}

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Failable<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, expected {expected:?}").into())
}

/// Each rank holds `[[1, 2], [3, 4], [5, 6]] × (rank + 1)`, cut to as many rows as there are ranks.
fn values(rank: &Rank, replaceable: bool) -> Failable<usize> {
    let group = joined(rank, GroupOptions::default(), replaceable)?;
    let (own, world) = (group.rank(), group.world_size());
    same("rank and world size", (own, world), (rank.rank(), rank.world_size()))?;
    let rows = world as i64;
    for kind in [Kind::Float, Kind::Double, Kind::Int64] {
        let base: Vec<f64> = (1..=2 * rows).map(|value| value as f64).collect();
        let tensor = |of: usize| (Tensor::from_slice(&base).view([rows, 2]) * (of + 1) as f64).to_kind(kind);
        let total: f64 = (1..=world).map(|factor| factor as f64).sum();
        let scaled = |factor: f64| base.iter().map(|value| value * factor).collect::<Vec<_>>();

        for root in 0..world {
            let mut given = tensor(own);
            group.broadcast(&mut given, root)?;
            same("broadcast", floats(&given)?, scaled((root + 1) as f64))?;
        }
        let mut cases = vec![(ReduceOp::Sum, total), (ReduceOp::Min, 1.0), (ReduceOp::Max, world as f64)];
        if kind != Kind::Int64 {
            cases.push((ReduceOp::Avg, total / world as f64));
        }
        for (op, factor) in cases {
            let mut reduced = tensor(own);
            group.all_reduce(&mut reduced, op)?;
            same("all_reduce", floats(&reduced)?, scaled(factor))?;
            let part = group.reduce_scatter(&tensor(own), op)?;
            same("reduce_scatter's shape", part.size(), vec![1, 2])?;
            same("reduce_scatter", floats(&part)?, scaled(factor)[2 * own..2 * own + 2].to_vec())?;
        }
        let all = group.all_gather(&tensor(own))?;
        same("all_gather's shape", all.size(), vec![rows, rows, 2])?;
        same("all_gather", floats(&all)?, (1..=world).flat_map(|factor| scaled(factor as f64)).collect())?;
    }
    let scalar = group.all_gather(&Tensor::from(own as f64))?;
    same("all_gather of scalars", floats(&scalar)?, (0..world).map(|rank| rank as f64).collect())?;
    let mut big = Tensor::ones([3_000_001], (Kind::Float, tch::Device::Cpu));
    group.all_reduce(&mut big, ReduceOp::Sum)?;
    same("a big sum", big.sum(Kind::Double).double_value(&[]), 3_000_001.0 * world as f64)?;
    // Parameters can be given as they are.
    let mut parameter = Tensor::from_slice(&[own as f32]).set_requires_grad(true);
    group.all_reduce(&mut parameter, ReduceOp::Avg)?;
    same("a parameter", floats(&parameter.detach())?, vec![(world - 1) as f64 / 2.0])?;
    group.barrier()?;
    Ok(world)
}

async fn check_values(launcher: LocalLauncher, world_size: usize, replaceable: bool) {
    let job = Job::ranks("values", world_size).args(&replaceable);
    assert_eq!(launcher.run::<usize>(job).await.unwrap(), world_size);
}

fn refusals(rank: &Rank, (): ()) -> Failable<Vec<String>> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let mut texts = Vec::new();
    let mut refused = |result: Result<()>| match result {
        Err(error @ Error::Tensor { .. }) => texts.push(error.to_string()),
        other => texts.push(format!("{other:?}")),
    };
    refused(group.all_reduce(&mut Tensor::from_slice(&[1_i64]), ReduceOp::Avg));
    refused(group.broadcast(&mut Tensor::ones([2, 3], (Kind::Float, tch::Device::Cpu)).transpose(0, 1), 0));
    refused(group.broadcast(&mut Tensor::from(1.0), 2));
    refused(group.reduce_scatter(&Tensor::from_slice(&[1.0, 2.0, 3.0]), ReduceOp::Sum).map(drop));
    refused(group.reduce_scatter(&Tensor::from(1.0), ReduceOp::Sum).map(drop));
    // The group is none the worse for it.
    group.barrier()?;
    Ok(texts)
}

async fn check_refusals(launcher: LocalLauncher) {
    let texts: Vec<String> = launcher.run(Job::ranks("refusals", 2)).await.unwrap();
    assert_eq!(
        texts,
        [
            "all_reduce's tensor: found type Int64, expected floating point for a mean",
            "broadcast's tensor: found strides [1, 3], expected a contiguous one: call contiguous() first",
            "broadcast's root: found 2, expected a rank below 2",
            "reduce_scatter's tensor: found shape [3], expected a first dimension that is a multiple of 2",
            "reduce_scatter's tensor: found shape [], expected a first dimension that is a multiple of 2",
        ]
    );
}

fn short(seconds: u64) -> GroupOptions {
    GroupOptions { timeout: Duration::from_secs(seconds), ..GroupOptions::default() }
}

fn late_for_a_barrier(rank: &Rank, (): ()) -> Failable<String> {
    let group = ProcessGroup::join_with(rank, Backend::Gloo, short(1))?;
    if rank.rank() == 1 {
        std::thread::sleep(Duration::from_secs(4));
        return Ok(String::new());
    }
    let mut tensor = Tensor::from(1.0);
    match group.all_reduce(&mut tensor, ReduceOp::Sum) {
        Err(error @ Error::CollectiveTimedOut { .. }) => Ok(error.to_string()),
        other => Err(format!("{other:?}").into()),
    }
}

async fn timeout_is_an_error(launcher: LocalLauncher) {
    let text: String = launcher.run(Job::ranks("late-for-a-barrier", 2)).await.unwrap();
    let expected = "all_reduce (call 1 of this group) was not done on rank 0 within 1s: rank 1 was not seen to make any call";
    assert_eq!(text, expected);
}

fn killed_in_a_collective(rank: &Rank, (): ()) -> Failable<()> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let mut tensor = Tensor::ones([1_000_000], (Kind::Float, tch::Device::Cpu));
    for round in 0.. {
        if rank.rank() == 1 && round == 20 {
            println!("round {round}");
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        }
        group.all_reduce(&mut tensor, ReduceOp::Max)?;
    }
    Ok(())
}

/// The others fail within milliseconds of it, and are not blamed.
async fn a_killed_rank_is_named(launcher: LocalLauncher) {
    for _ in 0..3 {
        let began = Instant::now();
        let error = launcher.run::<()>(Job::ranks("killed-in-a-collective", 3)).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("rank 1 of 3 ended with signal 9 (SIGKILL); its last lines:\n  round 20"),
            "{text}"
        );
        assert!(began.elapsed() < Duration::from_secs(60), "not by a timeout");
    }
}

fn never_joins(rank: &Rank, absent: usize) -> Failable<()> {
    if rank.rank() == absent {
        std::thread::sleep(Duration::from_secs(600));
    }
    let options = GroupOptions { join_timeout: Duration::from_secs(2), ..GroupOptions::default() };
    ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    Ok(())
}

async fn never_joining_is_named(launcher: LocalLauncher, absent: usize) {
    let error = launcher.run::<()>(Job::ranks("never-joins", 2).args(&absent)).await.unwrap_err();
    let expected = format!("rank {absent} of 2 did not join within 2s");
    assert!(error.to_string().contains(&expected), "{error}");
}

/// Jobs side by side never meet at one another's port.
async fn many_groups_at_once(launcher: LocalLauncher) {
    let jobs = (0..6).map(|_| launcher.run::<usize>(Job::ranks("values", 2).args(&false)));
    let results = futures::future::join_all(jobs).await;
    assert!(results.iter().all(|result| matches!(result, Ok(2))), "{results:?}");
}
