//! Calls of many tensors give what calls of one give for each.

use kf_core::worker::Workers;
use kf_train::{Backend, Error, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, ranks};
use libtest_mimic::Trial;
use tch::{Device, Kind, Tensor};

use super::collectives::{Failable, joined, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("coalesced", |rank: &Rank, (): ()| coalesced(rank, false)))
        .with(ranks("coalesced-replaceable", |rank: &Rank, (): ()| coalesced(rank, true)))
        .with(ranks("coalesced-misfits", misfits))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("coalesced::values_on_one_rank", |launcher| check(launcher, "coalesced", 1)),
        trial("coalesced::values_on_three_ranks", |launcher| check(launcher, "coalesced", 3)),
        trial("coalesced::values_of_a_replaceable_group", |launcher| {
            check(launcher, "coalesced-replaceable", 3)
        }),
        trial("coalesced::what_does_not_fit_is_an_error", |launcher| check(launcher, "coalesced-misfits", 2)),
    ]
}

async fn check(launcher: LocalLauncher, worker: &'static str, world_size: usize) {
    launcher.run::<()>(Job::ranks(worker, world_size)).await.unwrap();
}

/// Of several types, shapes and strides, of no elements, and more than one bucket of floats.
fn tensors(group: &ProcessGroup) -> Vec<Tensor> {
    let (own, world) = (group.rank() as i64 + 1, group.world_size() as i64);
    let counted = |shape: &[i64], kind| {
        Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu)).view(shape).to_kind(kind)
            * own
    };
    vec![
        counted(&[world * 2, 3], Kind::Float),
        counted(&[world], Kind::Int64),
        counted(&[5, world * 4], Kind::Float).transpose(0, 1),
        counted(&[world, 0], Kind::Float),
        counted(&[world * 1000, 1024, 2], Kind::Float),
        counted(&[world, 7, 2], Kind::Double),
        counted(&[world * 2], Kind::Float).set_requires_grad(true),
        counted(&[world * 6, 1], Kind::Int64),
    ]
}

fn copies(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::copy).collect()
}

fn all_equal(what: &str, found: &[Tensor], expected: &[Tensor]) -> Failable<()> {
    same(what, found.len(), expected.len())?;
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        same(&format!("{what}'s kind of tensor {i}"), found.kind(), expected.kind())?;
        same(&format!("{what}'s tensor {i}"), found.equal(&expected.detach()), true)?;
    }
    Ok(())
}

fn coalesced(rank: &Rank, replaceable: bool) -> Failable<()> {
    let group = joined(rank, GroupOptions::default(), replaceable)?;
    let own = tensors(&group);
    let whole: Vec<_> = own.iter().map(|tensor| tensor.detach().contiguous()).collect();

    let mut found = tensors(&group);
    group.broadcast_coalesced(&mut found, group.world_size() - 1)?;
    let mut expected = copies(&whole);
    for tensor in expected.iter_mut().filter(|tensor| tensor.numel() > 0) {
        group.broadcast(tensor, group.world_size() - 1)?;
    }
    all_equal("broadcast", &found, &expected)?;
    same("strides", found[2].stride(), own[2].stride())?;

    for op in [ReduceOp::Sum, ReduceOp::Max] {
        let mut found = tensors(&group);
        group.all_reduce_coalesced(&mut found, op)?;
        let mut expected = copies(&whole);
        for tensor in expected.iter_mut().filter(|tensor| tensor.numel() > 0) {
            group.all_reduce(tensor, op)?;
        }
        all_equal("all_reduce", &found, &expected)?;

        let found = group.reduce_scatter_coalesced(&own, op)?;
        let expected: Vec<_> = whole
            .iter()
            .map(|tensor| match tensor.numel() {
                0 => Ok(Tensor::zeros([1, 0], (Kind::Float, Device::Cpu))),
                _ => group.reduce_scatter(tensor, op),
            })
            .collect::<Result<_, _>>()?;
        all_equal("reduce_scatter", &found, &expected)?;
    }
    let mut means = vec![Tensor::from_slice(&[rank.rank() as f32]), Tensor::from_slice(&[2.0_f64])];
    group.all_reduce_coalesced(&mut means, ReduceOp::Avg)?;
    let mean = (rank.world_size() - 1) as f64 / 2.0;
    same("means", (means[0].double_value(&[0]), means[1].double_value(&[0])), (mean, 2.0))?;

    let found = group.all_gather_coalesced(&own)?;
    let expected: Vec<_> = whole
        .iter()
        .map(|tensor| match tensor.numel() {
            0 => {
                let world = group.world_size() as i64;
                Ok(Tensor::zeros([world, world, 0], (Kind::Float, Device::Cpu)))
            }
            _ => group.all_gather(tensor),
        })
        .collect::<Result<_, _>>()?;
    all_equal("all_gather", &found, &expected)?;

    group.all_reduce_coalesced(&mut [], ReduceOp::Sum)?;
    same("of none", group.all_gather_coalesced(&[])?.len(), 0)?;
    Ok(group.barrier()?)
}

fn misfits(rank: &Rank, (): ()) -> Failable<()> {
    let options = GroupOptions { verify: true, ..GroupOptions::default() };
    let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?;
    // As many elements, but not the same; the difference is behind what is shown.
    let last = if rank.is_main() { [2, 3] } else { [3, 2] };
    let mut shapes = vec![vec![1]; 100];
    shapes.push(last.to_vec());
    let mut tensors: Vec<_> =
        shapes.iter().map(|shape| Tensor::ones(shape.as_slice(), (Kind::Float, Device::Cpu))).collect();
    match group.all_reduce_coalesced(&mut tensors, ReduceOp::Sum) {
        Err(error @ Error::Collective { .. }) => {
            let start = format!(
                "all_reduce_coalesced failed on rank {}: rank 0 is at all_reduce_coalesced by Sum of 101 tensors (digest ",
                rank.rank()
            );
            same("the error", error.to_string().starts_with(&start), true)?;
        }
        other => return Err(format!("{other:?}").into()),
    }
    for result in [
        group.all_reduce_coalesced(&mut [Tensor::from_slice(&[1_i64])], ReduceOp::Avg).map(drop),
        group.reduce_scatter_coalesced(&[Tensor::from_slice(&[1.0, 2.0, 3.0])], ReduceOp::Sum).map(drop),
        group.broadcast_coalesced(&mut tensors, 2),
    ] {
        same("a refusal", matches!(result, Err(Error::Tensor { .. })), true)?;
    }
    Ok(group.barrier()?)
}
