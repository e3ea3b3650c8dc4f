//! Which samples each rank sees.

mod epoch;
mod permutation;
mod position;
mod windows;

use crate::{Rank, Result};

pub(crate) use epoch::Epoch;
use epoch::Shuffle;
pub use position::Position;
use position::{ORDER, Order};
use windows::Windowing;
pub(crate) use windows::Windows;

/// Deals the indices of a data set to the ranks, anew in each epoch.
///
/// All ranks shuffle alike, from the seed and the epoch, and take every `world_size`-th index, so that the ranks' k-th
/// batches of size b are together the k-th batch of size b × `world_size` of one process. Every rank gets equally many:
/// the last ones are dropped, or the epoch's first ones dealt again.
///
/// An index is computed from its place, without a table of them: an epoch of 10⁹ samples begins at once and takes no
/// memory, on however many ranks, and so does going on in the midst of it. The shuffle is a keyed Feistel network; the
/// same seed gives the same order for as long as the order's version, which a [`Position`] holds, is the same.
///
/// ```
/// use kf_train::DistributedSampler;
///
/// let ranks: Vec<_> = (0..2).map(|rank| DistributedSampler::of(5, rank, 2)).collect();
/// assert_eq!(ranks[0].indices(0), [0, 2, 4]);
/// assert_eq!(ranks[1].indices(0), [1, 3, 0]);   // 0 again, to make it even
/// let shuffled = ranks[0].clone().shuffle(42);
/// assert_ne!(shuffled.indices(0), shuffled.indices(1));
/// for batch in shuffled.batches(0, 2) {
///     assert!(batch.len() <= 2);
/// }
/// ```
///
/// # Going on
/// Batches come with the [`Position`] after them. From a saved one, samplers of the same data and seed deal what is left
/// of the epoch to however many ranks there are by then: none twice and none lost, but for what makes it even.
///
/// ```
/// # use kf_train::DistributedSampler;
/// let three = DistributedSampler::of(100, 0, 3).shuffle(42);
/// let (_, position) = three.batches_from(&three.start(0), 8)?.nth(1).unwrap();
/// assert_eq!(position.consumed(), 48);         // two batches of 8 on each of 3 ranks
/// let two = DistributedSampler::of(100, 0, 2).shuffle(42);
/// let left: Vec<_> = two.batches_from(&position, 8)?.collect();
/// assert_eq!(left.iter().map(|(batch, _)| batch.len()).sum::<usize>(), 26);
/// # Ok::<_, kf_train::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DistributedSampler {
    length: usize,
    rank: usize,
    world_size: usize,
    seed: Option<u64>,
    windowing: Option<Windowing>,
    drop_last: bool,
}

impl DistributedSampler {
    /// A sampler for this rank over a data set of so many samples: in order, and padded.
    pub fn new(length: usize, rank: &Rank) -> Self {
        Self::of(length, rank.rank(), rank.world_size())
    }

    /// A sampler for one of `world_size` ranks; a `world_size` of 0 counts as 1.
    pub fn of(length: usize, rank: usize, world_size: usize) -> Self {
        let world_size = world_size.max(1);
        Self { length, rank, world_size, seed: None, windowing: None, drop_last: false }
    }

    /// Shuffles each epoch as a whole, from this seed, which must be the same on all ranks.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self.windowing = None;
        self
    }

    /// Shuffles each epoch for data that is read block by block: the order of the blocks, and the samples within windows
    /// of neighbouring blocks. A window takes as many blocks as have at most so many samples together, but at least one.
    ///
    /// `blocks` are the sizes of the data set's blocks in turn, such as a file's row groups, and replace its length.
    /// Reading in this order needs memory for a window or two. The smaller the windows, the more do samples that were
    /// neighbours stay near each other.
    #[must_use]
    pub fn shuffle_within(mut self, seed: u64, blocks: &[u64], window: u64) -> Self {
        let windowing = Windowing::new(blocks, window);
        self.length = windowing.length() as usize;
        self.seed = Some(seed);
        self.windowing = Some(windowing);
        self
    }

    /// Drops the samples that can't be dealt evenly, instead of dealing some again.
    #[must_use]
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
        self
    }

    /// How many samples each rank gets per epoch.
    pub fn len(&self) -> usize {
        self.share(self.length as u64) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many samples there are for all ranks together.
    pub fn total(&self) -> usize {
        self.length
    }

    /// This rank's indices in an epoch, as tch's `index_select` takes them.
    pub fn indices(&self, epoch: u64) -> Vec<i64> {
        let epoch = self.epoch(epoch, 0);
        epoch.indices(0..epoch.turns())
    }

    /// This rank's batches in an epoch, the last one smaller where they don't come out even.
    pub fn batches(&self, epoch: u64, batch_size: usize) -> impl Iterator<Item = Vec<i64>> + use<> {
        batches(self.epoch(epoch, 0), batch_size).map(|(batch, _)| batch)
    }

    /// The beginning of an epoch.
    pub fn start(&self, epoch: u64) -> Position {
        Position { order: self.order(), epoch, consumed: 0 }
    }

    /// This rank's batches in what is left of the position's epoch, each with the position after it: after the last one,
    /// the next epoch's beginning.
    ///
    /// # Errors
    /// [`Error::Position`](crate::Error::Position) for one of another data set's size, seed or order.
    pub fn batches_from(
        &self,
        position: &Position,
        batch_size: usize,
    ) -> Result<impl Iterator<Item = (Vec<i64>, Position)> + use<>> {
        Ok(batches(self.epoch_from(position)?, batch_size))
    }

    pub(crate) fn epoch_from(&self, position: &Position) -> Result<Epoch> {
        position.fits(&self.order())?;
        Ok(self.epoch(position.epoch, position.consumed))
    }

    /// The same for another rank.
    #[cfg(test)]
    pub(crate) fn for_rank(self, rank: usize, world_size: usize) -> Self {
        Self { rank, world_size, ..self }
    }

    /// The windows that an epoch is read in: those it is shuffled within, or block by block where it is not shuffled;
    /// `None` where any sample may come at any time.
    #[cfg(feature = "data")]
    pub(crate) fn windows(&self, epoch: u64, blocks: &[u64]) -> Option<Windows> {
        match (&self.windowing, self.seed) {
            (Some(windowing), seed) => Some(windowing.windows(seed, epoch)),
            (None, None) => Some(Windowing::new(blocks, 1).windows(None, epoch)),
            (None, Some(_)) => None,
        }
    }

    /// Whether the samples are shuffled within windows of other blocks than these.
    #[cfg(feature = "data")]
    pub(crate) fn is_of_other_blocks(&self, blocks: &[u64]) -> bool {
        self.windowing.as_ref().is_some_and(|windowing| !windowing.is_of(blocks))
    }

    fn share(&self, samples: u64) -> u64 {
        match self.drop_last {
            true => samples / self.world_size as u64,
            false => samples.div_ceil(self.world_size as u64),
        }
    }

    fn epoch(&self, epoch: u64, consumed: u64) -> Epoch {
        let length = self.length as u64;
        let turns = self.share(length.saturating_sub(consumed));
        let shuffle = match (&self.windowing, self.seed) {
            (Some(windowing), seed) => Shuffle::Windowed(windowing.windows(seed, epoch)),
            (None, Some(seed)) => Shuffle::whole(length, seed, epoch),
            (None, None) => Shuffle::None,
        };
        Epoch::new(
            Position { order: self.order(), epoch, consumed },
            shuffle,
            turns,
            self.rank as u64,
            self.world_size as u64,
        )
    }

    fn order(&self) -> Order {
        Order {
            version: ORDER,
            length: self.length as u64,
            seed: self.seed,
            window: self.windowing.as_ref().map(Windowing::samples),
            blocks: self.windowing.as_ref().map(Windowing::fingerprint),
        }
    }
}

fn batches(epoch: Epoch, batch_size: usize) -> impl Iterator<Item = (Vec<i64>, Position)> {
    let mut number = 0;
    std::iter::from_fn(move || {
        let turns = epoch.batch(number, batch_size)?;
        number += 1;
        Some((epoch.indices(turns.clone()), epoch.after(turns.end)))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn union(
        length: usize,
        world: usize,
        change: impl Fn(DistributedSampler) -> DistributedSampler,
    ) -> Vec<i64> {
        (0..world).flat_map(|rank| change(DistributedSampler::of(length, rank, world)).indices(3)).collect()
    }

    #[test]
    fn every_sample_is_dealt() {
        for (length, world) in [(0, 1), (0, 3), (1, 4), (7, 1), (10, 3), (1437, 2), (64, 64)] {
            for seed in [None, Some(7)] {
                let shuffled = |sampler: DistributedSampler| match seed {
                    Some(seed) => sampler.shuffle(seed),
                    None => sampler,
                };
                let all = union(length, world, shuffled);
                assert_eq!(all.len(), length.div_ceil(world) * world);
                assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), (0..length as i64).collect());
                let even = union(length, world, |sampler| shuffled(sampler).drop_last());
                assert_eq!(even.len(), length / world * world);
                assert_eq!(even.iter().collect::<BTreeSet<_>>().len(), even.len());
            }
        }
    }

    #[test]
    fn batches_of_the_ranks_make_the_batch_of_one_process() {
        let one = DistributedSampler::of(128, 0, 1).shuffle(1);
        let two: Vec<_> = (0..2).map(|rank| DistributedSampler::of(128, rank, 2).shuffle(1)).collect();
        for (k, whole) in one.batches(5, 64).enumerate() {
            let mut parts: Vec<_> = two.iter().flat_map(|rank| rank.batches(5, 32).nth(k).unwrap()).collect();
            let mut whole = whole;
            parts.sort_unstable();
            whole.sort_unstable();
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn shuffles_depend_on_seed_and_epoch_alone() {
        let sampler = |seed| DistributedSampler::of(1000, 0, 1).shuffle(seed);
        assert_eq!(sampler(1).indices(2), sampler(1).indices(2));
        assert_ne!(sampler(1).indices(2), sampler(1).indices(3));
        assert_ne!(sampler(1).indices(2), sampler(2).indices(2));
    }

    #[test]
    fn places_are_equally_likely() {
        let mut counts = [[0_u32; 4]; 4];
        for epoch in 0..4000 {
            for (place, index) in
                DistributedSampler::of(4, 0, 1).shuffle(9).indices(epoch).into_iter().enumerate()
            {
                counts[place][index as usize] += 1;
            }
        }
        assert!(counts.iter().flatten().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    /// Deals an epoch to ranks whose number changes: so many batches of size 3 on each world size in turn, the last one
    /// to the end. Positions go through JSON in between.
    fn deal(sampler: impl Fn(usize, usize) -> DistributedSampler, worlds: &[(usize, usize)]) -> Vec<i64> {
        let mut position = sampler(0, 1).start(2);
        let mut dealt = Vec::new();
        for (turn, &(world, batches)) in worlds.iter().enumerate() {
            let last = turn + 1 == worlds.len();
            let batches = if last { usize::MAX } else { batches };
            let mut after = Vec::new();
            for rank in 0..world {
                let mut at = position.clone();
                for (batch, next) in sampler(rank, world).batches_from(&position, 3).unwrap().take(batches) {
                    dealt.extend(batch);
                    at = next;
                }
                after.push(at);
            }
            assert!(after.iter().all(|at| *at == after[0]), "ranks are at different positions: {after:?}");
            position = serde_json::from_str(&serde_json::to_string(&after[0]).unwrap()).unwrap();
            if position.epoch() == 3 {
                assert_eq!(position.consumed(), 0);
                break;
            }
        }
        dealt
    }

    fn any_sampler() -> impl Strategy<Value = DistributedSampler> {
        let blocks = proptest::collection::vec(0..12_u64, 0..12);
        (blocks, any::<u64>(), 1..30_u64, 0..3, any::<bool>()).prop_map(
            |(blocks, seed, window, kind, drop)| {
                let length = blocks.iter().sum::<u64>() as usize;
                let sampler = DistributedSampler::of(length, 0, 1);
                let sampler = match kind {
                    0 => sampler,
                    1 => sampler.shuffle(seed),
                    _ => sampler.shuffle_within(seed, &blocks, window),
                };
                if drop { sampler.drop_last() } else { sampler }
            },
        )
    }

    proptest! {
        #[test]
        fn each_sample_comes_once_whatever_the_ranks(
            sampler in any_sampler(),
            worlds in proptest::collection::vec((1..8_usize, 0..5_usize), 1..5),
        ) {
            let with = |rank, world_size| sampler.clone().for_rank(rank, world_size);
            let dealt = deal(with, &worlds);
            let distinct: BTreeSet<_> = dealt.iter().copied().collect();
            let (length, most) = (sampler.total(), worlds.iter().map(|world| world.0).max().unwrap());
            if sampler.drop_last {
                prop_assert_eq!(distinct.len(), dealt.len());
                prop_assert!(length - dealt.len() < most, "{} of {length}", dealt.len());
            } else {
                prop_assert_eq!(&distinct, &(0..length as i64).collect());
                prop_assert!(dealt.len() - length < most, "{} of {length}", dealt.len());
            }
        }

        #[test]
        fn going_on_is_as_if_undisturbed(sampler in any_sampler(), world_size in 1..5_usize, stop in 0..20_usize) {
            for rank in 0..world_size {
                let sampler = sampler.clone().for_rank(rank, world_size);
                let whole: Vec<_> = sampler.batches_from(&sampler.start(5), 4).unwrap().collect();
                if let Some((_, position)) = whole.get(stop) {
                    let left = sampler.batches_from(position, 4).unwrap();
                    let expected: Vec<_> = match position.epoch() {
                        5 => whole[stop + 1..].to_vec(),
                        _ => sampler.batches_from(&sampler.start(6), 4).unwrap().collect(),
                    };
                    prop_assert_eq!(left.collect::<Vec<_>>(), expected);
                }
            }
        }
    }

    #[test]
    fn windows_keep_their_samples_together() {
        let blocks = [10, 20, 5, 5, 40, 20];
        let sampler = DistributedSampler::of(0, 0, 1).shuffle_within(3, &blocks, 30);
        assert_eq!(sampler.total(), 100);
        let order = sampler.indices(0);
        let block_of = |index: i64| {
            blocks
                .iter()
                .scan(0, |end, block| {
                    *end += *block as i64;
                    Some(*end)
                })
                .position(|end| index < end)
        };
        // A window is done before the next begins, so that a block's samples lie within 40 places.
        for block in 0..blocks.len() {
            let places: Vec<_> = (0..100).filter(|&place| block_of(order[place]) == Some(block)).collect();
            assert!(places[places.len() - 1] - places[0] < 40, "block {block}: {places:?}");
        }
        assert_ne!(order, sampler.indices(1));
    }

    #[test]
    fn positions_of_other_data_are_refused() {
        let sampler = DistributedSampler::of(100, 0, 2).shuffle(1);
        let position = sampler.start(4);
        for other in [
            DistributedSampler::of(99, 0, 2).shuffle(1),
            DistributedSampler::of(100, 0, 2).shuffle(2),
            DistributedSampler::of(100, 0, 2),
            DistributedSampler::of(100, 0, 2).shuffle_within(1, &[100], 10),
        ] {
            let error = other.batches_from(&position, 8).err().unwrap().to_string();
            assert!(error.contains("100 samples shuffled by seed 1 (order 1)"), "{error}");
        }
        let mut beyond = position.clone();
        beyond.consumed = 101;
        let error = sampler.batches_from(&beyond, 8).err().unwrap().to_string();
        assert!(error.contains("101 samples consumed"), "{error}");
        let windowed = |blocks: &[u64]| DistributedSampler::of(0, 0, 1).shuffle_within(1, blocks, 10);
        assert!(windowed(&[4, 6]).batches_from(&windowed(&[6, 4]).start(0), 1).is_err());
    }

    #[test]
    fn a_billion_samples_begin_at_once() {
        let sampler = DistributedSampler::of(1_000_000_000, 3, 8).shuffle(1);
        let mut position = sampler.start(0);
        position.consumed = 999_999_000;
        assert_eq!(sampler.batches_from(&position, 100).unwrap().count(), 2);
        assert!(sampler.batches(0, 256).next().unwrap().iter().any(|index| *index > 500_000_000));
    }
}
