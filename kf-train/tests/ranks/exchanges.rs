//! The collectives with a root, between two ranks, and of parts; time that runs out in each; groups after groups.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kf_core::worker::Workers;
use kf_train::{
    Backend, Error, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, Result, ranks,
};
use libtest_mimic::Trial;
use tch::{Device, Kind, Tensor};

use super::collectives::{Failable, floats, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    let workers = workers
        .with(ranks("exchanges", exchanges))
        .with(ranks("exchange-refusals", refusals))
        .with(ranks("late-for-each", late_for_each))
        .with(ranks("what-does-not-fit", what_does_not_fit))
        .with(ranks("one-late-for-the-meeting", one_late_for_the_meeting));
    #[cfg(feature = "nccl")]
    let workers = workers.with(ranks("nccl-without-a-gpu", nccl_without_a_gpu));
    workers
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("exchanges::values_on_two_ranks", |launcher| check_values(launcher, 2)),
        trial("exchanges::values_on_three_ranks", |launcher| check_values(launcher, 3)),
        trial("exchanges::values_on_one_rank", |launcher| check_values(launcher, 1)),
        trial("exchanges::refusals", check_refusals),
        trial("exchanges::time_runs_out_in_each_and_new_groups_work", time_runs_out_in_each),
        trial("exchanges::what_does_not_fit_is_an_error", misfits_are_errors),
        trial("exchanges::a_join_that_timed_out_is_made_again", joins_are_made_again),
        #[cfg(feature = "nccl")]
        trial("exchanges::nccl_without_a_gpu_is_refused", nccl_is_refused),
    ]
}

/// Rank r holds `[[100 r + 0, 100 r + 1], …]`, as many rows as there are ranks.
fn exchanges(rank: &Rank, (): ()) -> Failable<usize> {
    // No time is too long.
    let options = GroupOptions {
        join_timeout: Duration::MAX,
        timeout: Duration::MAX,
        verify: false,
        ..GroupOptions::default()
    };
    let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    let (own, world) = (group.rank(), group.world_size());
    same("device", group.device(), Device::Cpu)?;
    let row = |of: usize, part: usize| [(100 * of + 2 * part) as f64, (100 * of + 2 * part + 1) as f64];
    let whole = |of: usize| (0..world).flat_map(|part| row(of, part)).collect::<Vec<_>>();
    for kind in [Kind::Float, Kind::Double, Kind::Int64] {
        let tensor = |of: usize| Tensor::from_slice(&whole(of)).view([world as i64, 2]).to_kind(kind);
        let all: Vec<f64> = (0..world).flat_map(whole).collect();

        let mut output = Tensor::zeros([world as i64, world as i64, 2], (kind, Device::Cpu));
        group.all_gather_into(&mut output, &tensor(own))?;
        same("all_gather_into", floats(&output)?, all.clone())?;

        let exchanged = group.all_to_all(&tensor(own))?;
        same("all_to_all's shape", exchanged.size(), vec![world as i64, 2])?;
        same("all_to_all", floats(&exchanged)?, (0..world).flat_map(|of| row(of, own)).collect())?;

        for root in 0..world {
            let gathered = group.gather(&tensor(own), root)?;
            same("gather's root", gathered.is_some(), own == root)?;
            if let Some(gathered) = gathered {
                same("gather's shape", gathered.size(), vec![world as i64, world as i64, 2])?;
                same("gather", floats(&gathered)?, all.clone())?;
            }

            let mut part = Tensor::zeros([2], (kind, Device::Cpu));
            let parts = (own == root).then(|| tensor(root));
            group.scatter(&mut part, parts.as_ref(), root)?;
            same("scatter", floats(&part)?, row(root, own).to_vec())?;

            let sums: Vec<f64> = (0..2 * world).map(|i| (0..world).map(|of| whole(of)[i]).sum()).collect();
            let mut cases = vec![
                (ReduceOp::Sum, sums.clone()),
                (ReduceOp::Min, whole(0)),
                (ReduceOp::Max, whole(world - 1)),
            ];
            if kind != Kind::Int64 {
                cases.push((ReduceOp::Avg, sums.iter().map(|sum| sum / world as f64).collect()));
            }
            for (op, expected) in cases {
                let mut reduced = tensor(own);
                group.reduce(&mut reduced, root, op)?;
                if own == root {
                    same("reduce", floats(&reduced)?, expected)?;
                }
            }
        }

        // In a ring: even ranks send first.
        if world > 1 {
            let (next, previous) = ((own + 1) % world, (own + world - 1) % world);
            let mut received = Tensor::zeros([world as i64, 2], (kind, Device::Cpu));
            // Two in a row, which must not change places.
            let send = || {
                group.send(&tensor(own), next)?;
                group.send(&(tensor(own) + 7), next)
            };
            if own % 2 == 0 {
                send()?;
            }
            group.recv(&mut received, previous)?;
            same("recv", floats(&received)?, whole(previous))?;
            group.recv(&mut received, previous)?;
            same("the second recv", floats(&(&received - 7))?, whole(previous))?;
            if own % 2 == 1 {
                send()?;
            }
        }
    }
    let scalars = group.gather(&Tensor::from(own as f64), 0)?;
    if let Some(scalars) = scalars {
        same("gather of scalars", floats(&scalars)?, (0..world).map(|rank| rank as f64).collect())?;
    }
    group.barrier()?;
    Ok(world)
}

async fn check_values(launcher: LocalLauncher, world_size: usize) {
    assert_eq!(launcher.run::<usize>(Job::ranks("exchanges", world_size)).await.unwrap(), world_size);
}

fn refusals(rank: &Rank, (): ()) -> Failable<Vec<String>> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let own = group.rank();
    let mut texts = Vec::new();
    let mut refused = |result: Result<()>| match result {
        Err(error @ Error::Tensor { .. }) => texts.push(error.to_string()),
        other => texts.push(format!("{other:?}")),
    };
    let floats = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    refused(group.reduce(&mut Tensor::from_slice(&[1_i64]), 0, ReduceOp::Avg));
    refused(group.gather(&floats(&[2]), 2).map(drop));
    refused(group.scatter(&mut floats(&[2]), (own != 0).then(|| floats(&[2, 2])).as_ref(), 0));
    refused(group.scatter(&mut floats(&[2]), Some(&floats(&[2, 3])), own));
    refused(group.scatter(&mut floats(&[2]), Some(&Tensor::from_slice(&[1_i64, 2, 3, 4]).view([2, 2])), own));
    refused(group.all_gather_into(&mut floats(&[3, 2]), &floats(&[2])));
    refused(group.all_to_all(&floats(&[3, 2])).map(drop));
    refused(group.send(&floats(&[2]), own));
    refused(group.recv(&mut floats(&[2]), 7));
    // The group is none the worse for it.
    group.barrier()?;
    Ok(texts)
}

async fn check_refusals(launcher: LocalLauncher) {
    let texts: Vec<String> = launcher.run(Job::ranks("exchange-refusals", 2)).await.unwrap();
    assert_eq!(
        texts,
        [
            "reduce's tensor: found type Int64, expected floating point for a mean",
            "gather's root: found 2, expected a rank below 2",
            "scatter's parts: found none, expected a tensor, for this rank is the root",
            "scatter's parts: found Float [2, 3], expected Float [2, 2]",
            "scatter's parts: found Int64 [2, 2], expected Float [2, 2]",
            "all_gather_into's output: found Float [3, 2], expected Float [2, 2]",
            "all_to_all's tensor: found shape [3, 2], expected a first dimension that is a multiple of 2",
            "send's rank: found 0, which is this one, expected another rank",
            "recv's rank: found 7, expected a rank below 2",
        ]
    );
}

type Call = fn(&ProcessGroup, &mut Tensor) -> Result<()>;

/// What rank 0 can't do without rank 1. A small message is sent before anyone takes it.
const CALLS: &[(&str, Call)] = &[
    ("broadcast", |group, tensor| group.broadcast(tensor, 1)),
    ("all_reduce", |group, tensor| group.all_reduce(tensor, ReduceOp::Sum)),
    ("reduce", |group, tensor| group.reduce(tensor, 0, ReduceOp::Sum)),
    ("all_gather", |group, tensor| group.all_gather(tensor).map(drop)),
    ("all_gather_into", |group, tensor| {
        group.all_gather_into(&mut Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)), tensor)
    }),
    ("reduce_scatter", |group, tensor| group.reduce_scatter(tensor, ReduceOp::Sum).map(drop)),
    ("gather", |group, tensor| group.gather(tensor, 0).map(drop)),
    ("scatter", |group, tensor| group.scatter(tensor, None, 1)),
    ("all_to_all", |group, tensor| group.all_to_all(tensor).map(drop)),
    ("send", |group, _| group.send(&Tensor::zeros([64 << 20], (Kind::Float, Device::Cpu)), 1)),
    ("recv", |group, tensor| group.recv(tensor, 1)),
    ("barrier", |group, _| group.barrier()),
];

/// In each group the ranks first work together, and then rank 1 stays away until rank 0 has given up.
fn late_for_each(rank: &Rank, (): ()) -> Failable<Vec<String>> {
    let options = GroupOptions { timeout: Duration::from_secs(1), verify: false, ..GroupOptions::default() };
    let mut texts = Vec::new();
    for (name, call) in CALLS {
        let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
        let mut tensor = Tensor::from_slice(&[1.0_f32, 2.0]);
        if rank.is_main() {
            match call(&group, &mut tensor) {
                Err(error @ Error::CollectiveTimedOut { .. }) => texts.push(error.to_string()),
                other => return Err(format!("{name}: {other:?}").into()),
            }
        } else {
            std::thread::sleep(Duration::from_secs(2));
        }
    }
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let mut tensor = Tensor::from_slice(&[1.0_f32]);
    group.all_reduce(&mut tensor, ReduceOp::Sum)?;
    same("the last group's sum", floats(&tensor)?, vec![2.0])?;
    Ok(texts)
}

async fn time_runs_out_in_each(launcher: LocalLauncher) {
    let texts: Vec<String> = launcher.run(Job::ranks("late-for-each", 2)).await.unwrap();
    assert_eq!(texts.len(), CALLS.len());
    for (text, (name, _)) in texts.iter().zip(CALLS) {
        let call = if matches!(*name, "send" | "recv") { "" } else { " (call 1 of this group)" };
        let expected =
            format!("{name}{call} was not done on rank 0 within 1s: rank 1 was not seen to make any call");
        assert_eq!(text, &expected);
    }
}

/// In each case the ranks differ; both get an error, and the group goes on.
fn what_does_not_fit(rank: &Rank, (): ()) -> Failable<Vec<String>> {
    let options = GroupOptions { timeout: Duration::from_secs(20), verify: true, ..GroupOptions::default() };
    let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    let own = rank.rank();
    let floats = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let mut texts = Vec::new();
    let mut refused = |result: Result<()>| match result {
        Err(error @ Error::Collective { .. }) => texts.push(error.to_string()),
        other => texts.push(format!("{other:?}")),
    };
    refused(group.all_reduce(&mut floats(&[2 + own as i64]), ReduceOp::Sum));
    refused(group.all_reduce(&mut floats(&[2]), if own == 0 { ReduceOp::Sum } else { ReduceOp::Max }));
    refused(group.broadcast(&mut floats(&[2]), own));
    refused(match own {
        0 => group.all_gather(&floats(&[2, 2])).map(drop),
        _ => group.all_to_all(&floats(&[2, 2])).map(drop),
    });
    group.barrier()?;
    drop(group);
    // More, another type, and less than is sent; rank 1 need not learn of it.
    for to_receive in [floats(&[4]), floats(&[2]).to_kind(Kind::Int64), floats(&[1])] {
        let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
        if own == 1 {
            match group.send(&(floats(&[2]) * 5), 0) {
                Ok(()) | Err(Error::Collective { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        let mut tensor = to_receive.copy();
        refused(group.recv(&mut tensor, 1));
        same("what was there", tensor.equal(&to_receive), true)?;
    }
    Ok(texts)
}

async fn misfits_are_errors(launcher: LocalLauncher) {
    let texts: Vec<String> = launcher.run(Job::ranks("what-does-not-fit", 2)).await.unwrap();
    let expected = [
        "all_reduce failed on rank 0: rank 0 is at all_reduce by Sum of Float [2], and rank 1 at all_reduce by Sum of \
         Float [3]",
        "all_reduce failed on rank 0: rank 0 is at all_reduce by Sum of Float [2], and rank 1 at all_reduce by Max of \
         Float [2]",
        "broadcast failed on rank 0: rank 0 is at broadcast from rank 0 of Float [2], and rank 1 at broadcast from \
         rank 1 of Float [2]",
        "all_gather failed on rank 0: rank 0 is at all_gather of Float [2, 2], and rank 1 at all_to_all of Float [2, 2]",
        "recv failed on rank 0: rank 1 sends Float [2], and Float [4] is to be received",
        "recv failed on rank 0: rank 1 sends Float [2], and Int64 [2] is to be received",
        "recv failed on rank 0: rank 1 sends Float [2], and Float [1] is to be received",
    ];
    assert_eq!(texts, expected);
}

/// Each rank in turn comes late, and the other's join has timed out by then.
fn one_late_for_the_meeting(rank: &Rank, folder: PathBuf) -> Failable<Vec<String>> {
    let mut texts = Vec::new();
    for (round, late) in [1, 0, 0, 1].into_iter().enumerate() {
        let given_up = folder.join(round.to_string());
        if rank.rank() == late {
            let began = Instant::now();
            while !given_up.exists() && began.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(50));
            }
        } else {
            let options = GroupOptions { join_timeout: Duration::from_secs(1), ..GroupOptions::default() };
            match ProcessGroup::join_with(rank, Backend::Gloo, options) {
                Err(error @ Error::NotJoined { .. }) => texts.push(error.to_string()),
                other => return Err(format!("no timeout: {other:?}").into()),
            }
            std::fs::write(given_up, "")?;
        }
        let options = GroupOptions { join_timeout: Duration::from_secs(30), ..GroupOptions::default() };
        let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
        let mut tensor = Tensor::from_slice(&[1.0_f32]);
        group.all_reduce(&mut tensor, ReduceOp::Sum)?;
        same("the sum", floats(&tensor)?, vec![2.0])?;
    }
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let mut tensor = Tensor::from_slice(&[1.0_f32]);
    group.all_reduce(&mut tensor, ReduceOp::Sum)?;
    Ok(texts)
}

async fn joins_are_made_again(launcher: LocalLauncher) {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::ranks("one-late-for-the-meeting", 2).args(&folder.path());
    let texts: Vec<String> = launcher.run(job).await.unwrap();
    let expected = "rank 1 of 2 did not join within 1s";
    assert_eq!(texts, [expected, expected], "rank 0's own");
}

/// Where there is a GPU, the example `nccl_check` says more.
#[cfg(feature = "nccl")]
fn nccl_without_a_gpu(rank: &Rank, (): ()) -> Failable<String> {
    if tch::Cuda::is_available() {
        return Ok("a GPU".into());
    }
    match ProcessGroup::join(rank, Backend::Nccl) {
        Err(error @ Error::Gpu { rank: 0, gpu: 0, .. }) => Ok(error.to_string()),
        other => Err(format!("{other:?}").into()),
    }
}

#[cfg(feature = "nccl")]
async fn nccl_is_refused(launcher: LocalLauncher) {
    let text: String = launcher.run(Job::ranks("nccl-without-a-gpu", 1)).await.unwrap();
    if text == "a GPU" {
        return eprintln!("skipped: this machine has a GPU, for which the example nccl_check is");
    }
    let reasons = ["NVIDIA driver", "No CUDA GPUs", "without CUDA"];
    assert!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
}
