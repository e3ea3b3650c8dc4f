//! How long two ranks on this machine take over Gloo and over shared memory: for an all-reduce of some sizes, with how
//! fast one copies memory beside it, and for a step of data-parallel training.
//!
//! `cargo run --release -p kf-train --features torch --example all_reduce`

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kf_core::worker::{Workers, run_if_asked};
use kf_train::{
    Backend, DistributedDataParallel, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, ranks,
};
use serde::{Deserialize, Serialize};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

type Failable<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The gradients of the network below take 7 440 424 bytes.
const BYTES: [i64; 7] = [4, 4 << 10, 64 << 10, 256 << 10, 1 << 20, 7_440_424, 64 << 20];
const RUNS: usize = 7;

#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    /// Microseconds of one all-reduce of each size, in each run.
    all_reduce: Vec<Vec<f64>>,
    /// Microseconds of a copy of as many bytes, by each rank at the same time.
    copy: Vec<Vec<f64>>,
    /// Microseconds of a training step, in each run.
    step: Vec<f64>,
    /// The same without an exchange, but for waiting for the other rank after each step.
    alone: Vec<f64>,
}

fn join(rank: &Rank, shared: bool) -> kf_train::Result<ProcessGroup> {
    let backend = if shared { Backend::SharedMemory } else { Backend::Gloo };
    ProcessGroup::join_with(rank, backend, GroupOptions { verify: false, ..GroupOptions::default() })
}

/// Microseconds a time, over about 100 ms.
fn timed(group: &ProcessGroup, mut body: impl FnMut() -> Failable<()>) -> Failable<f64> {
    body()?;
    // Rank 0 says how often, so that all make the same calls.
    let began = Instant::now();
    body()?;
    let often = (Duration::from_millis(100).as_secs_f64() / began.elapsed().as_secs_f64()).clamp(5.0, 5000.0);
    let mut often = Tensor::from(often as i64);
    group.broadcast(&mut often, 0)?;
    let often = often.int64_value(&[]);
    let began = Instant::now();
    for _ in 0..often {
        body()?;
    }
    let took = began.elapsed().as_secs_f64() * 1e6 / often as f64;
    group.barrier()?;
    Ok(took)
}

fn steps(rank: &Rank, group: &ProcessGroup, together: bool) -> Failable<f64> {
    let vs = nn::VarStore::new(Device::Cpu);
    let root = vs.root();
    let layer = |name, from, to| nn::linear(&root / name, from, to, nn::LinearConfig::default());
    let net = nn::seq()
        .add(layer("a", 784, 1024))
        .add_fn(|xs| xs.relu())
        .add(layer("b", 1024, 1024))
        .add_fn(|xs| xs.relu())
        .add(layer("c", 1024, 10));
    let ddp = together.then(|| DistributedDataParallel::new(&vs, group)).transpose()?;
    let mut optimizer = nn::Sgd::default().build(&vs, 0.01)?;
    let x = Tensor::randn([64, 784], (Kind::Float, Device::Cpu)) + rank.rank() as f64;
    let y = Tensor::randint(10, [64], (Kind::Int64, Device::Cpu));
    timed(group, || {
        let loss = net.forward(&x).cross_entropy_for_logits(&y);
        match &ddp {
            Some(ddp) => ddp.backward_step(&mut optimizer, &loss)?,
            None => {
                optimizer.backward_step(&loss);
                group.barrier()?;
            }
        }
        Ok(())
    })
}

fn measure(rank: &Rank, shared: bool) -> Failable<Figures> {
    tch::set_num_threads(1);
    let group = join(rank, shared)?;
    let mut figures = Figures {
        all_reduce: vec![Vec::new(); BYTES.len()],
        copy: vec![Vec::new(); BYTES.len()],
        step: Vec::new(),
        alone: Vec::new(),
    };
    for _ in 0..RUNS {
        for (i, bytes) in BYTES.into_iter().enumerate() {
            let mut tensor = Tensor::zeros([bytes / 4], (Kind::Float, Device::Cpu));
            figures.all_reduce[i].push(timed(&group, || Ok(group.all_reduce(&mut tensor, ReduceOp::Sum)?))?);
            let from = tensor.copy();
            figures.copy[i].push(timed(&group, || {
                tensor.copy_(&from);
                Ok(())
            })?);
        }
        figures.step.push(steps(rank, &group, true)?);
        figures.alone.push(steps(rank, &group, false)?);
    }
    Ok(figures)
}

fn median(runs: &[f64]) -> f64 {
    let mut runs = runs.to_vec();
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn compare() -> Failable<()> {
    let dir = tempfile::tempdir()?;
    let launcher = LocalLauncher::new(dir.path());
    let gloo: Figures = launcher.run(Job::ranks("measure", 2).args(&false)).await?;
    let shared: Figures = launcher.run(Job::ranks("measure", 2).args(&true)).await?;
    println!(
        "{:>10} {:>12} {:>12} {:>7} {:>12} {:>12}",
        "bytes", "Gloo", "shared", "ratio", "GB/s", "copy, GB/s"
    );
    for (i, bytes) in BYTES.into_iter().enumerate() {
        let (theirs, ours) = (median(&gloo.all_reduce[i]), median(&shared.all_reduce[i]));
        let rate = |micros: f64| bytes as f64 / micros / 1e3;
        println!(
            "{bytes:>10} {theirs:>9.1} µs {ours:>9.1} µs {:>7.2} {:>12.2} {:>12.2}",
            theirs / ours,
            rate(ours),
            rate(median(&shared.copy[i]))
        );
    }
    let (theirs, ours) = (median(&gloo.step), median(&shared.step));
    println!("{:>10} {theirs:>9.1} µs {ours:>9.1} µs {:>7.2}", "step", theirs / ours);
    println!("{:>10} {:>9.1} µs {:>9.1} µs", "alone", median(&gloo.alone), median(&shared.alone));
    Ok(())
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(ranks("measure", measure))) {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(compare()),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
