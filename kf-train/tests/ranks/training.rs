//! Data-parallel training: equal ranks, and the same steps as one process makes.

use kf_core::worker::Workers;
use kf_train::{
    Backend, DdpOptions, DistributedDataParallel, DistributedSampler, Error, GroupOptions, Job,
    LocalLauncher, ProcessGroup, Rank, ranks,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};
use tch::nn::{Module, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor, nn, no_grad};

use super::trial;

type Failable<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("train", train))
        .with(ranks("mismatch", mismatch))
        .with(ranks("unused", unused))
        .with(ranks("buffers", buffers))
        .with(ranks("killed-in-backward", killed_in_backward))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("training::two_ranks_make_the_steps_of_one", two_ranks_make_the_steps_of_one),
        trial("training::every_mode_makes_the_same_steps", every_mode_makes_the_same_steps),
        trial("training::different_models_are_refused", different_models_are_refused),
        trial("training::unused_parameters", unused_parameters),
        trial("training::buffers_follow_rank_0", buffers_follow_rank_0),
        trial("training::a_rank_killed_in_backward_is_named", a_rank_killed_in_backward_is_named),
    ]
}

const SAMPLES: i64 = 256;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Args {
    batch: usize,
    epochs: u64,
    adam: bool,
    views: bool,
    accumulate: bool,
    tiny_buckets: bool,
}

const ARGS: Args =
    Args { batch: 32, epochs: 3, adam: false, views: false, accumulate: false, tiny_buckets: false };

fn mlp(vs: &nn::VarStore) -> impl Module + use<> {
    let root = vs.root();
    nn::seq()
        .add(nn::linear(&root / "a", 16, 64, nn::LinearConfig::default()))
        .add_fn(|xs| xs.relu())
        .add(nn::linear(&root / "b", 64, 64, nn::LinearConfig::default()))
        .add_fn(|xs| xs.relu())
        .add(nn::linear(&root / "c", 64, 4, nn::LinearConfig::default()))
}

fn data() -> (Tensor, Tensor) {
    let x = Tensor::arange(SAMPLES * 16, (Kind::Float, Device::Cpu)).view([SAMPLES, 16]);
    let x = (x * 0.7).sin();
    let y = (Tensor::arange(SAMPLES, (Kind::Int64, Device::Cpu)) * 7).remainder(4);
    (x, y)
}

/// Every rank begins with other weights; returns rank 0's after training, once all ranks' are found equal to the bit.
fn train(rank: &Rank, args: Args) -> Failable<Vec<f32>> {
    // One process begins as rank 0 does.
    tch::manual_seed(rank.rank() as i64);
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let net = mlp(&vs);
    let mut options = DdpOptions { gradient_views: args.views, ..DdpOptions::default() };
    if args.tiny_buckets {
        (options.first_bucket_bytes, options.bucket_bytes) = (64, 1024);
    }
    let ddp = DistributedDataParallel::with_options(&vs, &group, options)?;
    let mut optimizer = match args.adam {
        true => nn::Adam::default().build(&vs, 1e-2)?,
        false => nn::Sgd { momentum: 0.9, ..nn::Sgd::default() }.build(&vs, 0.1)?,
    };
    let (x, y) = data();
    let sampler = DistributedSampler::new(SAMPLES as usize, rank).shuffle(42);
    for epoch in 0..args.epochs {
        for batch in sampler.batches(epoch, args.batch) {
            let loss = |part: &[i64]| {
                let part = Tensor::from_slice(part);
                net.forward(&x.index_select(0, &part)).cross_entropy_for_logits(&y.index_select(0, &part))
            };
            match args.accumulate {
                false => ddp.backward_step(&mut optimizer, &loss(&batch))?,
                true => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    ddp.zero_grad();
                    ddp.backward_no_sync(&(loss(first) / 2.0))?;
                    ddp.backward(&(loss(second) / 2.0))?;
                    optimizer.step();
                }
            }
        }
    }
    let all: Vec<Tensor> =
        vs.trainable_variables().iter().map(|tensor| tensor.detach().flatten(0, -1)).collect();
    let own = Tensor::cat(&all, 0);
    let everyones = group.all_gather(&own)?;
    for other in 0..group.world_size() as i64 {
        if everyones.get(other) != own {
            return Err(format!("the parameters of ranks {} and {other} differ", rank.rank()).into());
        }
    }
    Ok(Vec::try_from(own)?)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|value| value.is_finite()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

async fn trained(launcher: &LocalLauncher, ranks: usize, args: &Args) -> Vec<f32> {
    launcher.run(Job::ranks("train", ranks).args(args)).await.unwrap()
}

async fn two_ranks_make_the_steps_of_one(launcher: LocalLauncher) {
    let untrained = trained(&launcher, 1, &Args { epochs: 0, ..ARGS }).await;
    let one = trained(&launcher, 1, &Args { batch: 64, ..ARGS }).await;
    let two = trained(&launcher, 2, &ARGS).await;
    let difference = largest_difference(&one, &two);
    assert!(difference < 1e-5, "{difference}");
    assert!(largest_difference(&untrained, &one) > 1e-2, "training moves the parameters");
}

async fn every_mode_makes_the_same_steps(launcher: LocalLauncher) {
    let plain = trained(&launcher, 2, &ARGS).await;
    for args in [
        Args { views: true, ..ARGS },
        Args { tiny_buckets: true, ..ARGS },
        Args { accumulate: true, ..ARGS },
        Args { accumulate: true, views: true, tiny_buckets: true, ..ARGS },
    ] {
        let difference = largest_difference(&plain, &trained(&launcher, 2, &args).await);
        assert!(difference < 1e-5, "{difference} with {args:?}");
    }
    trained(&launcher, 3, &Args { adam: true, ..ARGS }).await;
}

fn mismatch(rank: &Rank, (): ()) -> Failable<String> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let width = 5 + rank.rank() as i64;
    let _layer = nn::linear(vs.root() / "layer", 3, width, nn::LinearConfig::default());
    match DistributedDataParallel::new(&vs, &group) {
        Err(error @ Error::Mismatch { .. }) => {
            let text = error.to_string();
            // Every rank comes to the same verdict.
            if text
                != "the parameters of rank 1 differ from rank 0's: `layer.bias` is Float [6], and Float [5] on rank 0"
            {
                return Err(error.into());
            }
            group.barrier()?;
            Ok(text)
        }
        other => Err(format!("{other:?}").into()),
    }
}

async fn different_models_are_refused(launcher: LocalLauncher) {
    launcher.run::<String>(Job::ranks("mismatch", 2)).await.unwrap();
}

/// The loss depends on one of two layers.
fn unused(rank: &Rank, find: bool) -> Failable<Option<String>> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let used = nn::linear(vs.root() / "used", 3, 1, nn::LinearConfig::default());
    let _unused = nn::linear(vs.root() / "unused", 3, 1, nn::LinearConfig::default());
    let options = DdpOptions { find_unused_parameters: find, ..DdpOptions::default() };
    let ddp = DistributedDataParallel::with_options(&vs, &group, options)?;
    let mut optimizer = nn::Sgd::default().build(&vs, 0.1)?;
    for _ in 0..3 {
        let loss = used.forward(&Tensor::ones([4, 3], (Kind::Float, Device::Cpu))).mean(Kind::Float);
        if let Err(error) = ddp.backward_step(&mut optimizer, &loss) {
            return Ok(Some(error.to_string()));
        }
    }
    Ok(None)
}

async fn unused_parameters(launcher: LocalLauncher) {
    let found: Option<String> = launcher.run(Job::ranks("unused", 2).args(&true)).await.unwrap();
    assert_eq!(found, None);
    let refused: Option<String> = launcher.run(Job::ranks("unused", 2).args(&false)).await.unwrap();
    assert!(refused.as_deref().is_some_and(|text| text.contains("unused")), "{refused:?}");
}

fn buffers(rank: &Rank, (): ()) -> Failable<(Vec<f32>, Vec<f32>)> {
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let norm = nn::batch_norm1d(vs.root() / "norm", 2, nn::BatchNormConfig::default());
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    let mut optimizer = nn::Sgd::default().build(&vs, 0.1)?;
    for step in 0..3 {
        let x =
            Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]).view([2, 2]) + f64::from(step) + rank.rank() as f64;
        ddp.backward_step(&mut optimizer, &norm.forward_t(&x, true).square().mean(Kind::Float))?;
    }
    let mean = vs.variables().remove("norm.running_mean").ok_or("no running mean")?;
    let all = no_grad(|| group.all_gather(&mean))?;
    Ok((Vec::try_from(all.get(0))?, Vec::try_from(all.get(1))?))
}

async fn buffers_follow_rank_0(launcher: LocalLauncher) {
    let (zero, one): (Vec<f32>, Vec<f32>) = launcher.run(Job::ranks("buffers", 2)).await.unwrap();
    assert_eq!(zero, one);
    assert!(zero.iter().all(|mean| *mean > 0.0), "{zero:?}");
}

fn killed_in_backward(rank: &Rank, (): ()) -> Failable<()> {
    let group = ProcessGroup::join_with(rank, Backend::Gloo, GroupOptions::default())?;
    let vs = nn::VarStore::new(Device::Cpu);
    let net = mlp(&vs);
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    let mut optimizer = nn::Sgd::default().build(&vs, 0.1)?;
    let (x, y) = data();
    for step in 0.. {
        if rank.rank() == 1 && step == 10 {
            println!("step {step}");
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        }
        if let Err(error) = ddp.backward_step(&mut optimizer, &net.forward(&x).cross_entropy_for_logits(&y)) {
            println!("rank 0 saw: {error}");
            return match error {
                Error::Collective { .. } => Err(error.into()),
                other => panic!("{other:?}"),
            };
        }
    }
    Ok(())
}

async fn a_rank_killed_in_backward_is_named(launcher: LocalLauncher) {
    let job = Job::ranks("killed-in-backward", 2).attempt_id("killed");
    let text = launcher.run::<()>(job).await.unwrap_err().to_string();
    assert!(text.contains("rank 1 of 2 ended with signal 9 (SIGKILL); its last lines:\n  step 10"), "{text}");
}
