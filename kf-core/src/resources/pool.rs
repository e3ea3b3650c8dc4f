//! Who has taken what.

use super::{Capacity, Resources};
use crate::{Error, Result};

/// A capacity and how much of it is taken. Pure accounting: it enforces nothing.
///
/// ```
/// use kf_core::resources::{Capacity, Pool, Resources};
///
/// let mut pool = Pool::new(Capacity::new(Resources::none().cpu(2.0)));
/// let one_and_a_half = Resources::none().cpu(1.5);
/// assert!(pool.try_take(&one_and_a_half));
/// assert!(!pool.try_take(&one_and_a_half)); // later, when the first is given back
/// pool.give_back(&one_and_a_half);
/// assert!(pool.try_take(&one_and_a_half));
/// assert!(pool.fits(&Resources::none().cpu(3.0)).is_err()); // never
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    capacity: Capacity,
    taken: Resources,
}

impl Pool {
    /// A pool of which nothing is taken.
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, taken: Resources::none() }
    }

    /// The whole capacity.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// What is taken.
    pub fn taken(&self) -> &Resources {
        &self.taken
    }

    /// Whether the whole capacity would do.
    ///
    /// # Errors
    /// [`Error::Capacity`] where it would not, however long one waits.
    pub fn fits(&self, asked: &Resources) -> Result<()> {
        if within(asked, &Resources::none(), self.capacity.resources()) {
            return Ok(());
        }
        Err(Error::Capacity {
            what: "the request".to_owned(),
            asked: asked.to_string(),
            capacity: self.capacity.to_string(),
        })
    }

    /// Takes all that is asked, or nothing where not all of it is free.
    #[must_use]
    pub fn try_take(&mut self, asked: &Resources) -> bool {
        if !within(asked, &self.taken, self.capacity.resources()) {
            return false;
        }
        self.taken.cpu += asked.cpu;
        self.taken.memory += asked.memory;
        for (name, count) in &asked.accelerators {
            *self.taken.accelerators.entry(name.clone()).or_default() += count;
        }
        true
    }

    /// Gives back what was taken by a call with the same argument.
    pub fn give_back(&mut self, taken: &Resources) {
        self.taken.cpu = self.taken.cpu.saturating_sub(taken.cpu);
        self.taken.memory = self.taken.memory.saturating_sub(taken.memory);
        for (name, count) in &taken.accelerators {
            if let Some(held) = self.taken.accelerators.get_mut(name) {
                *held = held.saturating_sub(*count);
                if *held == 0 {
                    self.taken.accelerators.remove(name);
                }
            }
        }
    }
}

fn within(asked: &Resources, taken: &Resources, all: &Resources) -> bool {
    let free = |all: u64, taken: u64| all.saturating_sub(taken);
    let of = |resources: &Resources, name: &str| resources.accelerators.get(name).copied().unwrap_or(0);
    asked.cpu <= free(all.cpu, taken.cpu)
        && asked.memory <= free(all.memory, taken.memory)
        && asked.accelerators.iter().all(|(name, &count)| count <= free(of(all, name), of(taken, name)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amounts(max: u64) -> impl Strategy<Value = Resources> {
        let gpus = proptest::collection::btree_map("[ab]", 0..max, 0..3);
        (0..max, 0..max, gpus).prop_map(|(cpu, memory, accelerators)| Resources { cpu, memory, accelerators })
    }

    proptest! {
        #[test]
        fn never_over_and_never_lost(
            all in amounts(100), steps in proptest::collection::vec((amounts(60), any::<bool>()), 1..60),
        ) {
            let mut pool = Pool::new(Capacity::new(all.clone()));
            let mut held = Vec::new();
            for (asked, take) in steps {
                if take {
                    let before = pool.clone();
                    if pool.try_take(&asked) {
                        prop_assert!(pool.fits(&asked).is_ok());
                        held.push(asked);
                    } else {
                        prop_assert_eq!(before.taken(), pool.taken());
                    }
                } else if let Some(taken) = held.pop() {
                    pool.give_back(&taken);
                }
                let sum = |of: fn(&Resources) -> u64| held.iter().map(of).sum::<u64>();
                prop_assert_eq!(pool.taken().cpu, sum(|r| r.cpu));
                prop_assert_eq!(pool.taken().memory, sum(|r| r.memory));
                prop_assert!(pool.taken().cpu <= all.cpu && pool.taken().memory <= all.memory);
                for name in ["a", "b"] {
                    let of = |r: &Resources| r.accelerators.get(name).copied().unwrap_or(0);
                    prop_assert_eq!(of(pool.taken()), held.iter().map(of).sum::<u64>());
                    prop_assert!(of(pool.taken()) <= of(&all));
                }
            }
            for taken in held.drain(..) {
                pool.give_back(&taken);
            }
            prop_assert!(pool.taken().is_none());
        }
    }

    #[test]
    fn sums_do_not_overflow() {
        let most = Resources { cpu: u64::MAX, memory: u64::MAX, ..Resources::none() };
        let mut pool = Pool::new(Capacity::new(most.clone()));
        assert!(pool.try_take(&most));
        assert!(!pool.try_take(&most));
        assert!(pool.try_take(&Resources::none()));
    }

    #[test]
    fn the_error_names_both_sides() {
        let pool = Pool::new(Capacity::new(Resources::none().cpu(2.0)));
        let error = pool.fits(&Resources::none().accelerator("nvidia.com/gpu", 1.0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the request asks for nvidia.com/gpu 1, and there is cpu 2; ask for less, or raise the capacity"
        );
    }
}
