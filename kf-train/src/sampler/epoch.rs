//! What one rank gets of one epoch, or of what is left of it.

use std::ops::Range;

use super::permutation::{Permutation, key};
use super::{Position, Windows};

/// One rank's turns in an epoch, from a position on. A turn takes one sample on every rank.
#[derive(Debug, Clone)]
pub(crate) struct Epoch {
    from: Position,
    shuffle: Shuffle,
    turns: u64,
    rank: u64,
    world_size: u64,
}

/// Which sample is at which place of an epoch.
#[derive(Debug, Clone)]
pub(super) enum Shuffle {
    None,
    Whole(Box<Permutation>),
    Windowed(Windows),
}

impl Shuffle {
    pub(super) fn whole(length: u64, seed: u64, epoch: u64) -> Self {
        Self::Whole(Box::new(Permutation::new(length, key([seed, epoch, 0]))))
    }

    fn at(&self, place: u64) -> u64 {
        match self {
            Self::None => place,
            Self::Whole(permutation) => permutation.at(place),
            Self::Windowed(windows) => windows.at(place),
        }
    }
}

impl Epoch {
    pub(super) fn new(from: Position, shuffle: Shuffle, turns: u64, rank: u64, world_size: u64) -> Self {
        Self { from, shuffle, turns, rank, world_size }
    }

    /// How many turns there are.
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }

    /// The turns of a batch, counted from 0; `None` after the last.
    pub(crate) fn batch(&self, number: u64, size: usize) -> Option<Range<u64>> {
        let size = size.max(1) as u64;
        let first = number.checked_mul(size).filter(|first| *first < self.turns)?;
        Some(first..first.saturating_add(size).min(self.turns))
    }

    /// This rank's place in the epoch at a turn; beyond the epoch's length for a sample that is dealt again.
    pub(crate) fn place(&self, turn: u64) -> u64 {
        self.from.consumed + turn * self.world_size + self.rank
    }

    /// The index at a place.
    pub(crate) fn index(&self, place: u64) -> u64 {
        self.shuffle.at(place % self.from.order.length)
    }

    /// The indices of some turns.
    pub(crate) fn indices(&self, turns: Range<u64>) -> Vec<i64> {
        turns.map(|turn| self.index(self.place(turn)) as i64).collect()
    }

    /// The position after so many turns.
    pub(crate) fn after(&self, turns: u64) -> Position {
        let mut position = self.from.clone();
        if turns < self.turns {
            position.consumed += turns * self.world_size;
        } else {
            position.epoch += 1;
            position.consumed = 0;
        }
        position
    }
}
