//! A training loop, for who wants one.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::VarStore;

use crate::optim::Optimizer;
use crate::{
    Checkpoints, ClipNorm, DistributedDataParallel, Error, GradScaler, ProcessGroup, Progress, Rank,
    ReduceOp, Result, clip_grad_norm,
};

/// A loop over epochs and batches, with what most loops need: gradient accumulation, clipping, a scaler, checkpoints from
/// which it goes on in the middle of an epoch, and progress reports.
///
/// All ranks make the same calls, with equally many batches. The batches of an epoch must be the same ones in the same
/// order each time they are asked for, as [`DistributedSampler`](crate::DistributedSampler)'s are: after a restart, those
/// that were done are passed over. Checkpoints are read and written by rank 0; the others get everything from it.
///
/// ```no_run
/// use kf_train::{Checkpoints, DistributedDataParallel, DistributedSampler, ProcessGroup, Rank, Trainer, optim::AdamW};
/// use tch::{Tensor, nn, nn::Module};
///
/// fn fit(
///     rank: &Rank, group: &ProcessGroup, mut vs: nn::VarStore, net: impl Module, x: Tensor, y: Tensor,
/// ) -> kf_train::Result<u64> {
///     let ddp = DistributedDataParallel::new(&vs, group)?;
///     let mut optimizer = AdamW::default().build(&vs, 1e-3)?;
///     let sampler = DistributedSampler::new(x.size()[0] as usize, rank).shuffle(42);
///     Trainer::new(rank, group, &ddp)
///         .epochs(10)
///         .accumulate(4)
///         .clip_norm(1.0)
///         .checkpoints(Checkpoints::new("run/checkpoints").keep(3))
///         .save_every_steps(500)
///         .on_step(|step, optimizer| {
///             step.progress.metrics.insert("lr".into(), optimizer.lr());
///             optimizer.set_lr(1e-3 / (1.0 + step.step as f64 / 1000.0))
///         })
///         .fit(&mut vs, &mut optimizer, |epoch| sampler.batches(epoch, 32), |batch: Vec<i64>| {
///             let batch = Tensor::from_slice(&batch);
///             Ok(net.forward(&x.index_select(0, &batch)).cross_entropy_for_logits(&y.index_select(0, &batch)))
///         })
/// }
/// ```
pub struct Trainer<'a> {
    rank: &'a Rank,
    group: &'a ProcessGroup,
    ddp: &'a DistributedDataParallel<'a>,
    epochs: u64,
    accumulate: usize,
    clip: Option<(f64, ClipNorm)>,
    scaler: Option<GradScaler>,
    checkpoints: Option<Checkpoints>,
    every_steps: Option<u64>,
    every: Option<Duration>,
    on_step: Option<Box<StepHook<'a>>>,
    on_epoch: Option<Box<EpochHook<'a>>>,
}

type StepHook<'a> = dyn FnMut(&mut Stepped, &mut Optimizer) -> Result<()> + 'a;
type EpochHook<'a> = dyn FnMut(&mut Progress) -> Result<bool> + 'a;

/// A step that was made, as [`Trainer::on_step`] sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stepped {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Steps made in all, this one among them.
    pub step: u64,
    /// This rank's loss: the mean over the batches of the step.
    pub loss: f64,
    /// The gradients' norm before it was clipped; none without clipping.
    pub norm: Option<f64>,
    /// False where the scaler found gradients that are not finite, and the step was left out.
    pub made: bool,
    /// What will be reported; add metrics.
    pub progress: Progress,
}

/// Where a training is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Position {
    epoch: u64,
    /// Batches of the epoch that are done.
    batches: usize,
    step: u64,
    scaler: Option<GradScaler>,
}

impl<'a> Trainer<'a> {
    /// A loop of one epoch, without anything more.
    pub fn new(rank: &'a Rank, group: &'a ProcessGroup, ddp: &'a DistributedDataParallel<'a>) -> Self {
        Self {
            rank,
            group,
            ddp,
            epochs: 1,
            accumulate: 1,
            clip: None,
            scaler: None,
            checkpoints: None,
            every_steps: None,
            every: None,
            on_step: None,
            on_epoch: None,
        }
    }

    /// How many epochs there are in all.
    #[must_use]
    pub fn epochs(mut self, count: u64) -> Self {
        self.epochs = count;
        self
    }

    /// How many batches' gradients make a step, at least 1; at an epoch's end there may be fewer.
    #[must_use]
    pub fn accumulate(mut self, batches: usize) -> Self {
        self.accumulate = batches.max(1);
        self
    }

    /// Keeps the gradients' 2-norm at most at this. With a scaler, gradients that are not finite leave the step out;
    /// without one they end the training.
    #[must_use]
    pub fn clip_norm(mut self, max_norm: f64) -> Self {
        self.clip = Some((max_norm, ClipNorm::default()));
        self
    }

    /// Scales the loss, for half precision.
    #[must_use]
    pub fn scaler(mut self, scaler: GradScaler) -> Self {
        self.scaler = Some(scaler);
        self
    }

    /// Goes on from the latest of these checkpoints, and saves one after each epoch.
    #[must_use]
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Saves one also after this many steps, at least 1.
    #[must_use]
    pub fn save_every_steps(mut self, steps: u64) -> Self {
        self.every_steps = Some(steps.max(1));
        self
    }

    /// Saves one also when this much time went by since the last.
    #[must_use]
    pub fn save_every(mut self, time: Duration) -> Self {
        self.every = Some(time);
        self
    }

    /// Calls this after each step, on every rank: to set the learning rate, and to add metrics.
    #[must_use]
    pub fn on_step(mut self, hook: impl FnMut(&mut Stepped, &mut Optimizer) -> Result<()> + 'a) -> Self {
        self.on_step = Some(Box::new(hook));
        self
    }

    /// Calls this after each epoch, on every rank, such as to evaluate and add metrics to what is reported. The training
    /// ends where it gives false on any rank.
    #[must_use]
    pub fn on_epoch(mut self, hook: impl FnMut(&mut Progress) -> Result<bool> + 'a) -> Self {
        self.on_epoch = Some(Box::new(hook));
        self
    }

    /// Trains, and returns the number of steps made in all. `batches` gives the batches of an epoch, `loss` the mean loss
    /// of one.
    ///
    /// # Errors
    /// Those of the passes, the optimizer, the checkpoints and the hooks; what `loss` gives.
    pub fn fit<B, I: IntoIterator<Item = B>>(
        mut self,
        vs: &mut VarStore,
        optimizer: &mut Optimizer,
        mut batches: impl FnMut(u64) -> I,
        mut loss: impl FnMut(B) -> Result<Tensor>,
    ) -> Result<u64> {
        let mut at = self.resume(vs, optimizer)?;
        let mut saved = Instant::now();
        while at.epoch < self.epochs {
            let mut left = batches(at.epoch).into_iter().skip(at.batches);
            loop {
                let some: Vec<B> = left.by_ref().take(self.accumulate).collect();
                if some.is_empty() {
                    break;
                }
                at.batches += some.len();
                at.step += 1;
                self.step(&at, optimizer, some, &mut loss)?;
                let due = self.every_steps.is_some_and(|steps| at.step % steps == 0)
                    || self.every.is_some_and(|time| saved.elapsed() >= time);
                if due {
                    self.save(&at, vs, optimizer)?;
                    saved = Instant::now();
                }
            }
            at = Position { epoch: at.epoch + 1, batches: 0, ..at };
            self.save(&at, vs, optimizer)?;
            saved = Instant::now();
            if !self.epoch_done(&at)? {
                break;
            }
        }
        Ok(at.step)
    }

    fn step<B>(
        &mut self,
        at: &Position,
        optimizer: &mut Optimizer,
        batches: Vec<B>,
        loss: &mut impl FnMut(B) -> Result<Tensor>,
    ) -> Result<()> {
        let count = batches.len();
        let mut total = 0.0;
        self.ddp.zero_grad();
        for (i, batch) in batches.into_iter().enumerate() {
            let loss = loss(batch)? / count as f64;
            total += loss.double_value(&[]);
            let scaled =
                self.scaler.as_ref().map_or_else(|| loss.shallow_clone(), |scaler| scaler.scale(&loss));
            match i + 1 < count {
                true => self.ddp.backward_no_sync(&scaled)?,
                false => self.ddp.backward(&scaled)?,
            }
        }
        let parameters = self.ddp.parameters();
        if let Some(scaler) = &mut self.scaler {
            scaler.unscale(parameters)?;
        }
        let error_if_nonfinite = self.scaler.is_none();
        let clip = |(max, how)| clip_grad_norm(parameters, max, ClipNorm { error_if_nonfinite, ..how });
        let norm = self.clip.map(clip).transpose()?;
        let made = match &mut self.scaler {
            Some(scaler) => scaler.step(parameters, optimizer)?,
            None => optimizer.step().map(|()| true)?,
        };
        let progress = self.progress(at).metric("loss", total);
        let mut stepped = Stepped { epoch: at.epoch, step: at.step, loss: total, norm, made, progress };
        if let Some(hook) = &mut self.on_step {
            hook(&mut stepped, optimizer)?;
        }
        self.rank.report(stepped.progress);
        Ok(())
    }

    /// Whether to go on: all ranks come to the same verdict.
    fn epoch_done(&mut self, at: &Position) -> Result<bool> {
        let mut progress = self.progress(at);
        let own = self.on_epoch.as_mut().map_or(Ok(true), |hook| hook(&mut progress))?;
        self.rank.report(progress);
        let mut goes_on = Tensor::from(i64::from(own)).to_device(self.group.device());
        self.group.all_reduce(&mut goes_on, ReduceOp::Min)?;
        Ok(goes_on.int64_value(&[]) == 1)
    }

    fn progress(&self, at: &Position) -> Progress {
        Progress::new().epoch(at.epoch).step(at.step).fraction(at.epoch as f64 / self.epochs.max(1) as f64)
    }

    fn save(&self, at: &Position, vs: &VarStore, optimizer: &Optimizer) -> Result<()> {
        if let (Some(checkpoints), true) = (&self.checkpoints, self.group.rank() == 0) {
            let at = Position { scaler: self.scaler.clone(), ..at.clone() };
            checkpoints.save_training(at.step, vs, optimizer, &at)?;
        }
        Ok(())
    }

    /// Rank 0 loads, and all ranks get what it has, or why it failed.
    fn resume(&mut self, vs: &mut VarStore, optimizer: &mut Optimizer) -> Result<Position> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(Position::default()) };
        let loaded = match self.group.rank() {
            0 => Some(checkpoints.load_latest_training::<Position>(vs, optimizer)),
            _ => None,
        };
        let told = match &loaded {
            Some(Ok(position)) => Ok(position.as_ref().map(|(_, position)| position)),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(None),
        };
        let broken = |error: serde_json::Error| Error::Torch {
            what: "telling where the training is".into(),
            message: error.to_string(),
        };
        let told = serde_json::to_vec(&told).map_err(broken)?;
        let all = self.group.exchange("resume", &told)?;
        loaded.transpose()?;
        let first = all.first().map_or(&[][..], Vec::as_slice);
        let at: std::result::Result<Option<Position>, String> =
            serde_json::from_slice(first).map_err(broken)?;
        let at = at.map_err(|message| Error::Collective {
            operation: "resume",
            call: None,
            rank: self.group.rank(),
            missing: Vec::new(),
            message: format!("rank 0 failed: {message}"),
        })?;
        let Some(at) = at else { return Ok(Position::default()) };
        self.ddp.synchronize()?;
        optimizer.broadcast(self.group, 0)?;
        // A scaler that is not wanted any more is left behind, and one that is new begins anew.
        if let (Some(own), Some(saved)) = (&mut self.scaler, &at.scaler) {
            *own = saved.clone();
        }
        Ok(at)
    }
}

impl std::fmt::Debug for Trainer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer").field("epochs", &self.epochs).finish_non_exhaustive()
    }
}
