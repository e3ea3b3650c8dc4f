//! Shuffles that are computed place by place, without a table.

/// A bijection of `0..length`, chosen by a key: an unbalanced Feistel network over `left × right ≥ length` whose halves
/// are added to by modulus (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002), walked on where it leaves
/// the range, which fewer than one place in √length does. Adding by modulus may only give even permutations, which an
/// exchange of the first two makes odd in half of the cases.
#[derive(Debug, Clone)]
pub(super) struct Permutation {
    length: u64,
    left: u64,
    right: u64,
    keys: [u64; MOST_ROUNDS],
    rounds: usize,
    odd: bool,
}

/// Half of the rounds are for each side. More make a difference only where there are few orders at all.
const ROUNDS: usize = 8;
const MOST_ROUNDS: usize = 24;
const FEW: u64 = 1 << 10;

impl Permutation {
    pub(super) fn new(length: u64, key: u64) -> Self {
        let root = length.isqrt();
        let left = if root * root < length { root + 1 } else { root }.max(1);
        let mut random = SplitMix(key);
        let keys = std::array::from_fn(|_| random.next());
        let rounds = if length < FEW { MOST_ROUNDS } else { ROUNDS };
        let odd = length > 1 && random.next() % 2 == 1;
        Self { length, left, right: length.div_ceil(left).max(1), keys, rounds, odd }
    }

    /// What is at a place, which must be below the length.
    pub(super) fn at(&self, place: u64) -> u64 {
        debug_assert!(place < self.length, "place {place} of {}", self.length);
        let mut value = place;
        loop {
            value = self.pass(value);
            if value < self.length {
                return if self.odd && value < 2 { 1 - value } else { value };
            }
        }
    }

    fn pass(&self, value: u64) -> u64 {
        let (mut right, mut left) = (value / self.left, value % self.left);
        for keys in self.keys[..self.rounds].chunks_exact(2) {
            left = add(left, below(mix(right ^ keys[0]), self.left), self.left);
            right = add(right, below(mix(left ^ keys[1]), self.right), self.right);
        }
        right * self.left + left
    }
}

fn add(a: u64, b: u64, modulus: u64) -> u64 {
    let sum = a + b;
    if sum >= modulus { sum - modulus } else { sum }
}

/// Scales 64 random bits to a number below `limit`.
fn below(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}

/// One key of several numbers, such that neighbouring seeds, epochs and windows have nothing in common.
pub(super) fn key(parts: [u64; 3]) -> u64 {
    parts.into_iter().fold(0, |key, part| mix(key.wrapping_add(STEP) ^ mix(part.wrapping_add(STEP))))
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_somewhere_once() {
        let lengths = (1..300).chain([1023, 1024, 1025, 99_991, 100_000]);
        for length in lengths {
            let permutation = Permutation::new(length, key([length, 0, 0]));
            let mut seen = vec![false; length as usize];
            for place in 0..length {
                assert!(!std::mem::replace(&mut seen[permutation.at(place) as usize], true));
            }
        }
    }

    #[test]
    fn the_longest_stays_within() {
        for length in [u64::MAX, i64::MAX as u64, 1 << 32] {
            let permutation = Permutation::new(length, 7);
            for place in [0, 1, length / 2, length - 1] {
                assert!(permutation.at(place) < length);
            }
        }
    }

    /// χ² over all orders of a few, each equally likely: within 6 standard deviations of its mean.
    #[test]
    fn orders_of_a_few_are_equally_likely() {
        for length in 2..=6_u64 {
            let orders: u64 = (1..=length).product();
            let keys = orders * 200;
            let mut counts = std::collections::HashMap::new();
            for epoch in 0..keys {
                let permutation = Permutation::new(length, key([42, epoch, 0]));
                let order: Vec<_> = (0..length).map(|place| permutation.at(place)).collect();
                *counts.entry(order).or_insert(0_u64) += 1;
            }
            let squares: f64 = counts.values().map(|&count| (count as f64 - 200.0).powi(2) / 200.0).sum();
            let missing = (orders - counts.len() as u64) as f64 * 200.0;
            let degrees = (orders - 1) as f64;
            let off = (squares + missing - degrees) / (2.0 * degrees).sqrt();
            assert!(off.abs() < 6.0, "{length}: {off}");
        }
    }

    /// Where one goes says nothing of where its neighbour goes: distances of neighbours fall evenly.
    #[test]
    fn neighbours_part() {
        let length = 100_000;
        let permutation = Permutation::new(length, key([1, 2, 3]));
        let mut counts = [0_u32; 50];
        for place in 1..length {
            let distance = (permutation.at(place) + length - permutation.at(place - 1)) % length;
            counts[(distance * 50 / length) as usize] += 1;
        }
        let squares: f64 = counts.iter().map(|&count| (f64::from(count) - 2000.0).powi(2) / 2000.0).sum();
        assert!(squares < 49.0 + 6.0 * (2.0_f64 * 49.0).sqrt(), "{squares}");
    }

    /// Order 1 of `super::position::ORDER`: a change of these numbers is a new one.
    #[test]
    fn the_order_is_kept() {
        let permutation = Permutation::new(10, key([42, 3, 0]));
        let order: Vec<_> = (0..10).map(|place| permutation.at(place)).collect();
        assert_eq!(order, [3, 4, 8, 1, 7, 9, 5, 0, 2, 6]);
        let permutation = Permutation::new(1_000_000, key([42, 3, 0]));
        let order: Vec<_> = (0..4).map(|place| permutation.at(place)).collect();
        assert_eq!(order, [671730, 181415, 146554, 409008]);
    }
}
