//! Process groups and their collectives.

use std::ptr::NonNull;
use std::time::Duration;

use tch::Tensor;

use crate::error::{Result, c_string, call, millis};
use crate::{Messenger, Store, Work, ffi};

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

/// Where other ranks reach this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address<'a> {
    /// A host's name or address.
    Host(&'a str),
    /// The address of a network interface, such as `eth0`; of several, separated by commas, in turns.
    Interface(&'a str),
}

/// A process group: over Gloo, for CPU tensors and with TCP between the ranks; over shared memory, for those of one
/// machine; or over NCCL, for tensors of one GPU.
///
/// All ranks must make the same calls in the same order. Over Gloo a collective only begins in its call, and its
/// [`Work`] tells when it is done on this rank, or the group's timeout is over: until then its tensors must be left
/// alone. Over NCCL it is done when the call returns.
#[derive(Debug)]
pub struct Group {
    raw: NonNull<ffi::KfGroup>,
}

// SAFETY: c10d's groups have no ties to the thread that made them; `Sync` they are not.
unsafe impl Send for Group {}

impl Group {
    /// Meets the other ranks at the store and connects to each, over Gloo.
    ///
    /// `address` is where the others can reach this rank. `connect` is for the meeting, `timeout` for every collective.
    ///
    /// # Errors
    /// c10d's, timed out where a rank does not come.
    pub fn gloo(
        store: &Store,
        rank: usize,
        size: usize,
        address: Address<'_>,
        connect: Duration,
        timeout: Duration,
    ) -> Result<Self> {
        let (address, is_interface) = match address {
            Address::Host(host) => (c_string(host)?, 0),
            Address::Interface(name) => (c_string(name)?, 1),
        };
        let (rank, size) = (int(rank)?, int(size)?);
        let (connect, timeout) = (millis(connect), millis(timeout));
        let mut out = std::ptr::null_mut();
        // SAFETY: store and address outlive the call, the group holds the store itself; `out` is written on OK.
        call(|message| unsafe {
            ffi::kf_group_gloo(
                store.raw(),
                rank,
                size,
                address.as_ptr(),
                is_interface,
                connect,
                timeout,
                &mut out,
                message,
            )
        })?;
        let raw = NonNull::new(out).ok_or_else(|| crate::Error::new("no group was made"))?;
        Ok(Self { raw })
    }

    /// Meets the other ranks at the store and connects to each, over NCCL. Tensors have to be on this GPU.
    ///
    /// `connect` is for the meeting, `timeout` for every collective. A collective that takes longer is ended, as are
    /// all later ones: drop the group then. Nothing but the connections of this group is affected.
    ///
    /// # Errors
    /// c10d's, timed out where a rank does not come; that there is no such GPU, or no CUDA in this libtorch.
    #[cfg(feature = "nccl")]
    pub fn nccl(
        store: &Store,
        rank: usize,
        size: usize,
        gpu: usize,
        connect: Duration,
        timeout: Duration,
    ) -> Result<Self> {
        let count = gpus()?;
        if gpu >= count {
            let there = if count == 1 { "GPU 0 alone".into() } else { format!("GPUs 0 to {}", count - 1) };
            return Err(crate::Error::new(format!("there is no GPU {gpu}: this machine has {there}")));
        }
        #[cfg(libtorch_has_nccl)]
        {
            let (rank, size, gpu) = (int(rank)?, int(size)?, int(gpu)?);
            let (connect, timeout) = (millis(connect), millis(timeout));
            let mut out = std::ptr::null_mut();
            // SAFETY: the store outlives the call, the group holds it itself; `out` is written on OK.
            call(|message| unsafe {
                ffi::kf_group_nccl(store.raw(), rank, size, gpu, connect, timeout, &mut out, message)
            })?;
            let raw = NonNull::new(out).ok_or_else(|| crate::Error::new("no group was made"))?;
            Ok(Self { raw })
        }
        #[cfg(not(libtorch_has_nccl))]
        {
            let _ = (store, rank, size, connect, timeout);
            Err(without_cuda())
        }
    }

    #[cfg(shared_memory)]
    pub(crate) fn from_raw(raw: *mut ffi::KfGroup) -> Result<Self> {
        let raw = NonNull::new(raw).ok_or_else(|| crate::Error::new("no group was made"))?;
        Ok(Self { raw })
    }

    /// Runs what uses the group in ways of its own, such as a backward pass through a [`Reducer`](crate::Reducer), in
    /// the group's time, and waits for what the GPU then still has to do. Gives what the body gave.
    ///
    /// # Errors
    /// c10d's, timed out where the time was not enough; it stands for the body's where both fail.
    pub fn within_timeout<T, E>(&self, body: impl FnOnce() -> Result<T, E>) -> Result<Result<T, E>> {
        // SAFETY: the group is alive.
        call(|message| unsafe { ffi::kf_group_begin(self.raw.as_ptr(), message) })?;
        let begun = Begun(self);
        let done = body();
        begun.end(done.is_err())?;
        Ok(done)
    }

    fn end(&self, failed: bool) -> Result<()> {
        // SAFETY: the group is alive.
        call(|message| unsafe { ffi::kf_group_end(self.raw.as_ptr(), failed.into(), message) })
    }

    /// Gives every rank the root's values.
    ///
    /// # Errors
    /// c10d's.
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<Work> {
        let root = int(root)?;
        // SAFETY: group and tensor are alive.
        Work::begun(|work, message| unsafe {
            ffi::kf_group_broadcast(self.raw.as_ptr(), tensor.as_mut_ptr().cast(), root, work, message)
        })
    }

    /// Reduces each element over the ranks, in place, on every rank.
    ///
    /// # Errors
    /// c10d's.
    pub fn all_reduce(&self, tensor: &mut Tensor, how: Reduction) -> Result<Work> {
        // SAFETY: group and tensor are alive.
        Work::begun(|work, message| unsafe {
            ffi::kf_group_all_reduce(self.raw.as_ptr(), tensor.as_mut_ptr().cast(), how as i32, work, message)
        })
    }

    /// Reduces each element over the ranks, in place, on the root; elsewhere the values are then of no meaning.
    ///
    /// # Errors
    /// c10d's.
    pub fn reduce(&self, tensor: &mut Tensor, root: usize, how: Reduction) -> Result<Work> {
        let root = int(root)?;
        // SAFETY: group and tensor are alive.
        Work::begun(|work, message| unsafe {
            ffi::kf_group_reduce(
                self.raw.as_ptr(),
                tensor.as_mut_ptr().cast(),
                root,
                how as i32,
                work,
                message,
            )
        })
    }

    /// Fills `output` (`size` times as many elements as `input`) with every rank's input, in the ranks' order.
    ///
    /// # Errors
    /// c10d's.
    pub fn all_gather(&self, output: &mut Tensor, input: &mut Tensor) -> Result<Work> {
        // SAFETY: group and tensors are alive.
        Work::begun(|work, message| unsafe {
            ffi::kf_group_all_gather(
                self.raw.as_ptr(),
                output.as_mut_ptr().cast(),
                input.as_mut_ptr().cast(),
                work,
                message,
            )
        })
    }

    /// Reduces `input` (`size` times as many elements as `output`) over the ranks, and leaves each rank its part.
    ///
    /// # Errors
    /// c10d's.
    pub fn reduce_scatter(&self, output: &mut Tensor, input: &mut Tensor, how: Reduction) -> Result<Work> {
        // SAFETY: group and tensors are alive.
        Work::begun(|work, message| unsafe {
            ffi::kf_group_reduce_scatter(
                self.raw.as_ptr(),
                output.as_mut_ptr().cast(),
                input.as_mut_ptr().cast(),
                how as i32,
                work,
                message,
            )
        })
    }

    /// Fills the root's `output` (of shape `[size, …]` for an input of `[…]`, and none elsewhere) with every rank's input.
    ///
    /// # Errors
    /// c10d's.
    pub fn gather(&self, output: Option<&mut Tensor>, input: &mut Tensor, root: usize) -> Result<Work> {
        let root = int(root)?;
        let output = output.map_or(std::ptr::null_mut(), |output| output.as_mut_ptr().cast());
        // SAFETY: group and tensors are alive, or the output is null.
        Work::begun(|work, message| unsafe {
            ffi::kf_group_gather(self.raw.as_ptr(), output, input.as_mut_ptr().cast(), root, work, message)
        })
    }

    /// Fills every rank's `output` with its part of the root's `input` (of shape `[size, …]`, and none elsewhere).
    ///
    /// # Errors
    /// c10d's.
    pub fn scatter(&self, output: &mut Tensor, input: Option<&mut Tensor>, root: usize) -> Result<Work> {
        let root = int(root)?;
        let input = input.map_or(std::ptr::null_mut(), |input| input.as_mut_ptr().cast());
        // SAFETY: group and tensors are alive, or the input is null.
        Work::begun(|work, message| unsafe {
            ffi::kf_group_scatter(self.raw.as_ptr(), output.as_mut_ptr().cast(), input, root, work, message)
        })
    }

    /// Sends the r-th of `size` parts of `input`'s first dimension to rank r, and fills `output` with what comes.
    ///
    /// # Errors
    /// c10d's.
    pub fn all_to_all(&self, output: &mut Tensor, input: &mut Tensor) -> Result<Work> {
        // SAFETY: group and tensors are alive.
        Work::begun(|work, message| unsafe {
            ffi::kf_group_all_to_all(
                self.raw.as_ptr(),
                output.as_mut_ptr().cast(),
                input.as_mut_ptr().cast(),
                work,
                message,
            )
        })
    }

    /// What carries messages between two ranks, on any thread; of the group as it is now, where it is replaced later.
    ///
    /// # Errors
    /// That there is no memory for it.
    pub fn messenger(&self) -> Result<Messenger> {
        let mut out = std::ptr::null_mut();
        // SAFETY: the group is alive; `out` is written on OK.
        call(|message| unsafe { ffi::kf_group_messenger(self.raw.as_ptr(), &mut out, message) })?;
        NonNull::new(out)
            .map(|raw| Messenger { raw })
            .ok_or_else(|| crate::Error::new("no messenger was made"))
    }

    /// Waits for every rank to come here.
    ///
    /// # Errors
    /// c10d's, timed out where a rank does not come.
    pub fn barrier(&self) -> Result<Work> {
        // SAFETY: the group is alive.
        Work::begun(|work, message| unsafe { ffi::kf_group_barrier(self.raw.as_ptr(), work, message) })
    }

    pub(crate) fn raw(&self) -> *mut ffi::KfGroup {
        self.raw.as_ptr()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by the shim and freed once.
        unsafe { ffi::kf_group_free(self.raw.as_ptr()) }
    }
}

/// What has begun and must end, also where the body panics.
struct Begun<'g>(&'g Group);

impl Begun<'_> {
    fn end(self, failed: bool) -> Result<()> {
        let group = self.0;
        std::mem::forget(self);
        group.end(failed)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // The panic says more.
        let _ = self.0.end(true);
    }
}

pub(crate) fn int(number: usize) -> Result<i32> {
    i32::try_from(number)
        .map_err(|_| crate::Error::new(format!("{number} is more ranks than c10d can count")))
}

/// How many GPUs this process can use; never 0.
///
/// # Errors
/// Why there are none: no driver, no GPU, or no CUDA in this libtorch.
#[cfg(feature = "nccl")]
pub fn gpus() -> Result<usize> {
    #[cfg(libtorch_has_nccl)]
    {
        let mut count = 0;
        // SAFETY: the count is written on OK.
        call(|message| unsafe { ffi::kf_gpus(&mut count, message) })?;
        Ok(count)
    }
    #[cfg(not(libtorch_has_nccl))]
    Err(without_cuda())
}

#[cfg(all(feature = "nccl", not(libtorch_has_nccl)))]
fn without_cuda() -> crate::Error {
    crate::Error::new(
        "this program was built with a libtorch without CUDA: run `cargo xtask libtorch --nccl`, or set LIBTORCH to one \
         with CUDA, and build again",
    )
}
