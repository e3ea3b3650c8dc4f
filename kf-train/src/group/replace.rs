//! Groups that go on as others when a rank is lost.

use std::thread;

pub use c10d_sys::Aborter;

use super::calls::Call;
use super::checks::wrong;
use super::{GroupOptions, ProcessGroup, failed};
use crate::{Error, Result};

/// Going on without a rank that is lost, in the same process, with the same model and
/// [`DistributedDataParallel`](crate::DistributedDataParallel):
///
/// ```no_run
/// # use kf_train::{Backend, DistributedDataParallel, GroupOptions, ProcessGroup, Rank};
/// # fn doc(rank: &Rank, vs: &tch::nn::VarStore, loss: &tch::Tensor) -> kf_train::Result<()> {
/// let group = ProcessGroup::join(rank, Backend::Gloo)?.replaceable()?;
/// let ddp = DistributedDataParallel::new(vs, &group)?;
/// let aborter = group.aborter()?;    // for another thread, which learns of lost ranks before the group does
/// # drop(aborter);
/// if ddp.backward(loss).is_err() && group.failure().is_some() {
///     let survivors = [0, 1];        // as all of them have agreed
///     group.replace(group.regroup(&survivors, 1, GroupOptions::default())?)?;
///     ddp.backward(loss)?;           // the gradients' mean over two ranks
/// }
/// # Ok(()) }
/// ```
impl ProcessGroup {
    /// Makes this a group that can be given up at any moment, and [replaced](Self::replace).
    ///
    /// Messages under way are waited for. Its calls work on copies of their tensors. Its first failure ends it, on this rank at once and on the others
    /// soon, at the latest when the time of a call is over: calls under way and later ones fail, with their tensors as they were. A backward pass is brought to its end
    /// in good order. The other ranks are looked at only where time ran out, and once. Groups made of it by
    /// [`subgroup`](Self::subgroup) and [`split`](Self::split) are not replaceable, and remain when it is replaced.
    ///
    /// # Errors
    /// [`Error::Collective`] over NCCL, where this is not possible yet.
    pub fn replaceable(mut self) -> Result<Self> {
        // Those under way go on without the copies.
        drop(self.lanes.take());
        let made = self.group.make_replaceable();
        self.told("replaceable", made)?;
        self.round().calls.end_with_a_failure();
        Ok(self)
    }

    /// Goes on as another group, under everything that uses this one; rank, world size, members, store and options become
    /// the other's, and calls are counted anew. What is left of the present group goes down aside, within its timeout.
    ///
    /// # Errors
    /// [`Error::Collective`] where this group is not [replaceable](Self::replaceable), or the other is over NCCL.
    pub fn replace(&self, other: Self) -> Result<()> {
        let Self { lanes, group, round, exchanges, subgroups } = other;
        self.told("replace", self.group.replace(group))?;
        let lanes = self.lanes.replace(lanes.into_inner());
        let round = round.into_inner();
        round.calls.end_with_a_failure();
        let before = self.round.replace(round);
        self.exchanges.set(exchanges.get());
        self.subgroups.set(subgroups.get());
        // A store that does not answer holds its end up. Without a thread, it is dropped here.
        let _ = thread::Builder::new().name("kf-replaced".into()).spawn(move || drop((lanes, before)));
        Ok(())
    }

    /// Why the group has failed; none where it has not, or is not [replaceable](Self::replaceable).
    pub fn failure(&self) -> Option<Error> {
        self.told("the group", self.group.failure().map_or(Ok(()), Err)).err()
    }

    /// What gives this group up from any thread. It has no power over the group that replaces this one.
    ///
    /// # Errors
    /// [`Error::Collective`] where this group is not [replaceable](Self::replaceable).
    pub fn aborter(&self) -> Result<Aborter> {
        self.told("aborter", self.group.aborter())
    }

    /// Connects some ranks of this group, named by their numbers in it, as a new group: their numbers there are their
    /// places in the list, which must be the same on all of them, as must be the round, a number not used before.
    ///
    /// They meet at this group's store, which has to be there still. The group itself may have failed.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a list that lacks this rank or names one twice or that is not there; [`Error::NotJoined`]
    /// naming, by their new numbers, ranks that did not come; [`Error::Collective`] where the store is gone.
    pub fn regroup(&self, members: &[usize], round: u64, options: GroupOptions) -> Result<Self> {
        const WHAT: &str = "regroup's members";
        self.check_ranks(WHAT, members)?;
        let scope = format!("{}regroup/{round}/", self.round.borrow().calls.scope);
        let made = self.of(&scope, members, options.bounded())?;
        made.ok_or_else(|| wrong(WHAT, format!("{members:?}"), format!("rank {} among them", self.rank())))
    }

    /// Whether the group has not failed under a call that does not fail itself.
    pub(crate) fn sound(&self, call: &Call) -> Result<()> {
        call.done(self.group.failure().map_or(Ok(()), Err))
    }

    /// The result of what is no call of the group.
    fn told<T>(&self, operation: &'static str, result: c10d_sys::Result<T>) -> Result<T> {
        result.map_err(|error| failed(self.rank(), operation, self.options().timeout, &error))
    }
}
