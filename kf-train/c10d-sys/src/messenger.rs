//! Messages from one rank to another.

use std::ptr::NonNull;

use tch::Tensor;

use crate::error::{Result, call};
use crate::ffi;
use crate::group::int;

/// Carries messages of a [`Group`](crate::Group), which it keeps connected. Those from one rank to another arrive in the
/// order in which they are sent. Over NCCL, which has one time for all that is under way, it is for the thread of the group.
#[derive(Debug)]
pub struct Messenger {
    pub(crate) raw: NonNull<ffi::KfGroup>,
}

// SAFETY: it shares a backend by count, which takes messages beside other calls: Gloo's and shared memory's lock where they
// must. What c10d counts of Gloo's calls without a lock is a number that is only told.
unsafe impl Send for Messenger {}

impl Messenger {
    /// Sends a tensor to one other rank, which must receive it.
    ///
    /// # Errors
    /// c10d's.
    pub fn send(&self, tensor: &mut Tensor, to: usize) -> Result<()> {
        let to = int(to)?;
        // SAFETY: messenger and tensor are alive.
        call(|message| unsafe {
            ffi::kf_group_send(self.raw.as_ptr(), tensor.as_mut_ptr().cast(), to, message)
        })
    }

    /// Fills a tensor with what one other rank sends.
    ///
    /// # Errors
    /// c10d's.
    pub fn recv(&self, tensor: &mut Tensor, from: usize) -> Result<()> {
        let from = int(from)?;
        // SAFETY: messenger and tensor are alive.
        call(|message| unsafe {
            ffi::kf_group_recv(self.raw.as_ptr(), tensor.as_mut_ptr().cast(), from, message)
        })
    }
}

impl Drop for Messenger {
    fn drop(&mut self) {
        // SAFETY: made by the shim and freed once.
        unsafe { ffi::kf_messenger_free(self.raw.as_ptr()) }
    }
}
