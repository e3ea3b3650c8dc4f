//! Mixed precision.

use std::ffi::c_int;
use std::marker::PhantomData;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, call};
use crate::ffi;
use crate::optim::pointers;

/// Divides gradients by a scale, in place, and tells whether all of them are finite.
///
/// # Errors
/// libtorch's, such as gradients of different devices.
pub fn unscale(gradients: &[Tensor], scale: f64) -> Result<bool> {
    let gradients = pointers(gradients);
    let mut finite: c_int = 0;
    // SAFETY: all tensors are alive; `finite` is written on OK.
    call(|message| unsafe {
        ffi::kf_unscale(gradients.as_ptr(), gradients.len(), scale, &mut finite, message)
    })?;
    Ok(finite != 0)
}

/// Mixed precision, for as long as this lives, on the thread that began it.
#[derive(Debug)]
pub struct Autocast {
    cuda: bool,
    enabled_before: c_int,
    kind_before: c_int,
    // It belongs to its thread.
    thread: PhantomData<*const ()>,
}

/// Begins mixed precision on this thread: matrix products and convolutions compute in this type on this kind of device.
///
/// # Errors
/// A type that is neither half nor bfloat16, a device that is neither CPU nor CUDA.
pub fn autocast(device: Device, kind: Kind) -> Result<Autocast> {
    let cuda = match device {
        Device::Cpu => false,
        Device::Cuda(_) => true,
        other => return Err(Error::new(format!("there is no mixed precision on {other:?}"))),
    };
    // libtorch's numbers of the types.
    let number = match kind {
        Kind::Half => 5,
        Kind::BFloat16 => 15,
        other => return Err(Error::new(format!("mixed precision is in Half or BFloat16, not in {other:?}"))),
    };
    let (mut enabled_before, mut kind_before) = (0, 0);
    // SAFETY: both are written on OK.
    call(|message| unsafe {
        ffi::kf_autocast_begin(cuda.into(), number, &mut enabled_before, &mut kind_before, message)
    })?;
    Ok(Autocast { cuda, enabled_before, kind_before, thread: PhantomData })
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // It fails for devices that can't be, and those were refused at the beginning.
        // SAFETY: it was begun on this thread.
        let _ = call(|message| unsafe {
            ffi::kf_autocast_end(self.cuda.into(), self.enabled_before, self.kind_before, message)
        });
    }
}
