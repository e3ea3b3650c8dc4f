//! Which samples each rank sees.

use crate::Rank;

/// Deals the indices of a data set to the ranks, anew in each epoch.
///
/// All ranks shuffle alike (Fisher and Yates, from the seed and the epoch) and take every `world_size`-th index, so
/// that the ranks' k-th batches of size b are together the k-th batch of size b × `world_size` of one process. Every
/// rank gets equally many: the last ones are dropped, or the first ones dealt again.
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
#[derive(Debug, Clone)]
pub struct DistributedSampler {
    length: usize,
    rank: usize,
    world_size: usize,
    seed: Option<u64>,
    drop_last: bool,
}

impl DistributedSampler {
    /// A sampler for this rank over a data set of so many samples: in order, and padded.
    pub fn new(length: usize, rank: &Rank) -> Self {
        Self::of(length, rank.rank(), rank.world_size())
    }

    /// A sampler for one of `world_size` ranks; a `world_size` of 0 counts as 1.
    pub fn of(length: usize, rank: usize, world_size: usize) -> Self {
        Self { length, rank, world_size: world_size.max(1), seed: None, drop_last: false }
    }

    /// Shuffles each epoch, from this seed, which must be the same on all ranks.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
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
        match self.drop_last {
            true => self.length / self.world_size,
            false => self.length.div_ceil(self.world_size),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// This rank's indices in an epoch, as tch's `index_select` takes them.
    pub fn indices(&self, epoch: u64) -> Vec<i64> {
        let mut order: Vec<usize> = (0..self.length).collect();
        if let Some(seed) = self.seed {
            // Both are mixed, so that neither neighbouring seeds nor epochs run in parallel.
            let mut random = SplitMix(SplitMix(seed).next() ^ epoch.wrapping_mul(0xd605_1f3d_8e2c_a3b1));
            for i in (1..order.len()).rev() {
                order.swap(i, random.below(i + 1));
            }
        }
        let dealt =
            (0..self.len()).map(|turn| order[(turn * self.world_size + self.rank) % self.length.max(1)]);
        dealt.map(|index| index as i64).collect()
    }

    /// This rank's batches in an epoch, the last one smaller where they don't come out even.
    pub fn batches(&self, epoch: u64, batch_size: usize) -> impl Iterator<Item = Vec<i64>> + use<> {
        let mut indices = self.indices(epoch).into_iter();
        std::iter::from_fn(move || {
            let batch: Vec<_> = indices.by_ref().take(batch_size.max(1)).collect();
            (!batch.is_empty()).then_some(batch)
        })
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, each equally likely (Lemire, 2019).
    fn below(&mut self, limit: usize) -> usize {
        let limit = limit as u64;
        loop {
            let wide = u128::from(self.next()) * u128::from(limit);
            if wide as u64 >= limit.wrapping_neg() % limit {
                return (wide >> 64) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
}
