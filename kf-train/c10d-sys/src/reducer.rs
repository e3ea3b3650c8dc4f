//! The averaging of gradients while they are computed.

use std::ffi::{CString, c_char};
use std::marker::PhantomData;
use std::ptr::NonNull;

use tch::Tensor;

use crate::Group;
use crate::error::{Result, c_string, call};
use crate::ffi::{self, AtTensor};

/// How a [`Reducer`] works.
#[derive(Debug, Clone, Copy)]
pub struct ReducerOptions {
    /// The first bucket's size in bytes; small, so that the first exchange starts early.
    pub first_bucket_bytes: u32,
    /// The largest size in bytes of the others.
    pub bucket_bytes: u32,
    /// Look in each backward pass for the parameters that the loss does not depend on.
    pub find_unused: bool,
    /// Let gradients be views into the buckets: a copy less; they must then be forgotten or zeroed in place, never
    /// detached.
    pub gradient_views: bool,
    /// Exchange gradients in a smaller type.
    pub compression: Option<Compression>,
}

/// The type, half as large as `f32`, in which ranks exchange gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Compression {
    /// IEEE half precision: 11 bits of precision, magnitudes from 6e-8 to 65504.
    Fp16 = 1,
    /// bfloat16: 8 bits of precision, the range of `f32`.
    Bf16 = 2,
}

impl Default for ReducerOptions {
    /// As PyTorch: 1 MiB, 25 MiB, none of the others.
    fn default() -> Self {
        Self {
            first_bucket_bytes: 1 << 20,
            bucket_bytes: 25 << 20,
            find_unused: false,
            gradient_views: false,
            compression: None,
        }
    }
}

/// c10d's `Reducer`: gathers gradients into buckets as autograd makes them, and averages each bucket over the ranks
/// while the rest is still being computed.
#[derive(Debug)]
pub struct Reducer<'g> {
    raw: NonNull<ffi::KfReducer>,
    // What it has begun uses the group.
    group: PhantomData<&'g ()>,
}

// SAFETY: c10d's reducer locks where autograd's threads call it, and has no ties to the thread that made it.
unsafe impl Send for Reducer<'_> {}

impl<'g> Reducer<'g> {
    /// A reducer for these parameters, by name; the same ones in the same order on every rank.
    ///
    /// # Errors
    /// c10d's, such as a parameter that needs no gradient.
    pub fn new(
        group: &'g Group,
        parameters: &mut [(String, Tensor)],
        options: ReducerOptions,
    ) -> Result<Self> {
        let names: Vec<CString> = parameters.iter().map(|(name, _)| c_string(name)).collect::<Result<_>>()?;
        let names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let tensors: Vec<*mut AtTensor> =
            parameters.iter_mut().map(|(_, tensor)| tensor.as_mut_ptr().cast()).collect();
        let mut out = std::ptr::null_mut();
        // SAFETY: tensors and names outlive the call, and the reducer holds tensors and group itself.
        call(|message| unsafe {
            ffi::kf_reducer_new(
                group.raw(),
                tensors.as_ptr(),
                names.as_ptr(),
                tensors.len(),
                options.first_bucket_bytes.into(),
                options.bucket_bytes.into(),
                options.find_unused.into(),
                options.gradient_views.into(),
                options.compression.map_or(0, |compression| compression as i32),
                &mut out,
                message,
            )
        })?;
        let raw = NonNull::new(out).ok_or_else(|| crate::Error::new("no reducer was made"))?;
        Ok(Self { raw, group: PhantomData })
    }

    /// Makes ready for one backward pass, whose gradients will be averaged. `loss` is needed only to find unused
    /// parameters. Gradients are summed and divided by the divisor, or by the number of ranks where there is none.
    ///
    /// Where the group [was replaced](Group::replace), buckets are as at the beginning again, on every rank alike.
    ///
    /// # Errors
    /// c10d's, such as parameters that got no gradient in the pass before; why the group has failed.
    pub fn prepare(&self, loss: Option<&mut Tensor>, divisor: Option<usize>) -> Result<()> {
        let loss = loss.map_or(std::ptr::null_mut(), |loss| loss.as_mut_ptr().cast());
        // SAFETY: the reducer is alive; the loss is null or alive.
        call(|message| unsafe {
            ffi::kf_reducer_prepare(self.raw.as_ptr(), loss, divided_by(divisor), message)
        })
    }

    /// Takes part in the others' pass without one of its own, as if with gradients of zero; leaves the same gradients as
    /// that pass does on the others.
    ///
    /// # Errors
    /// c10d's; why the group has failed.
    pub fn shadow(&self, divisor: Option<usize>) -> Result<()> {
        // SAFETY: the reducer is alive.
        call(|message| unsafe { ffi::kf_reducer_shadow(self.raw.as_ptr(), divided_by(divisor), message) })
    }
}

fn divided_by(divisor: Option<usize>) -> i64 {
    divisor.map_or(0, |divisor| i64::try_from(divisor).unwrap_or(i64::MAX))
}

impl Drop for Reducer<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the shim and freed once.
        unsafe { ffi::kf_reducer_free(self.raw.as_ptr()) }
    }
}
