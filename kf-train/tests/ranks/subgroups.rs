//! Groups of some of a group's ranks.

use std::time::Duration;

use kf_core::worker::Workers;
use kf_train::{Backend, Error, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, ranks};
use libtest_mimic::Trial;
use tch::{Kind, Tensor};

use super::collectives::{Failable, floats, joined, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("subgroups", subgroups))
        .with(ranks("splits", splits))
        .with(ranks("subgroup-refusals", refusals))
        .with(ranks("subgroup-absences", absences))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("subgroups::values", |launcher| check(launcher, "subgroups", 4)),
        trial("subgroups::by_color_and_key", |launcher| check(launcher, "splits", 4)),
        trial("subgroups::refusals", |launcher| check(launcher, "subgroup-refusals", 3)),
        trial("subgroups::who_does_not_come_is_named", |launcher| check(launcher, "subgroup-absences", 3)),
    ]
}

async fn check(launcher: LocalLauncher, worker: &'static str, world_size: usize) {
    launcher.run::<()>(Job::ranks(worker, world_size)).await.unwrap();
}

/// The ranks' numbers in the job, as the group's ranks gather them.
fn gathered(group: &ProcessGroup, rank: &Rank) -> Failable<Vec<f64>> {
    floats(&group.all_gather(&Tensor::from(rank.rank() as i64))?)
}

fn subgroups(rank: &Rank, (): ()) -> Failable<()> {
    for (verify, replaceable) in [(false, false), (true, false), (true, true)] {
        let options = GroupOptions { verify, ..GroupOptions::default() };
        let all = joined(rank, options, replaceable)?;
        let own = rank.rank();
        let even = all.subgroup(&[0, 2])?;
        let odd = all.subgroup(&[3, 1])?;
        let most = all.subgroup(&[2, 0, 3])?;
        let alone = all.subgroup(&[1])?;
        same("members", (even.is_some(), odd.is_some()), (own.is_multiple_of(2), own % 2 == 1))?;
        same("members of the others", (most.is_some(), alone.is_some()), (own != 1, own == 1))?;
        for (group, expected) in [(&even, &[0, 2][..]), (&odd, &[3, 1]), (&most, &[2, 0, 3]), (&alone, &[1])]
        {
            let Some(group) = group else { continue };
            same("members", &*group.members(), expected)?;
            same("world size", group.world_size(), expected.len())?;
            same("rank", Some(group.rank()), expected.iter().position(|member| *member == own))?;
            same("gathered", gathered(group, rank)?, expected.iter().map(|rank| *rank as f64).collect())?;
        }
        // In two groups and in all at once.
        let three = Tensor::from_slice(&[own as f32]);
        let of_all = all.all_reduce_async(three.copy(), ReduceOp::Sum)?;
        let of_most =
            most.as_ref().map(|group| group.all_reduce_async(three.copy(), ReduceOp::Sum)).transpose()?;
        let of_even =
            even.as_ref().map(|group| group.all_reduce_async(three.copy(), ReduceOp::Sum)).transpose()?;
        let sum = |work: Option<kf_train::Work>| work.map(|work| floats(&work.wait()?)).transpose();
        same("sum of some", sum(of_even)?, own.is_multiple_of(2).then(|| vec![2.0]))?;
        same("sum of most", sum(of_most)?, (own != 1).then(|| vec![5.0]))?;
        same("sum of all", sum(Some(of_all))?, Some(vec![6.0]))?;
        // A subgroup's subgroup, whose ranks are the subgroup's numbers.
        let Some(most) = most else {
            all.barrier()?;
            continue;
        };
        let inner = most.subgroup(&[2, 0])?;
        same("inner", inner.is_some(), own != 0)?;
        all.barrier()?;
        // It needs neither of them.
        drop((all, most));
        if let Some(inner) = inner {
            same("inner members", inner.members(), vec![3, 2])?;
            same("inner", gathered(&inner, rank)?, vec![3.0, 2.0])?;
        }
        // The store is rank 0's.
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn splits(rank: &Rank, (): ()) -> Failable<()> {
    let all = ProcessGroup::join(rank, Backend::Gloo)?;
    let own = rank.rank();
    let rows = all.split(Some((own / 2) as u64), 0)?.ok_or("no row")?;
    let columns = all.split(Some((own % 2) as u64 + (1 << 63)), -(own as i64))?.ok_or("no column")?;
    same("rows", rows.members(), if own < 2 { vec![0, 1] } else { vec![2, 3] })?;
    same("columns", columns.members(), if own.is_multiple_of(2) { vec![2, 0] } else { vec![3, 1] })?;
    same("row", gathered(&rows, rank)?, rows.members().iter().map(|rank| *rank as f64).collect())?;
    same("column", gathered(&columns, rank)?, columns.members().iter().map(|rank| *rank as f64).collect())?;
    let some = all.split((own != 2).then_some(7), own as i64)?;
    same("some", some.as_ref().map(ProcessGroup::members), (own != 2).then(|| vec![0, 1, 3]))?;
    // Nobody takes it away from those that still connect.
    Ok(all.barrier()?)
}

fn refusals(rank: &Rank, (): ()) -> Failable<()> {
    let options = GroupOptions { verify: true, ..GroupOptions::default() };
    let all = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    for (list, expected) in [
        (&[][..], "subgroup's ranks: found none, expected at least one"),
        (&[0, 1, 0], "subgroup's ranks: found 0 twice, expected each rank once"),
        (&[0, 3], "subgroup's ranks: found 3, expected a rank below 3"),
    ] {
        match all.subgroup(list) {
            Err(error @ Error::Tensor { .. }) => same("refusal", error.to_string(), expected.into())?,
            other => return Err(format!("{other:?}").into()),
        }
    }
    let lists: [&[usize]; 3] = [&[0, 1], &[0, 1], &[1, 0]];
    match all.subgroup(lists[rank.rank()]) {
        Err(error @ Error::Collective { .. }) => {
            let expected = "rank 0 asks for [0,1], and rank 2 for [1,0]";
            same("difference", error.to_string().ends_with(expected), true)?;
        }
        other => return Err(format!("{other:?}").into()),
    }
    // None the worse for it.
    let two = all.subgroup(&[2, 1])?;
    let expected = (rank.rank() != 0).then(|| vec![2.0, 1.0]);
    same("after that", two.map(|group| gathered(&group, rank)).transpose()?, expected)?;
    Ok(all.barrier()?)
}

fn absences(rank: &Rank, (): ()) -> Failable<()> {
    let (join_timeout, timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    let options = GroupOptions { join_timeout, timeout, verify: false, ..GroupOptions::default() };
    let all = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    all.barrier()?;
    let own = rank.rank();
    let two = all.subgroup(&[0, 2])?;
    if own == 2 {
        std::thread::sleep(Duration::from_secs(9));
        return Ok(());
    }
    // Rank 2 does nothing more, neither in the group that it is in nor for another.
    if let Some(two) = two {
        match two.all_reduce(&mut Tensor::ones([2], (Kind::Float, tch::Device::Cpu)), ReduceOp::Sum) {
            Err(error @ Error::CollectiveTimedOut { .. }) => {
                let expected = "all_reduce (call 1 of this group) was not done on rank 0 within 2s: rank 1 was not seen to \
                                make any call";
                same("the error", error.to_string(), expected.into())?;
            }
            other => return Err(format!("{other:?}").into()),
        }
    } else {
        std::thread::sleep(Duration::from_secs(4));
    }
    match all.subgroup(&[0, 1, 2]) {
        Err(error @ Error::NotJoined { .. }) => {
            same("absent", error.to_string(), "rank 2 of 3 did not join within 2s".into())
        }
        other => Err(format!("{other:?}").into()),
    }
}
