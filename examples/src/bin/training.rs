//! Data-parallel training and nothing else: two ranks fit a line, a checkpoint per epoch.
//!
//! `cargo run -p examples --features torch --bin training`

use std::process::ExitCode;

use kf_core::worker::{Workers, run_if_asked};
use kf_train::{Backend, Checkpoints, DistributedDataParallel, DistributedSampler, ProcessGroup};
use kf_train::{Job, LocalLauncher, Progress, Rank, ranks};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Reduction, Tensor};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Fits y = 3x − 1; gives slope and intercept.
fn fit(rank: &Rank, epochs: u64) -> Result<(f64, f64), BoxError> {
    let x = Tensor::linspace(-1.0, 1.0, 256, (Kind::Float, Device::Cpu)).view([-1, 1]);
    let y = &x * 3.0 - 1.0;
    let mut vs = nn::VarStore::new(Device::Cpu);
    let line = nn::linear(vs.root(), 1, 1, Default::default());

    let checkpoints = Checkpoints::new("kf-home/training");
    let mut epoch = checkpoints.load_latest::<()>(&mut vs)?.map_or(0, |(epoch, ())| epoch);
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    let mut optimizer = nn::Sgd::default().build(&vs, 0.2)?;
    let sampler = DistributedSampler::new(256, rank).shuffle(7);
    while epoch < epochs {
        let mut last = 0.0;
        for batch in sampler.batches(epoch, 32) {
            let rows = Tensor::from_slice(&batch);
            let loss =
                line.forward(&x.index_select(0, &rows)).mse_loss(&y.index_select(0, &rows), Reduction::Mean);
            ddp.backward_step(&mut optimizer, &loss)?;
            last = loss.double_value(&[]);
        }
        epoch += 1;
        rank.report(Progress::new().epoch(epoch).metric("loss", last));
        if rank.is_main() {
            println!("epoch {epoch}: loss {last:.6}");
            checkpoints.save(epoch, &vs, &())?;
        }
    }
    let value = |name: &str| vs.variables().get(name).map_or(f64::NAN, |tensor| tensor.double_value(&[0]));
    Ok((value("weight"), value("bias")))
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(ranks("fit", fit))) {
        return code;
    }
    run().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run() -> Result<ExitCode, BoxError> {
    let launcher = LocalLauncher::new("kf-home/ranks");
    let job = Job::ranks("fit", 2).args(&10).on_line(|line| println!("{line}"));
    let (slope, intercept): (f64, f64) = launcher.run(job).await?;
    println!("y = {slope:.3} x + {intercept:.3}");
    Ok(ExitCode::SUCCESS)
}
