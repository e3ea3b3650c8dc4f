//! Ranks that have fewer batches than others.

use std::cell::Cell;

use tch::{Device, Tensor};

use super::DistributedDataParallel;
use crate::{Error, ReduceOp, Result};

/// What the sum of the gradients is divided by, where some ranks have no batch left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Divisor {
    /// The number of all ranks: a batch counts the same all the time, and steps become smaller at the end.
    #[default]
    WorldSize,
    /// The number of ranks that had a batch: the batches that there are count more at the end.
    Active,
}

/// How ranks are to share a pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    /// None is the number of ranks.
    pub(super) divisor: Option<usize>,
    /// The rank whose buffers count.
    pub(super) root: usize,
}

/// One pass of [`uneven`](DistributedDataParallel::uneven), in which this rank may have a batch or none.
#[derive(Debug)]
pub struct Pass<'p, B> {
    ddp: &'p DistributedDataParallel<'p>,
    shared: Shared,
    batch: Option<B>,
    done: &'p Cell<bool>,
}

impl<B> Pass<'_, B> {
    /// Whether this rank has a batch in this pass.
    pub fn is_active(&self) -> bool {
        self.batch.is_some()
    }

    /// Computes the loss of this rank's batch and averages the gradients, as
    /// [`backward`](DistributedDataParallel::backward) does; gives the loss. A rank that has no batch gets the others'
    /// gradients, and no loss.
    ///
    /// # Errors
    /// Those of [`backward`](DistributedDataParallel::backward).
    pub fn backward(self, loss: impl FnOnce(B) -> Tensor) -> Result<Option<Tensor>> {
        self.done.set(true);
        let Self { ddp, shared, batch, done: _ } = self;
        let Some(batch) = batch else {
            let group = ddp.group;
            let done = group.raw().within_timeout(|| ddp.reducer.shadow(shared.divisor));
            group.done("backward", done.and_then(|done| done))?;
            ddp.spread_buffers(shared.root)?;
            return Ok(None);
        };
        let loss = loss(batch);
        ddp.uneven.set(Some(shared));
        let done = ddp.backward(&loss);
        ddp.uneven.set(None);
        done.map(|()| Some(loss))
    }
}

impl DistributedDataParallel<'_> {
    /// Makes a pass for each batch of the rank that has most of them; a rank that has none left takes part with gradients
    /// of zero, and gets the same gradients as the others. All ranks make the same steps, so that their parameters and
    /// optimizers are equal all the time. Returns the number of passes.
    ///
    /// `step` has to call [`Pass::backward`], and clips and steps as always; where it fails on one rank, end that rank or
    /// give the group up. Buffers are those of the first rank that has a batch. Each pass costs one more small message.
    ///
    /// ```no_run
    /// # use kf_train::{DistributedDataParallel, Divisor, optim::Optimizer};
    /// # use tch::Tensor;
    /// # fn doc(ddp: &DistributedDataParallel<'_>, mut optimizer: Optimizer, batches: Vec<Tensor>, loss: impl Fn(Tensor) -> Tensor) -> kf_train::Result<()> {
    /// ddp.uneven(batches, Divisor::Active, |pass| {
    ///     ddp.zero_grad();
    ///     pass.backward(|batch| loss(batch))?;
    ///     optimizer.step()
    /// })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of `step`; [`Error::Collective`], [`Error::CollectiveTimedOut`]; [`Error::Tensor`] where `step` did not call
    /// [`Pass::backward`].
    pub fn uneven<B, E: From<Error>>(
        &self,
        batches: impl IntoIterator<Item = B>,
        divisor: Divisor,
        mut step: impl FnMut(Pass<'_, B>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut batches = batches.into_iter();
        let mut passes = 0;
        loop {
            let batch = batches.next();
            let active = self.active(batch.is_some())?;
            let Some(&root) = active.first() else { return Ok(passes) };
            let divisor = match divisor {
                Divisor::WorldSize => None,
                Divisor::Active => Some(active.len()),
            };
            let done = Cell::new(false);
            step(Pass { ddp: self, shared: Shared { divisor, root }, batch, done: &done })?;
            if !done.get() {
                return Err(Error::Tensor {
                    what: "the step of DistributedDataParallel::uneven".into(),
                    found: "no call of Pass::backward".into(),
                    expected: "one in each step, which the other ranks wait for".into(),
                }
                .into());
            }
            passes += 1;
        }
    }

    /// The ranks that have a batch.
    fn active(&self, own: bool) -> Result<Vec<usize>> {
        let group = self.group;
        let mut flags = vec![0_i64; group.world_size()];
        flags[group.rank()] = own.into();
        let mut flags = Tensor::from_slice(&flags).to_device(group.device());
        group.all_reduce(&mut flags, ReduceOp::Sum)?;
        let flags = flags.to_device(Device::Cpu);
        Ok((0..group.world_size()).filter(|&rank| flags.int64_value(&[rank as i64]) > 0).collect())
    }
}
