//! The training loop: where it goes on, what it saves, when it ends.

use std::path::PathBuf;

use kf_core::worker::Workers;
use kf_train::{
    Backend, Checkpoints, DistributedDataParallel, DistributedSampler, Error, GradScaler, Job, LocalLauncher,
    ProcessGroup, Rank, Trainer, optim, ranks,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};

use super::collectives::{Failable, floats, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(ranks("fit", fit))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("trainer::it_goes_on_in_the_middle_of_an_epoch", goes_on),
        trial("trainer::accumulated_batches_make_a_large_one", accumulates),
        trial("trainer::any_rank_ends_it", any_rank_ends_it),
        trial("trainer::a_damaged_checkpoint_is_everyones_error", damaged),
    ]
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Args {
    folder: Option<PathBuf>,
    batch: usize,
    accumulate: usize,
    scaled: bool,
    /// The step after which rank 1 fails.
    fails_at: Option<u64>,
    /// The epoch after which rank 1 wants no more.
    enough_at: Option<u64>,
}

const ARGS: Args =
    Args { folder: None, batch: 8, accumulate: 1, scaled: false, fails_at: None, enough_at: None };

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Fitted {
    steps: u64,
    /// Steps of this start.
    made: u64,
    parameters: Vec<f64>,
}

fn fit(rank: &Rank, args: Args) -> Failable<Fitted> {
    tch::manual_seed(7);
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let mut vs = nn::VarStore::new(Device::Cpu);
    let net = nn::seq()
        .add(nn::linear(vs.root() / "a", 6, 16, nn::LinearConfig::default()))
        .add_fn(|xs| xs.tanh())
        .add(nn::linear(vs.root() / "b", 16, 1, nn::LinearConfig::default()));
    let x = (Tensor::arange(96 * 6, (Kind::Float, Device::Cpu)).view([96, 6]) * 0.37).sin();
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    let mut optimizer = optim::AdamW::default().build(&vs, 1e-2)?;
    let sampler = DistributedSampler::new(96, rank).shuffle(3);
    let mut made = 0;
    let mut trainer = Trainer::new(rank, &group, &ddp)
        .epochs(4)
        .accumulate(args.accumulate)
        .clip_norm(0.5)
        .save_every_steps(4)
        .on_step(|step, optimizer| {
            made += 1;
            same("the step's norm", step.norm.is_some_and(|norm| norm > 0.0), true).map_err(|error| {
                Error::Io { what: "", path: "".into(), source: std::io::Error::other(error) }
            })?;
            optimizer.set_lr(1e-2 / (1.0 + step.step as f64))?;
            match args.fails_at == Some(step.step) && rank.rank() == 1 {
                true => Err(Error::Torch { what: "a test".into(), message: "rank 1 fails".into() }),
                false => Ok(()),
            }
        })
        .on_epoch(|progress| {
            progress.metrics.insert("score".into(), 0.5);
            Ok(rank.rank() != 1 || args.enough_at != progress.epoch)
        });
    if let Some(folder) = &args.folder {
        trainer = trainer.checkpoints(Checkpoints::new(folder).keep(3));
    }
    if args.scaled {
        trainer = trainer.scaler(GradScaler::new());
    }
    let steps = trainer.fit(
        &mut vs,
        &mut optimizer,
        |epoch| sampler.batches(epoch, args.batch),
        |batch| {
            let x = x.index_select(0, &Tensor::from_slice(&batch));
            Ok((net.forward(&x) - x.sum_dim_intlist([1_i64].as_slice(), true, None))
                .square()
                .mean(Kind::Float))
        },
    )?;
    let mut parameters = Vec::new();
    for parameter in vs.trainable_variables() {
        parameters.extend(floats(&parameter.detach())?);
    }
    Ok(Fitted { steps, made, parameters })
}

async fn fitted(launcher: &LocalLauncher, args: &Args) -> kf_train::Result<Fitted> {
    launcher.run(Job::ranks("fit", 2).args(args)).await
}

async fn goes_on(launcher: LocalLauncher) {
    for scaled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let whole = fitted(&launcher, &Args { scaled, ..ARGS }).await.unwrap();
        assert_eq!((whole.steps, whole.made), (24, 24));
        let args = Args { scaled, folder: Some(dir.path().to_owned()), ..ARGS };
        let text =
            fitted(&launcher, &Args { fails_at: Some(10), ..args.clone() }).await.unwrap_err().to_string();
        assert!(text.contains("rank 1 fails"), "{text}");
        // Six steps an epoch: those after 4, 6 and 8.
        let checkpoints = Checkpoints::new(dir.path());
        assert_eq!(checkpoints.steps().unwrap(), [4, 6, 8]);
        let resumed = fitted(&launcher, &args).await.unwrap();
        assert_eq!((resumed.steps, resumed.made), (24, 16));
        assert_eq!(resumed.parameters, whole.parameters);
        assert_eq!(checkpoints.steps().unwrap(), [18, 20, 24]);
        // There is nothing left to do.
        let again = fitted(&launcher, &args).await.unwrap();
        assert_eq!((again.steps, again.made), (24, 0));
        assert_eq!(again.parameters, whole.parameters);
    }
}

async fn accumulates(launcher: LocalLauncher) {
    let large = fitted(&launcher, &Args { batch: 16, ..ARGS }).await.unwrap();
    let small = fitted(&launcher, &Args { batch: 8, accumulate: 2, ..ARGS }).await.unwrap();
    assert_eq!((large.steps, small.steps), (12, 12));
    let off = large.parameters.iter().zip(&small.parameters).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-5, "{off}");
}

async fn any_rank_ends_it(launcher: LocalLauncher) {
    let fitted = fitted(&launcher, &Args { enough_at: Some(2), ..ARGS }).await.unwrap();
    assert_eq!(fitted.steps, 12);
}

async fn damaged(launcher: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let args = Args { folder: Some(dir.path().to_owned()), ..ARGS };
    fitted(&launcher, &args).await.unwrap();
    std::fs::write(dir.path().join("step-0000000024/optimizer.safetensors"), "").unwrap();
    let text = fitted(&launcher, &args).await.unwrap_err().to_string();
    assert!(text.contains("has 0 bytes"), "{text}");
}
