//! How long to wait before trying again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Waiting times that grow from attempt to attempt: `initial`, `initial × factor`, `initial × factor²` and so
/// on, never above `max`, each shortened by a random share of up to `jitter`.
///
/// The default is that of Kubeflow Pipelines' retry policy: no wait at first, doubled each time (which stays no
/// wait until `initial` is given), at most one hour, no jitter.
///
/// ```
/// use std::time::Duration;
/// use kf_core::backoff::Backoff;
///
/// let backoff = Backoff { initial: Duration::from_secs(10), max: Duration::from_secs(60), ..Backoff::default() };
/// assert_eq!(backoff.delay(1, 0), Duration::from_secs(10));
/// assert_eq!(backoff.delay(3, 0), Duration::from_secs(40));
/// assert_eq!(backoff.delay(9, 0), Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backoff {
    /// The wait after the first failed attempt.
    pub initial: Duration,
    /// What each wait is multiplied by to give the next. Below 1 or not a number counts as 1.
    pub factor: f64,
    /// The longest wait.
    pub max: Duration,
    /// The largest share of a wait that is left out at random, 0 to 1, so that many who failed together do not
    /// come back together.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::ZERO, factor: 2.0, max: Duration::from_secs(3600), jitter: 0.0 }
    }
}

impl Backoff {
    /// The wait after `attempt` failed attempts, from 1. The same `seed` and attempt give the same wait.
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        let max = self.max.as_secs_f64();
        let factor = if self.factor >= 1.0 { self.factor } else { 1.0 };
        let exponent = f64::from(attempt.saturating_sub(1));
        let full =
            if self.initial.is_zero() { 0.0 } else { self.initial.as_secs_f64() * factor.powf(exponent) };
        let jitter = if self.jitter > 0.0 { self.jitter.min(1.0) } else { 0.0 };
        let wait = full.min(max) * (1.0 - jitter * share(seed, attempt));
        Duration::try_from_secs_f64(wait).map_or(self.max, |wait| wait.min(self.max))
    }
}

/// A number in [0, 1) that looks random (SplitMix64, Steele, Lea and Flood 2014).
fn share(seed: u64, attempt: u32) -> f64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(u64::from(attempt) + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kfp_default_does_not_wait() {
        assert_eq!(Backoff::default().delay(7, 3), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn never_above_max_whatever_the_numbers(
            initial in any::<u64>(), factor in any::<f64>(), max in 0_u64..1 << 40, jitter in any::<f64>(),
            attempt in any::<u32>(), seed in any::<u64>(),
        ) {
            let backoff = Backoff {
                initial: Duration::from_millis(initial), factor, max: Duration::from_millis(max), jitter,
            };
            let wait = backoff.delay(attempt, seed);
            prop_assert!(wait <= backoff.max);
            prop_assert_eq!(wait, backoff.delay(attempt, seed));
        }

        #[test]
        fn jitter_takes_at_most_its_share(attempt in 1_u32..20, seed in any::<u64>()) {
            let plain = Backoff { initial: Duration::from_secs(1), ..Backoff::default() };
            let jittered = Backoff { jitter: 0.25, ..plain };
            let (full, short) = (plain.delay(attempt, seed), jittered.delay(attempt, seed));
            prop_assert!(short <= full && short >= full.mul_f64(0.7499), "{short:?} of {full:?}");
        }
    }
}
