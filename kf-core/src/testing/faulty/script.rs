//! Which call meets which fault.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::mutex::locked;

/// Faults by call: those that were asked for by name, in order, then at random ones.
#[derive(Debug)]
pub(super) struct Script<C, F>(Mutex<Inner<C, F>>);

#[derive(Debug)]
struct Inner<C, F> {
    rules: Vec<Rule<C, F>>,
    random: Option<Random<F>>,
    away_until: Option<Instant>,
    calls: Vec<C>,
    met: usize,
}

#[derive(Debug)]
struct Rule<C, F> {
    call: C,
    fault: F,
    left: usize,
}

#[derive(Debug)]
struct Random<F> {
    state: u64,
    one_in: u64,
    faults: Vec<F>,
    /// What met one at its last call.
    hit: HashSet<String>,
}

impl<C: Copy + PartialEq, F: Clone> Script<C, F> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            rules: Vec::new(),
            random: None,
            away_until: None,
            calls: Vec::new(),
            met: 0,
        }))
    }

    pub(super) fn rule(&self, call: C, fault: F, times: usize) {
        locked(&self.0).rules.push(Rule { call, fault, left: times });
    }

    pub(super) fn at_random(&self, seed: u64, one_in: u64, faults: Vec<F>) {
        locked(&self.0).random =
            Some(Random { state: seed, one_in: one_in.max(1), faults, hit: HashSet::new() });
    }

    pub(super) fn away_for(&self, time: Duration) {
        locked(&self.0).away_until = Some(Instant::now() + time);
    }

    pub(super) fn heal(&self) {
        let mut inner = locked(&self.0);
        inner.rules.clear();
        inner.random = None;
        inner.away_until = None;
    }

    pub(super) fn is_away(&self) -> bool {
        locked(&self.0).away_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn calls(&self, call: C) -> usize {
        locked(&self.0).calls.iter().filter(|made| **made == call).count()
    }

    pub(super) fn met(&self) -> usize {
        locked(&self.0).met
    }

    /// Notes a call, and gives the fault that it meets. Of calls for one thing, no two in a row meet a random one where
    /// some meet none: who asks again must get through, however often it is tried.
    pub(super) fn next(&self, call: C, of: Option<&str>) -> Option<F> {
        let mut inner = locked(&self.0);
        inner.calls.push(call);
        let ruled = inner.rules.iter_mut().find(|rule| rule.call == call && rule.left > 0).map(|rule| {
            rule.left -= 1;
            rule.fault.clone()
        });
        let fault = ruled.or_else(|| inner.random.as_mut().and_then(|random| random.draw(of)));
        inner.met += usize::from(fault.is_some());
        fault
    }
}

impl<F: Clone> Random<F> {
    /// Numbers that look random (SplitMix64, Steele, Lea and Flood 2014).
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn draw(&mut self, of: Option<&str>) -> Option<F> {
        let mut hit = self.below(self.one_in) == 0;
        let at = self.below(self.faults.len() as u64) as usize;
        if let Some(of) = of.filter(|_| self.one_in > 1) {
            let was = self.hit.remove(of);
            hit &= !was;
            if hit {
                self.hit.insert(of.to_owned());
            }
        }
        self.faults.get(at).filter(|_| hit).cloned()
    }
}
