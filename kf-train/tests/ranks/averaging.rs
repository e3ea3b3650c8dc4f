//! What ranks make of their gradients: exchanged in smaller types, clipped, of ranks that have nothing more to do.

use kf_core::worker::Workers;
use kf_train::{
    Backend, Compression, DdpOptions, DistributedDataParallel, Job, LocalLauncher, ProcessGroup, Rank, ranks,
};
use libtest_mimic::Trial;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};

use super::collectives::{Failable, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(ranks("compressed", compressed))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("averaging::compressed_on_two_ranks", |launcher| check_compressed(launcher, 2)),
        trial("averaging::compressed_on_three_ranks", |launcher| check_compressed(launcher, 3)),
    ]
}

fn model(vs: &nn::VarStore) -> impl Module + use<> {
    nn::seq()
        .add(nn::linear(vs.root() / "a", 8, 32, nn::LinearConfig::default()))
        .add_fn(|xs| xs.tanh())
        .add(nn::linear(vs.root() / "b", 32, 4, nn::LinearConfig::default()))
}

/// A rank's batch of a step, which is not like any other.
fn batch(step: usize, rank: usize) -> Tensor {
    let numbers = Tensor::arange(16 * 8, (Kind::Float, Device::Cpu)).view([16, 8]);
    (numbers * 0.31 + step as f64 * 0.7 + rank as f64 * 1.9).sin()
}

fn loss(net: &impl Module, step: usize, rank: usize) -> Tensor {
    (net.forward(&batch(step, rank)) - 0.5).square().mean(Kind::Float)
}

/// The gradients of the mean loss of all ranks' batches, computed by one.
fn joint(net: &impl Module, parameters: &[Tensor], step: usize, ranks: usize) -> Vec<Tensor> {
    let losses: Vec<Tensor> = (0..ranks).map(|rank| loss(net, step, rank)).collect();
    Tensor::run_backward(&[Tensor::stack(&losses, 0).mean(Kind::Float)], parameters, false, false)
}

/// How far the gradients are from these, of their largest value.
fn distance(parameters: &[Tensor], expected: &[Tensor]) -> f64 {
    let flat = |tensors: Vec<Tensor>| Tensor::cat(&tensors, 0);
    let found = flat(parameters.iter().map(|parameter| parameter.grad().flatten(0, -1)).collect());
    let expected = flat(expected.iter().map(|gradient| gradient.flatten(0, -1)).collect());
    (found - &expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

/// Whether all ranks hold the same bits.
fn equal_on_all(group: &ProcessGroup, what: &str, tensors: impl Iterator<Item = Tensor>) -> Failable<()> {
    let own = Tensor::cat(&tensors.map(|tensor| tensor.detach().flatten(0, -1)).collect::<Vec<_>>(), 0);
    let all = group.all_gather(&own)?;
    for rank in 0..group.world_size() as i64 {
        same(what, all.get(rank) == own, true)?;
    }
    Ok(())
}

fn compressed(rank: &Rank, (): ()) -> Failable<()> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    for (compression, tolerance) in
        [(None, 1e-6), (Some(Compression::Fp16), 2e-3), (Some(Compression::Bf16), 2e-2)]
    {
        for (gradient_views, find_unused_parameters) in [(false, false), (true, true)] {
            let vs = nn::VarStore::new(Device::Cpu);
            let net = model(&vs);
            let options =
                DdpOptions { compression, gradient_views, find_unused_parameters, ..DdpOptions::default() };
            let ddp = DistributedDataParallel::with_options(&vs, &group, options)?;
            let parameters = vs.trainable_variables();
            for step in 0..3 {
                ddp.zero_grad();
                ddp.backward(&loss(&net, step, rank.rank()))?;
                let expected = joint(&net, &parameters, step, group.world_size());
                let off = distance(&parameters, &expected);
                // A smaller type is less precise, and seen to be.
                if off > tolerance || (compression.is_some() && off < 1e-6) {
                    return Err(format!("{compression:?}, step {step}: off by {off}").into());
                }
                equal_on_all(&group, "gradients", parameters.iter().map(Tensor::grad))?;
            }
        }
    }
    Ok(())
}

async fn check_compressed(launcher: LocalLauncher, ranks: usize) {
    launcher.run::<()>(Job::ranks("compressed", ranks)).await.unwrap();
}
