//! What ranks make of their gradients: exchanged in smaller types, clipped, of ranks that have nothing more to do.

use kf_core::worker::Workers;
use kf_train::{
    Backend, ClipNorm, Compression, DdpOptions, DistributedDataParallel, Divisor, Error, GradScaler, Job,
    LocalLauncher, ProcessGroup, Rank, clip_grad_norm, clip_grad_value, optim, ranks,
};
use libtest_mimic::Trial;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};

use super::collectives::{Failable, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("compressed", compressed))
        .with(ranks("clipped", clipped))
        .with(ranks("scaled", scaled))
        .with(ranks("uneven", uneven))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("averaging::compressed_on_two_ranks", |launcher| check_compressed(launcher, 2)),
        trial("averaging::compressed_on_three_ranks", |launcher| check_compressed(launcher, 3)),
        trial("averaging::clipped_as_the_joint_batch", |launcher| async move {
            launcher.run::<()>(Job::ranks("clipped", 2)).await.unwrap();
        }),
        trial("averaging::one_ranks_overflow_is_everyones", |launcher| async move {
            launcher.run::<()>(Job::ranks("scaled", 2)).await.unwrap();
        }),
        trial("averaging::ranks_with_fewer_batches", |launcher| async move {
            launcher.run::<()>(Job::ranks("uneven", 3)).await.unwrap();
        }),
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

fn clipped(rank: &Rank, (): ()) -> Failable<()> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let net = model(&vs);
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    for (step, norm_type) in [2.0, 1.0, 3.0, f64::INFINITY].into_iter().enumerate() {
        let how = ClipNorm { norm_type, error_if_nonfinite: true };
        let expected = joint(&net, ddp.parameters(), step, 2);
        ddp.zero_grad();
        ddp.backward(&loss(&net, step, rank.rank()))?;
        let own = clip_grad_norm(ddp.parameters(), 0.01, how)?;
        // One process, with the joint batch.
        let whole =
            Tensor::cat(&expected.iter().map(|gradient| gradient.flatten(0, -1)).collect::<Vec<_>>(), 0);
        let total = whole.linalg_norm(norm_type, None::<&[i64]>, false, None).double_value(&[]);
        if (own - total).abs() > 1e-5 * total {
            return Err(format!("{norm_type}-norm {own}, of the joint batch {total}").into());
        }
        let clipped: Vec<Tensor> =
            expected.iter().map(|gradient| gradient * (0.01 / (total + 1e-6)).min(1.0)).collect();
        same("the clipped gradients", distance(ddp.parameters(), &clipped) < 1e-5, true)?;
        equal_on_all(&group, "norms", [Tensor::from(own)].into_iter())?;
        equal_on_all(&group, "gradients", ddp.parameters().iter().map(Tensor::grad))?;

        clip_grad_value(ddp.parameters(), 1e-4)?;
        let most = ddp.parameters().iter().map(|parameter| parameter.grad().abs().max().double_value(&[]));
        same("the largest value", most.fold(0.0, f64::max) <= 1.0001e-4, true)?;
    }
    Ok(())
}

/// Rank 1's gradients overflow, in half precision on the way or by themselves.
fn scaled(rank: &Rank, (): ()) -> Failable<()> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    for compression in [None, Some(Compression::Fp16)] {
        let vs = nn::VarStore::new(Device::Cpu);
        let net = model(&vs);
        let options = DdpOptions { compression, ..DdpOptions::default() };
        let ddp = DistributedDataParallel::with_options(&vs, &group, options)?;
        let mut optimizer = optim::AdamW::default().build(&vs, 1e-3)?;
        let mut scaler = GradScaler::new();
        let mut verdicts = Vec::new();
        for step in 0..4 {
            let overflow = match (step, rank.rank(), compression) {
                (1, 1, None) => f64::INFINITY,
                (1, 1, Some(_)) => 1e6,
                _ => 1.0,
            };
            let before = Tensor::cat(&[&vs.variables()["a.weight"]], 0).copy();
            ddp.zero_grad();
            ddp.backward(&scaler.scale(&(loss(&net, step, rank.rank()) * overflow)))?;
            let made = scaler.step(ddp.parameters(), &mut optimizer)?;
            same("the parameters stay", before == vs.variables()["a.weight"], !made)?;
            verdicts.push(made);
            equal_on_all(&group, "parameters", vs.trainable_variables().into_iter())?;
        }
        same("the verdicts", verdicts, vec![true, false, true, true])?;
        same("the scale", scaler.get_scale(), 32768.0)?;
    }
    Ok(())
}

/// Ranks have 5, 2 and 0 batches.
fn uneven(rank: &Rank, (): ()) -> Failable<()> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let counts = [5, 2, 0];
    for divisor in [Divisor::WorldSize, Divisor::Active] {
        for (compression, gradient_views, find_unused_parameters) in [
            (None, false, false),
            (None, true, false),
            (None, false, true),
            (Some(Compression::Bf16), true, true),
        ] {
            let vs = nn::VarStore::new(Device::Cpu);
            let net = model(&vs);
            // No loss depends on it.
            let _unused = find_unused_parameters.then(|| vs.root().zeros("unused", &[3]));
            let options =
                DdpOptions { compression, gradient_views, find_unused_parameters, ..DdpOptions::default() };
            let ddp = DistributedDataParallel::with_options(&vs, &group, options)?;
            let mut optimizer = optim::AdamW { weight_decay: 0.1, ..Default::default() }.build(&vs, 1e-2)?;
            // One process, which begins with the same.
            let mut alone = nn::VarStore::new(Device::Cpu);
            let alone_net = model(&alone);
            for (name, variable) in alone.variables() {
                tch::no_grad(|| variable.shallow_clone().copy_(&vs.variables()[&name]));
            }
            let mut alone_optimizer =
                optim::AdamW { weight_decay: 0.1, ..Default::default() }.build(&alone, 1e-2)?;
            let mut steps = 0..;
            for epoch in 0..2 {
                let own = (0..counts[rank.rank()]).map(|i| epoch * 10 + i);
                let passes = ddp.uneven(own, divisor, |pass| {
                    ddp.zero_grad();
                    pass.backward(|step| loss(&net, step, rank.rank()))?;
                    optimizer.step()?;
                    equal_on_all(&group, "parameters", vs.trainable_variables().into_iter())
                        .map_err(|error| std::io::Error::other(error.to_string()))?;
                    steps.next();
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
                })?;
                same("passes", passes, 5)?;
                for i in 0..5 {
                    let active: Vec<usize> = (0..3).filter(|&rank| i < counts[rank]).collect();
                    let losses: Vec<Tensor> =
                        active.iter().map(|&rank| loss(&alone_net, epoch * 10 + i, rank)).collect();
                    let by = if divisor == Divisor::Active { active.len() } else { 3 };
                    alone_optimizer.zero_grad();
                    (Tensor::stack(&losses, 0).sum(Kind::Float) / by as f64).backward();
                    alone_optimizer.step()?;
                }
            }
            same("steps", steps.next(), Some(10))?;
            let tolerance = if compression.is_some() { 3e-2 } else { 1e-4 };
            for (name, expected) in alone.variables() {
                let off = (&vs.variables()[&name] - expected).abs().max().double_value(&[]);
                if off > tolerance {
                    return Err(format!("`{name}` is off by {off}: {divisor:?}, {options:?}").into());
                }
            }
            for (name, tensor) in optimizer.state() {
                equal_on_all(&group, &name, [tensor].into_iter())?;
            }
            alone.freeze();
        }
    }
    // A step that forgets the pass is an error, on all ranks alike here.
    let vs = nn::VarStore::new(Device::Cpu);
    let _net = model(&vs);
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    match ddp.uneven([1], Divisor::Active, |_pass| Ok::<_, Error>(())) {
        Err(Error::Tensor { found, .. }) => same("forgotten", found.as_str(), "no call of Pass::backward"),
        other => Err(format!("{other:?}").into()),
    }
}
