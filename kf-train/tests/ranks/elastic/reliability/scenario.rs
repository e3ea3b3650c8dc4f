//! What goes wrong, by a seed.

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    RankKilled,
    AgentKilled,
    RankFrozen,
    LinkCut,
    LinkSlow,
    DiskFull,
    KilledWhileJoining,
    TwoAtOnce,
    StoreHostGone,
}

pub(super) const KINDS: [Kind; 9] = [
    Kind::RankKilled,
    Kind::AgentKilled,
    Kind::RankFrozen,
    Kind::LinkCut,
    Kind::LinkSlow,
    Kind::DiskFull,
    Kind::KilledWhileJoining,
    Kind::TwoAtOnce,
    Kind::StoreHostGone,
];

impl Kind {
    /// Whether it takes links of the nodes' own.
    pub(super) fn takes_network(self) -> bool {
        matches!(self, Self::LinkCut | Self::LinkSlow | Self::StoreHostGone)
    }
}

/// One thing that goes wrong in a training that is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) kind: Kind,
    /// Whether ranks outlive rounds.
    pub(super) heals: bool,
}

impl Scenario {
    /// Any 18 seeds in a row have each kind in each mode.
    pub(super) fn of(seed: u64) -> Self {
        let count = KINDS.len() as u64;
        Self { seed, kind: KINDS[(seed % count) as usize], heals: (seed / count) % 2 == 1 }
    }

    /// Whether the training goes on where a checkpoint can't be saved, and does not fail.
    pub(super) fn goes_on(self) -> bool {
        (self.seed / (2 * KINDS.len() as u64)).is_multiple_of(2) == self.heals
    }
}

/// What is left to chance: SplitMix64.
pub(super) struct Choices(u64);

impl Choices {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A time of so many milliseconds.
    pub(super) fn millis(&mut self, range: std::ops::Range<usize>) -> std::time::Duration {
        std::time::Duration::from_millis((range.start + self.below(range.len())) as u64)
    }
}
