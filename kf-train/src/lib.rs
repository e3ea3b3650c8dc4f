//! Distributed training: start N processes as one job, connect them, train one model on all of them, and keep
//! checkpoints that survive any kill.
//!
//! # The way in
//! A function that takes its [`Rank`] and the job's arguments becomes what every rank runs, through [`ranks`]. The
//! program lists it in its `Workers` and asks first thing in `main` whether it is to be such a rank. A [`LocalLauncher`]
//! then starts copies of the program, and gives back what rank 0 returned:
//!
//! ```standalone_crate
//! use std::process::ExitCode;
//! use kf_core::worker::{Workers, run_if_asked};
//! use kf_train::{Job, LocalLauncher, Progress, Rank, ranks};
//!
//! /// Runs in every rank's process.
//! fn share(rank: &Rank, total: u64) -> kf_train::Result<u64> {
//!     println!("rank {} of {} begins", rank.rank(), rank.world_size());
//!     rank.report(Progress::new().step(1).metric("share", 0.5));
//!     Ok(total / rank.world_size() as u64)
//! }
//!
//! fn main() -> ExitCode {
//!     if let Some(code) = run_if_asked(&Workers::new().with(ranks("share", share))) {
//!         return code;
//!     }
//!     let runtime = tokio::runtime::Runtime::new().unwrap();
//!     let folder = tempfile::tempdir().unwrap();
//!     let launcher = LocalLauncher::new(folder.path());
//!     let job = Job::ranks("share", 2).args(&10).on_line(|line| println!("{line}"));
//!     let result: u64 = runtime.block_on(launcher.run(job)).unwrap();
//!     assert_eq!(result, 5);
//!     ExitCode::SUCCESS
//! }
//! ```
//!
//! When a rank exits, is killed or panics, the others are ended, and [`Error::RankFailed`] names the rank, its exit code
//! or signal, its error and its last lines. No rank outlives the program, however that ends. Any program that reads
//! torchrun's environment can be a rank too: `Job::command("python", ["train.py"], 2)`.
//!
//! # Other frameworks, limits, and how a job fares
//! A program of another framework gets that one's environment ([`contract`]). What each rank asks for
//! ([`Job::resources`]) is shared out and kept to, and one that tells no progress for too long has failed.
//! [`Launcher::status`] tells how the job fares, in the words of Kubernetes and of Kubeflow's TrainJob:
//!
//! ```standalone_crate
//! use std::time::Duration;
//! use kf_core::resources::Resources;
//! use kf_core::worker::{Workers, run_if_asked};
//! use kf_train::contract::Framework;
//! use kf_train::{ConditionType, Job, Launcher, LocalLauncher, RankState};
//!
//! # fn main() -> std::process::ExitCode {
//! # if let Some(code) = run_if_asked(&Workers::new()) {
//! #     return code;
//! # }
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # runtime.block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! let launcher = LocalLauncher::new(folder.path());
//! // In place of `python train.py`.
//! let script = r#"echo "process $JAX_PROCESS_ID of $JAX_NUM_PROCESSES"
//!     echo '{"progress": {"fraction": 0.5, "metrics": {"loss": 0.25}}}' >> "$KF_TRAIN_PROGRESS""#;
//! let job = Job::command("sh", ["-c", script], 2)
//!     .framework(Framework::Jax)
//!     .resources(Resources::none().memory("64Mi")?)
//!     .progress_timeout(Duration::from_secs(600))
//!     .attempt_id("fit-1");
//!
//! let handle = launcher.submit(job.spec()?.clone(), "fit-1").await?;
//! launcher.run::<()>(job).await?;                       // the same job, by its attempt id
//!
//! let status = launcher.status(&handle).await?;
//! assert!(status.is(ConditionType::Complete));
//! assert_eq!(status.ranks[1].state, RankState::Succeeded);
//! let trainer = status.trainer_status.as_ref().unwrap();
//! assert_eq!((trainer.progress_percentage, trainer.metrics["loss"]), (Some(100), 0.25));
//! assert_eq!(launcher.logs(&handle, 1).await?, "process 1 of 2\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! # std::process::ExitCode::SUCCESS
//! # }
//! ```
//!
//! # Training one model on all ranks
//! With the feature `torch`, ranks form a `ProcessGroup`, and `DistributedDataParallel` averages the gradients of a tch
//! `VarStore` while they are computed. A whole training, with a checkpoint per epoch from which the next start goes on:
//!
#![cfg_attr(feature = "torch", doc = "```no_run")]
#![cfg_attr(not(feature = "torch"), doc = "```ignore")]
//! use std::path::PathBuf;
//! use kf_train::{
//!     Backend, Checkpoints, DistributedDataParallel, DistributedSampler, ProcessGroup, Progress, Rank, optim::Sgd,
//! };
//! use serde::{Deserialize, Serialize};
//! use tch::{Device, Kind, Tensor, nn, nn::Module};
//!
//! #[derive(Serialize, Deserialize)]
//! struct FitArgs { lr: f64, epochs: u64, seed: i64, checkpoints: PathBuf }
//!
//! #[derive(Serialize, Deserialize)]
//! struct FitReport { loss: f64 }
//!
//! # fn load() -> (Tensor, Tensor) { unimplemented!() }
//! fn fit(rank: &Rank, args: FitArgs) -> Result<FitReport, Box<dyn std::error::Error + Send + Sync>> {
//!     let (x, y) = load();                                     // float [n, 64], int64 [n]
//!     tch::manual_seed(args.seed);
//!     let mut vs = nn::VarStore::new(Device::Cpu);
//!     let root = vs.root();
//!     let net = nn::seq()
//!         .add(nn::linear(&root / "hidden", 64, 128, Default::default()))
//!         .add_fn(|x| x.relu())
//!         .add(nn::linear(&root / "logits", 128, 10, Default::default()));
//!
//!     let mut optimizer = Sgd { momentum: 0.9, ..Sgd::default() }.build(&vs, args.lr)?;
//!     let checkpoints = Checkpoints::new(&args.checkpoints);
//!     let resumed = checkpoints.load_latest_training(&mut vs, &mut optimizer)?;
//!     let (mut epoch, mut loss) = resumed.unwrap_or((0, f64::MAX));
//!
//!     let group = ProcessGroup::join(rank, Backend::Gloo)?;
//!     let ddp = DistributedDataParallel::new(&vs, &group)?;     // all ranks now have rank 0's parameters
//!     let sampler = DistributedSampler::new(x.size()[0] as usize, rank).shuffle(args.seed as u64);
//!
//!     while epoch < args.epochs {
//!         for batch in sampler.batches(epoch, 32) {
//!             let batch = Tensor::from_slice(&batch);
//!             let logits = net.forward(&x.index_select(0, &batch));
//!             let batch_loss = logits.cross_entropy_for_logits(&y.index_select(0, &batch));
//!             ddp.backward_step(&mut optimizer, &batch_loss)?;  // instead of the optimizer's own
//!             loss = batch_loss.double_value(&[]);
//!         }
//!         epoch += 1;
//!         rank.report(Progress::new().epoch(epoch).fraction(epoch as f64 / args.epochs as f64).metric("loss", loss));
//!         if rank.is_main() {
//!             checkpoints.save_training(epoch, &vs, &optimizer, &loss)?;
//!         }
//!     }
//!     Ok(FitReport { loss })
//! }
//! // In main: Workers::new().with(kf_train::ranks("fit", fit)); and then
//! // launcher.run::<FitReport>(Job::ranks("fit", 2).args(&args)).await?
//! ```
//!
//! Where that loop needs more: `clip_grad_norm`, `GradScaler` and `autocast`, gradients exchanged in half the bytes
//! (`DdpOptions::compression`), ranks with fewer batches than others (`DistributedDataParallel::uneven`). `Trainer` is
//! such a loop with all of it, for who wants one.
//!
//! # Data from files
//! With the feature `data`, a `DataLoader` makes batches of Parquet and Arrow IPC files, on threads of its own, in the
//! order of a [`DistributedSampler`]. Each batch comes with the [`Position`] after it, from which a later start goes on,
//! on however many ranks there are by then:
//!
#![cfg_attr(feature = "data", doc = "```no_run")]
#![cfg_attr(not(feature = "data"), doc = "```ignore")]
//! use kf_train::{DataLoader, Dataset, DistributedSampler, Position, Rank};
//!
//! fn epochs(rank: &Rank, saved: Option<Position>) -> kf_train::Result<()> {
//!     let data = Dataset::open(["train/*.parquet"], ["pixels", "label"])?.in_memory()?;
//!     let sampler = DistributedSampler::new(data.rows(), rank).shuffle(42);
//!     let loader = DataLoader::new(&data, sampler)?.batch_size(256);
//!
//!     let mut position = saved.unwrap_or_else(|| loader.start(0));
//!     for epoch in position.epoch()..10 {
//!         for batch in loader.batches_from(&position.within(epoch))? {
//!             let batch = batch?;                      // an Arrow RecordBatch: batch.rows()
//!             // With `torch`: batch.tensor("pixels")? is [256, n], batch.tensor("label")? is [256].
//!             position = batch.position().clone();     // goes into the next checkpoint
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Data that does not fit in memory stays in its files. Uncompressed Arrow IPC can be shuffled as a whole there:
//! `in_place` instead of `in_memory`. Anything else is shuffled within windows of a few blocks:
//! `sampler.shuffle_within(42, data.blocks(), 100_000)` instead of `shuffle`, without `in_memory`; then every rank reads
//! every block. A file that is cut, gone or written to meanwhile is an error in its place, never a short epoch.
//!
//! # Groups, and collectives as futures
//! A `ProcessGroup` has the collectives of c10d, each as a call that blocks and, with a name that ends with `async`, as
//! one that begins it. The `Work` that this gives owns the tensors until they are whole; await it in any runtime, or
//! `wait`. Some of the ranks become a group of their own by `subgroup` or `split`, and many tensors travel in few messages
//! by `all_reduce_coalesced` and its like:
//!
#![cfg_attr(feature = "torch", doc = "```no_run")]
#![cfg_attr(not(feature = "torch"), doc = "```ignore")]
//! use kf_train::{Backend, ProcessGroup, Rank, ReduceOp};
//! use tch::{Device, Kind, Tensor};
//!
//! async fn sums(rank: &Rank, mut gradients: Vec<Tensor>) -> kf_train::Result<Tensor> {
//!     let group = ProcessGroup::join(rank, Backend::Gloo)?;
//!     let sum = group.all_reduce_async(Tensor::ones([4], (Kind::Float, Device::Cpu)), ReduceOp::Sum)?;
//!     group.all_reduce_coalesced(&mut gradients, ReduceOp::Avg)?;       // while the other is under way
//!     if let Some(pair) = group.subgroup(&[0, 1])? {                    // called by all, given to two
//!         pair.barrier()?;
//!     }
//!     sum.await
//! }
//! ```
//!
//! Messages between two ranks can be under way in the same manner, such as those of a pipeline of stages:
//!
#![cfg_attr(feature = "torch", doc = "```no_run")]
#![cfg_attr(not(feature = "torch"), doc = "```ignore")]
//! use futures::future::try_join_all;
//! use kf_train::{ProcessGroup, Result};
//! use tch::{Device, Kind, Tensor};
//!
//! // The stage of a rank: every part of a batch comes from the rank before, and goes to the one after.
//! async fn stage(group: &ProcessGroup, layer: impl Fn(Tensor) -> Tensor) -> Result<()> {
//!     let (before, after) = (group.rank() - 1, group.rank() + 1);
//!     let part = || Tensor::zeros([32, 256], (Kind::Float, Device::Cpu));
//!     let coming: Vec<_> = (0..8).map(|_| group.recv_async(part(), before)).collect::<Result<_>>()?;
//!     let mut going = Vec::new();
//!     for part in coming {
//!         going.push(group.send_async(&layer(part.await?), after)?);
//!     }
//!     try_join_all(going).await.map(drop)
//! }
//! ```
//!
//! Ranks meet at a store that rank 0 serves at `MASTER_ADDR` and `MASTER_PORT`, or, where `TORCHELASTIC_USE_AGENT_STORE` is
//! `True`, at the launcher's. They reach one another under `KF_TRAIN_HOST`, by the interface that `GLOO_SOCKET_IFNAME`
//! names, or by their host's name. A call that fails tells who was missing: `all_reduce (call 17 of this group) was not
//! done on rank 0 within 3s: rank 1 was last seen at call 15 (broadcast), ranks 2 and 3 were last seen after call 16
//! (barrier)`.
//!
//! # Features
//! - none by default: launching needs no libtorch and no C++;
//! - `data`: batches from Parquet (uncompressed, Snappy, LZ4) and Arrow IPC (uncompressed, LZ4); needs no libtorch;
//!   `zstd`: also Zstandard, whose C code it builds;
//! - `testing`: the conformance suite for implementations of [`Launcher`];
//! - `torch`: process groups, `DistributedDataParallel`, checkpoints. Needs libtorch 2.11.0, which `LIBTORCH` names.
//! - `nccl`: `Backend::Nccl`, for tensors on GPUs. Needs a libtorch with CUDA, and to build the headers of CUDA and NCCL;
//!   in a checkout `cargo xtask libtorch --nccl` provides both. Each rank takes the GPU of its local rank's number, its
//!   `VarStore` lives on the group's `device()`, and the rest of a training stays as it is. The example `nccl_check`
//!   tells what works on a machine.
//!
//! # Limits
//! Groups over NCCL were run with one rank on one GPU only, never with several GPUs. [`LocalLauncher`] keeps ranks on one machine; [`elastic`] spans
//! several. What a foreign program starts in a session of its own (`setsid`) is not ended with it.
//! A limit of memory is of each rank's own process, looked at every 0.1 s; jobs that run at the same time are not kept from
//! one another's GPUs. tch's own optimizers give no access to their moments: those of `optim` are the ones that checkpoints hold.

pub mod carrier;
#[cfg(feature = "torch")]
mod checkpoint;
#[cfg(feature = "torch")]
mod clip;
pub mod contract;
#[cfg(feature = "data")]
mod data;
#[cfg(feature = "torch")]
mod ddp;
pub mod elastic;
mod error;
mod error_file;
#[cfg(feature = "torch")]
mod group;
mod launch;
#[cfg(feature = "torch")]
pub mod optim;
mod plain_file;
#[cfg(feature = "torch")]
mod precision;
mod progress;
mod rank;
mod ranks;
mod sampler;
pub mod store;
#[cfg(feature = "torch")]
mod team;
mod termination;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "torch")]
mod trainer;

#[cfg(feature = "torch")]
pub use checkpoint::Checkpoints;
#[cfg(feature = "torch")]
pub use clip::{ClipNorm, clip_grad_norm, clip_grad_value};
#[cfg(feature = "data")]
pub use data::{Batch, Batches, DataLoader, Dataset};
#[cfg(feature = "torch")]
pub use ddp::{Compression, DdpOptions, DistributedDataParallel, Divisor, Pass};
pub use error::{Error, Result};
#[cfg(feature = "torch")]
pub use group::{Aborter, Backend, GroupOptions, ProcessGroup, ReduceOp, RoundPlace, Work};
pub use launch::{
    Condition, ConditionStatus, ConditionType, Failure, Job, JobEnd, JobEvent, JobHandle, JobSpec, JobStatus,
    Launcher, LocalLauncher, Program, RankEnd, RankState, RankStatus, TrainerStatus, run,
};
#[cfg(feature = "torch")]
pub use precision::{GradScaler, ScalerOptions, autocast};
pub use progress::Progress;
pub use rank::Rank;
pub use ranks::ranks;
pub use sampler::{DistributedSampler, Position};
#[cfg(feature = "torch")]
pub use team::Team;
#[cfg(feature = "torch")]
pub use trainer::{Stepped, Trainer};

/// No time is taken for longer: clocks bear it to be added to them.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 24 * 3600);
