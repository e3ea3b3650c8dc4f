//! What the ranks of a group do together, over every backend alike.

use tch::Tensor;

use super::{ProcessGroup, ReduceOp};
#[cfg(doc)]
use crate::Error;
use crate::Result;

/// Every call fails with [`Error::Tensor`] where its tensors or ranks are not what it takes, before anything is sent;
/// with [`Error::Collective`] where another rank is seen to be gone and, of a group that
/// [verifies](crate::GroupOptions::verify) or in [`recv`](Self::recv), where the ranks' tensors do not fit one another;
/// and with [`Error::CollectiveTimedOut`] where it is not done in the group's time.
impl ProcessGroup {
    /// Gives every rank the values of rank `root`, in place.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()> {
        self.broadcast_async(tensor.shallow_clone(), root)?.wait().map(drop)
    }

    /// Reduces each element over all ranks, in place, on every rank.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<()> {
        self.all_reduce_async(tensor.shallow_clone(), op)?.wait().map(drop)
    }

    /// Reduces each element over all ranks, in place, on rank `root`. On the others the tensor's values are then
    /// undefined.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn reduce(&self, tensor: &mut Tensor, root: usize, op: ReduceOp) -> Result<()> {
        self.reduce_async(tensor.shallow_clone(), root, op)?.wait().map(drop)
    }

    /// Every rank's tensor on every rank: shape `[world_size, …]` for tensors of shape `[…]`.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        self.all_gather_async(tensor)?.wait()
    }

    /// Like [`all_gather`](Self::all_gather), into a tensor of shape `[world_size, …]` that is there already.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn all_gather_into(&self, output: &mut Tensor, tensor: &Tensor) -> Result<()> {
        self.check("all_gather_into", tensor)?;
        self.check_whole("all_gather_into's output", output, tensor)?;
        self.gather_all("all_gather_into", output.shallow_clone(), tensor)?.wait().map(drop)
    }

    /// Reduces over all ranks and leaves rank r the r-th part of the first dimension: shape `[n / world_size, …]` for
    /// tensors of shape `[n, …]`.
    ///
    /// # Errors
    /// [`Error::Tensor`] also where n is not a multiple of `world_size`; [`Error::Collective`],
    /// [`Error::CollectiveTimedOut`].
    pub fn reduce_scatter(&self, tensor: &Tensor, op: ReduceOp) -> Result<Tensor> {
        self.reduce_scatter_async(tensor, op)?.wait()
    }

    /// Every rank's tensor on rank `root`, and none on the others: shape `[world_size, …]` for tensors of shape `[…]`.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn gather(&self, tensor: &Tensor, root: usize) -> Result<Option<Tensor>> {
        self.gather_async(tensor, root)?.wait()
    }

    /// Fills `output`, of shape `[…]`, with this rank's part of what rank `root` gives: a tensor of shape
    /// `[world_size, …]`, and on the others none.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn scatter(&self, output: &mut Tensor, parts: Option<&Tensor>, root: usize) -> Result<()> {
        self.scatter_async(output.shallow_clone(), parts, root)?.wait().map(drop)
    }

    /// Sends the r-th part of the first dimension to rank r, and puts what comes together in the ranks' order: the
    /// shape stays `[n, …]`, of which every part is `n / world_size`.
    ///
    /// # Errors
    /// [`Error::Tensor`] also where n is not a multiple of `world_size`; [`Error::Collective`],
    /// [`Error::CollectiveTimedOut`].
    pub fn all_to_all(&self, tensor: &Tensor) -> Result<Tensor> {
        self.all_to_all_async(tensor)?.wait()
    }

    /// Waits until every rank is here.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn barrier(&self) -> Result<()> {
        self.barrier_async()?.wait()
    }
}
