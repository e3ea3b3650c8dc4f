//! Some of a group's ranks as a group of their own.

use std::sync::Arc;

use tch::{Device, Tensor};

use super::calls::Calls;
use super::checks::wrong;
use super::{GroupOptions, ProcessGroup};
use crate::{Error, Result};

impl ProcessGroup {
    /// Some of this group's ranks as a group: with this group's backend and options, connections of its own, and ranks
    /// numbered in the order given, from 0. Errors of its calls speak of these numbers; [`members`](Self::members) tells
    /// which ranks of the job they are.
    ///
    /// Every rank of this group must call it, with the same list, whether it is in it or not; those that are not get none
    /// at once, those that are wait for one another. Rank 0 of the job serves the store that they meet at, unless the
    /// launcher does, and must stay until they have. The group may outlive this one.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the list is empty, holds a rank twice or one that there is not; [`Error::Collective`] where
    /// the lists differ and this group [verifies](crate::GroupOptions::verify); [`Error::NotJoined`] naming, by their
    /// new numbers, ranks that did not come.
    pub fn subgroup(&self, ranks: &[usize]) -> Result<Option<Self>> {
        if ranks.is_empty() {
            return Err(wrong("subgroup's ranks", "none", "at least one".into()));
        }
        self.check_ranks("subgroup's ranks", ranks)?;
        let call = self.call("subgroup");
        if self.options().verify {
            let own = serde_json::to_vec(ranks).unwrap_or_default();
            let all = self.exchange_in(&call, &own)?;
            let text = |list: &[u8]| String::from_utf8_lossy(list).into_owned();
            let first = all.first().map(|list| text(list)).unwrap_or_default();
            if let Some((rank, list)) = all.iter().enumerate().find(|(_, list)| text(list) != first) {
                let told = format!("rank 0 asks for {first}, and rank {rank} for {}", text(list));
                return Err(self.differs("subgroup", told));
            }
        }
        self.of(&self.next_scope(), ranks, self.options())
    }

    /// Divides this group: ranks that name the same color become a group, numbered by their keys and, where these are
    /// equal, by their numbers here. A rank that names no color gets no group. Every rank must call it, and keep the group
    /// until the others have theirs too, as they do after any collective of it.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::CollectiveTimedOut`], [`Error::NotJoined`].
    pub fn split(&self, color: Option<u64>, key: i64) -> Result<Option<Self>> {
        let call = self.call("split");
        let own = [i64::from(color.is_some()), color.unwrap_or(0).cast_signed(), key];
        let own = Tensor::from_slice(&own).to_device(self.device());
        let shape = [self.world_size() as i64, 3];
        let mut all = Tensor::empty(shape, (own.kind(), own.device()));
        let begun = self.raw().all_gather(&mut all, &mut own.unsqueeze(0));
        call.done(begun.and_then(|mut work| work.wait()))?;
        let all: Vec<i64> =
            Vec::try_from(all.to_device(Device::Cpu).view(-1)).map_err(|error: tch::TchError| {
                Error::Torch { what: "reading the colors of a split".into(), message: error.to_string() }
            })?;
        let scope = self.next_scope();
        let Some(color) = color else { return Ok(None) };
        self.of(&format!("{scope}{color}/"), &of_color(&all, color), self.options())
    }

    /// The scope of the next subgroup, the same on all ranks.
    fn next_scope(&self) -> String {
        let number = self.subgroups.get();
        self.subgroups.set(number + 1);
        format!("{}groups/{number}/", self.round.borrow().calls.scope)
    }

    /// Connects these ranks, at this group's store; none where this rank is not one of them.
    pub(super) fn of(&self, scope: &str, ranks: &[usize], options: GroupOptions) -> Result<Option<Self>> {
        let round = self.round();
        let Some(rank) = ranks.iter().position(|rank| *rank == round.calls.rank) else { return Ok(None) };
        let calls = Calls::new(scope.to_owned(), rank, ranks.len(), options.timeout);
        let members = ranks.iter().filter_map(|rank| round.members.get(*rank).copied()).collect();
        let (store, reporter) = (Arc::clone(&round.store), round.reporter.clone());
        let connect = options.join_timeout;
        Self::connect(store, calls, members, reporter, round.place.clone(), connect, options).map(Some)
    }

    pub(super) fn check_ranks(&self, what: &str, ranks: &[usize]) -> Result<()> {
        for (i, rank) in ranks.iter().enumerate() {
            self.check_rank(what, *rank)?;
            if ranks.iter().take(i).any(|other| other == rank) {
                return Err(wrong(what, format!("{rank} twice"), "each rank once".into()));
            }
        }
        Ok(())
    }
}

/// The ranks of a color, by key and then by rank, of each rank's `[has a color, color, key]`.
fn of_color(all: &[i64], color: u64) -> Vec<usize> {
    let mut members: Vec<(i64, usize)> = all
        .chunks_exact(3)
        .enumerate()
        .filter_map(|(rank, row)| match *row {
            [1, other, key] if other.cast_unsigned() == color => Some((key, rank)),
            _ => None,
        })
        .collect();
    members.sort_unstable();
    members.into_iter().map(|(_, rank)| rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_color_is_ordered_by_key_and_rank() {
        let all = [1, 7, 5, 0, 7, 0, 1, 7, -1, 1, 8, 0, 1, 7, 5];
        assert_eq!(of_color(&all, 7), [2, 0, 4]);
        assert_eq!(of_color(&all, 8), [3]);
        assert_eq!(of_color(&[1, -1, 0], u64::MAX), [0]);
    }
}
