//! Batches of data that stays in files: blocks are decoded ahead, held for as long as their window lasts, and let go.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::chunk::Chunk;
use super::dataset::{Dataset, Files};
use super::gather::gather;
use super::ordered::{Ordered, Work};
use super::{Batch, unfit};
use crate::sampler::{Epoch, Windows};
use crate::{Error, Result};

/// Blocks that are needed up to some place of the epoch.
#[derive(Debug, Clone, PartialEq)]
struct Stage {
    end: u64,
    blocks: Vec<usize>,
}

/// What is to be read, in turn: the windows from where the epoch begins, and what the last turn deals again.
fn stages(epoch: &Epoch, windows: &Windows, locate: impl Fn(u64) -> usize) -> Vec<Stage> {
    let Some(last) = epoch.turns().checked_sub(1) else { return Vec::new() };
    let (first, last) = (epoch.place(0), epoch.place(last));
    let all = windows.all();
    let begun = all.get(windows.of(first)..).unwrap_or_default();
    let read = begun.iter().take_while(|window| window.positions().start <= last);
    let mut stages: Vec<_> =
        read.map(|window| Stage { end: window.positions().end, blocks: window.blocks().collect() }).collect();
    if all.last().is_none_or(|window| window.positions().end <= last) {
        stages.push(Stage { end: u64::MAX, blocks: vec![locate(epoch.index(last))] });
    }
    stages
}

/// Makes batches, as the work of one thread; others decode.
pub(super) fn work(
    data: &Dataset,
    epoch: Arc<Epoch>,
    windows: &Windows,
    batch_size: usize,
    threads: usize,
) -> Result<Work<Batch>> {
    let files = Arc::clone(&data.files);
    let stages = stages(&epoch, windows, |row| files.locate(row).0);
    let blocks: Vec<_> = stages.iter().flat_map(|stage| stage.blocks.iter().copied()).collect();
    let threads = threads.min(blocks.len());
    let decoded = data.read(blocks, threads)?;
    let mut held = Held { stages: stages.into(), decoded, ready: VecDeque::new() };
    Ok(Box::new(move |number| {
        let turns = epoch.batch(number, batch_size).unwrap_or_default();
        let places: Vec<_> = turns.clone().map(|turn| epoch.place(turn)).collect();
        held.let_go(places.first().copied().unwrap_or(0));
        held.read_to(places.last().copied().unwrap_or(0), &files)?;
        let rows = places.into_iter().map(|place| {
            let (block, row) = files.locate(epoch.index(place));
            let chunk = held.find(place, block).ok_or_else(|| {
                unfit(
                    files.path(),
                    format!("block {block} out of turn"),
                    "it in turn; this is a fault of kf-train",
                )
            })?;
            Ok((chunk, row))
        });
        let rows = gather(&files, &rows.collect::<Result<Vec<_>>>()?)?;
        Ok(Batch { rows, position: epoch.after(turns.end) })
    }))
}

/// What is held of the stages.
struct Held {
    stages: VecDeque<Stage>,
    decoded: Ordered<Chunk>,
    ready: VecDeque<(u64, HashMap<usize, Chunk>)>,
}

impl Held {
    /// Lets go what ends at or before a place.
    fn let_go(&mut self, place: u64) {
        while self.ready.front().is_some_and(|(end, _)| *end <= place) {
            self.ready.pop_front();
        }
    }

    fn read_to(&mut self, place: u64, files: &Files) -> Result<(), Error> {
        while self.ready.back().is_none_or(|(end, _)| *end <= place) {
            let Some(stage) = self.stages.pop_front() else { return Ok(()) };
            let mut chunks = HashMap::with_capacity(stage.blocks.len());
            for block in stage.blocks {
                let chunk = self.decoded.next(|| files.ended()).unwrap_or_else(|| Err(files.ended()))?;
                chunks.insert(block, chunk);
            }
            self.ready.push_back((stage.end, chunks));
        }
        Ok(())
    }

    fn find(&self, place: u64, block: usize) -> Option<&Chunk> {
        let stage = self.ready.partition_point(|(end, _)| *end <= place);
        self.ready.get(stage)?.1.get(&block)
    }
}
