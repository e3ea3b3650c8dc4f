//! Shuffles for data that does not fit in memory: of blocks, and of rows within windows of a few blocks.

use std::ops::Range;
use std::sync::Arc;

use super::permutation::{Permutation, key};

/// The blocks of a data set, and how many samples a window may hold.
#[derive(Debug, Clone)]
pub(super) struct Windowing {
    /// Where each block begins, and the end.
    starts: Arc<[u64]>,
    samples: u64,
}

impl Windowing {
    pub(super) fn new(blocks: &[u64], samples: u64) -> Self {
        let mut end = 0;
        let ends = blocks.iter().map(|block| {
            end += block;
            end
        });
        Self { starts: std::iter::once(0).chain(ends).collect(), samples: samples.max(1) }
    }

    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    pub(super) fn length(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Another number where blocks differ in number or size, as good as surely.
    pub(super) fn fingerprint(&self) -> u32 {
        let hash = self.starts.iter().fold(0, |hash, start| key([hash, *start, 0]));
        (hash >> 32) as u32
    }

    #[cfg(feature = "data")]
    pub(super) fn is_of(&self, blocks: &[u64]) -> bool {
        *self.starts == *Self::new(blocks, 1).starts
    }

    /// The windows of one epoch: blocks in an order of their own, as many together as a window holds, but at least one.
    pub(super) fn windows(&self, seed: Option<u64>, epoch: u64) -> Windows {
        let blocks = (self.starts.len() - 1) as u64;
        let order = seed.map(|seed| Permutation::new(blocks, key([seed, epoch, 1])));
        let mut windows: Vec<Window> = Vec::new();
        let mut position = 0;
        for place in 0..blocks {
            let block = order.as_ref().map_or(place, |order| order.at(place)) as usize;
            let rows = self.starts[block]..self.starts[block + 1];
            let count = rows.end - rows.start;
            if count == 0 {
                continue;
            }
            match windows.last_mut() {
                Some(window)
                    if seed.is_some() && position + count - window.positions.start <= self.samples =>
                {
                    window.add(block, rows);
                }
                _ => {
                    let mut window =
                        Window { positions: position..position, blocks: Vec::new(), order: None };
                    window.add(block, rows);
                    windows.push(window);
                }
            }
            position += count;
        }
        if let Some(seed) = seed {
            for (number, window) in windows.iter_mut().enumerate() {
                let length = window.positions.end - window.positions.start;
                window.order = Some(Permutation::new(length, key([seed, epoch, number as u64 + 2])));
            }
        }
        Windows { windows }
    }
}

/// The windows of one epoch, one after another.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    windows: Vec<Window>,
}

/// A few blocks, whose samples are dealt before those of the next window.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    positions: Range<u64>,
    blocks: Vec<Block>,
    order: Option<Permutation>,
}

#[derive(Debug, Clone)]
struct Block {
    #[cfg_attr(not(feature = "data"), expect(dead_code, reason = "only loaders read blocks"))]
    number: usize,
    /// Where in the window it begins.
    start: u64,
    rows: Range<u64>,
}

impl Windows {
    pub(super) fn at(&self, position: u64) -> u64 {
        self.windows[self.of(position)].at(position)
    }

    /// The number of the window that a position is in.
    pub(crate) fn of(&self, position: u64) -> usize {
        self.windows.partition_point(|window| window.positions.end <= position)
    }

    /// All of them.
    #[cfg(feature = "data")]
    pub(crate) fn all(&self) -> &[Window] {
        &self.windows
    }
}

impl Window {
    fn add(&mut self, number: usize, rows: Range<u64>) {
        let start = self.positions.end - self.positions.start;
        self.positions.end += rows.end - rows.start;
        self.blocks.push(Block { number, start, rows });
    }

    fn at(&self, position: u64) -> u64 {
        let place = position - self.positions.start;
        let place = self.order.as_ref().map_or(place, |order| order.at(place));
        let block = &self.blocks[self.blocks.partition_point(|block| block.start <= place) - 1];
        block.rows.start + place - block.start
    }

    /// The blocks' numbers.
    #[cfg(feature = "data")]
    pub(crate) fn blocks(&self) -> impl Iterator<Item = usize> + '_ {
        self.blocks.iter().map(|block| block.number)
    }

    /// Which positions of the epoch it holds.
    #[cfg(feature = "data")]
    pub(crate) fn positions(&self) -> Range<u64> {
        self.positions.clone()
    }
}
