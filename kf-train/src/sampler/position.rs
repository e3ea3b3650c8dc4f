//! How far an epoch has come.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The version of the orders that samplers give. It changes where the same seed gives another order.
pub(super) const ORDER: u32 = 1;

/// How far a training over a data set has come: an epoch, and how many of its samples all ranks have had together.
///
/// It goes into a checkpoint with serde, and a [`DistributedSampler`](super::DistributedSampler) of the same data and
/// seed goes on from it, whatever its number of ranks. One of another length, seed or order is refused, since samples
/// would be seen twice, or never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub(super) order: Order,
    pub(super) epoch: u64,
    pub(super) consumed: u64,
}

/// What makes an order what it is, the epoch aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub(super) version: u32,
    pub(super) length: u64,
    pub(super) seed: Option<u64>,
    /// How many samples a window may hold, where it is shuffled within windows.
    pub(super) window: Option<u64>,
    /// A fingerprint of the blocks that the windows consist of.
    pub(super) blocks: Option<u32>,
}

impl Position {
    /// The epoch, from 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many of the epoch's samples were dealt, to all ranks together.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// This position where it is of the epoch given, else the beginning of that.
    ///
    /// ```
    /// # use kf_train::{DistributedSampler, Position};
    /// # fn step(_: &[i64]) {}
    /// # fn doc(sampler: &DistributedSampler, mut position: Position, epochs: u64) -> kf_train::Result<()> {
    /// for epoch in position.epoch()..epochs {
    ///     for (batch, next) in sampler.batches_from(&position.within(epoch), 32)? {
    ///         step(&batch);
    ///         position = next; // what a checkpoint keeps
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn within(&self, epoch: u64) -> Self {
        let consumed = if epoch == self.epoch { self.consumed } else { 0 };
        Self { order: self.order.clone(), epoch, consumed }
    }

    pub(super) fn fits(&self, order: &Order) -> Result<()> {
        if self.order != *order {
            return Err(Error::Position { found: self.order.to_string(), expected: order.to_string() });
        }
        if self.consumed > order.length {
            let expected = format!("at most {}", order.length);
            return Err(Error::Position { found: format!("{} samples consumed", self.consumed), expected });
        }
        Ok(())
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} samples ", self.length)?;
        match (self.seed, self.window) {
            (Some(seed), Some(window)) => write!(f, "shuffled by seed {seed} in windows of {window}")?,
            (Some(seed), None) => write!(f, "shuffled by seed {seed}")?,
            (None, _) => write!(f, "in order")?,
        }
        write!(f, " (order {})", self.version)
    }
}
