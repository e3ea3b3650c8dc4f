//! Groups that go on as others when a rank is lost.

pub use c10d_sys::Aborter;
use c10d_sys::Group;

use super::{GroupOptions, Place, ProcessGroup};
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
    /// Its calls work on copies of their tensors. Its first failure ends it, on this rank at once and on the others
    /// soon: calls under way and later ones fail, with their tensors as they were. A backward pass is brought to its end
    /// in good order.
    ///
    /// # Errors
    /// [`Error::Collective`] over NCCL, where this is not possible yet.
    pub fn replaceable(mut self) -> Result<Self> {
        let made = self.group.make_replaceable();
        self.done("replaceable", made)?;
        Ok(self)
    }

    /// Goes on as another group, under everything that uses this one; rank and world size become the other's. What is
    /// left of the present group goes down aside, within its timeout.
    ///
    /// # Errors
    /// [`Error::Collective`] where this group is not [replaceable](Self::replaceable), or the other is over NCCL.
    pub fn replace(&self, other: Self) -> Result<()> {
        let Self { group, store, place, device: _, host: _, exchanges } = other;
        self.done("replace", self.group.replace(group))?;
        self.store.replace(store.into_inner());
        self.place.set(place.get());
        self.exchanges.set(exchanges.get());
        Ok(())
    }

    /// Why the group has failed; none where it has not, or is not [replaceable](Self::replaceable).
    pub fn failure(&self) -> Option<Error> {
        self.sound("the group").err()
    }

    /// What gives this group up from any thread. It has no power over the group that replaces this one.
    ///
    /// # Errors
    /// [`Error::Collective`] where this group is not [replaceable](Self::replaceable).
    pub fn aborter(&self) -> Result<Aborter> {
        self.done("aborter", self.group.aborter())
    }

    /// Connects some ranks of this group, named by their numbers in it, as a new group: their numbers there are their
    /// places in the list, which must be the same on all of them, as must be the round, a number not used before.
    ///
    /// They meet at this group's store, which lives on rank 0 of the job. The group itself may have failed.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a list that lacks this rank or names one twice or that is not there;
    /// [`Error::Collective`] and [`Error::CollectiveTimedOut`] where a rank does not come, or the store is gone.
    pub fn regroup(&self, members: &[usize], round: u64, options: GroupOptions) -> Result<Self> {
        let options = options.bounded();
        let unfit = |found: String| Error::Tensor {
            what: "regroup's members".into(),
            found,
            expected: format!("rank {} and others below {}, each once", self.rank(), self.world_size()),
        };
        let place = members.iter().position(|member| *member == self.rank());
        let distinct = members.iter().enumerate().all(|(i, member)| !members[..i].contains(member));
        let rank = place
            .filter(|_| distinct && members.iter().all(|member| *member < self.world_size()))
            .ok_or_else(|| unfit(format!("{members:?}")))?;
        let own =
            |error: c10d_sys::Error| super::failed(self.rank(), "regroup", options.join_timeout, &error);
        let store = self.store.borrow().prefixed(&format!("regroup/{round}")).map_err(own)?;
        let group =
            Group::gloo(&store, rank, members.len(), &self.host, options.join_timeout, options.timeout)
                .map_err(own)?;
        let place =
            Place { rank, world_size: members.len(), timeout: options.timeout, verify: options.verify };
        Ok(Self {
            group,
            store: store.into(),
            place: place.into(),
            device: self.device,
            host: self.host.clone(),
            exchanges: 0.into(),
        })
    }

    /// Whether the group has not failed, where it can tell.
    pub(crate) fn sound(&self, operation: &'static str) -> Result<()> {
        match self.group.failure() {
            None => Ok(()),
            Some(error) => self.done(operation, Err(error)),
        }
    }
}
