//! Process groups and their collectives.

use std::ptr::NonNull;
use std::time::Duration;

use tch::Tensor;

use crate::error::{Result, c_string, call, millis};
use crate::{Store, ffi};

/// How values of several ranks become one; c10d's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Reduction {
    /// Their sum.
    Sum = 0,
    /// The smallest.
    Min = 3,
    /// The largest.
    Max = 4,
}

/// A process group over Gloo: CPU tensors, TCP between the ranks.
///
/// All ranks must make the same calls in the same order. Each call blocks until the collective is done on this rank,
/// or the group's timeout is over.
#[derive(Debug)]
pub struct Group {
    raw: NonNull<ffi::KfGroup>,
}

// SAFETY: c10d's groups have no ties to the thread that made them; `Sync` they are not.
unsafe impl Send for Group {}

impl Group {
    /// Meets the other ranks at the store and connects to each.
    ///
    /// `host` is the name or address under which the others can reach this rank. `timeout` is for the meeting and for
    /// every collective.
    ///
    /// # Errors
    /// c10d's, timed out where a rank does not come.
    pub fn gloo(store: &Store, rank: usize, size: usize, host: &str, timeout: Duration) -> Result<Self> {
        let host = c_string(host)?;
        let (rank, size) = (int(rank)?, int(size)?);
        let mut out = std::ptr::null_mut();
        // SAFETY: store and host outlive the call, the group holds the store itself; `out` is written on OK.
        call(|message| unsafe {
            ffi::kf_group_gloo(store.raw(), rank, size, host.as_ptr(), millis(timeout), &mut out, message)
        })?;
        let raw = NonNull::new(out).ok_or_else(|| crate::Error::new("no group was made"))?;
        Ok(Self { raw })
    }

    /// Gives every rank the root's values.
    ///
    /// # Errors
    /// c10d's.
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()> {
        let root = int(root)?;
        // SAFETY: group and tensor are alive.
        call(|message| unsafe {
            ffi::kf_group_broadcast(self.raw.as_ptr(), tensor.as_mut_ptr().cast(), root, message)
        })
    }

    /// Reduces each element over the ranks, in place, on every rank.
    ///
    /// # Errors
    /// c10d's.
    pub fn all_reduce(&self, tensor: &mut Tensor, how: Reduction) -> Result<()> {
        // SAFETY: group and tensor are alive.
        call(|message| unsafe {
            ffi::kf_group_all_reduce(self.raw.as_ptr(), tensor.as_mut_ptr().cast(), how as i32, message)
        })
    }

    /// Fills `output` (`size` times as many elements as `input`) with every rank's input, in the ranks' order.
    ///
    /// # Errors
    /// c10d's.
    pub fn all_gather(&self, output: &mut Tensor, input: &mut Tensor) -> Result<()> {
        // SAFETY: group and tensors are alive.
        call(|message| unsafe {
            ffi::kf_group_all_gather(
                self.raw.as_ptr(),
                output.as_mut_ptr().cast(),
                input.as_mut_ptr().cast(),
                message,
            )
        })
    }

    /// Reduces `input` (`size` times as many elements as `output`) over the ranks, and leaves each rank its part.
    ///
    /// # Errors
    /// c10d's.
    pub fn reduce_scatter(&self, output: &mut Tensor, input: &mut Tensor, how: Reduction) -> Result<()> {
        // SAFETY: group and tensors are alive.
        call(|message| unsafe {
            ffi::kf_group_reduce_scatter(
                self.raw.as_ptr(),
                output.as_mut_ptr().cast(),
                input.as_mut_ptr().cast(),
                how as i32,
                message,
            )
        })
    }

    /// Waits for every rank to come here.
    ///
    /// # Errors
    /// c10d's, timed out where a rank does not come.
    pub fn barrier(&self) -> Result<()> {
        // SAFETY: the group is alive.
        call(|message| unsafe { ffi::kf_group_barrier(self.raw.as_ptr(), message) })
    }

    pub(crate) fn raw(&self) -> *const ffi::KfGroup {
        self.raw.as_ptr()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by the shim and freed once.
        unsafe { ffi::kf_group_free(self.raw.as_ptr()) }
    }
}

fn int(number: usize) -> Result<i32> {
    i32::try_from(number)
        .map_err(|_| crate::Error::new(format!("{number} is more ranks than c10d can count")))
}
