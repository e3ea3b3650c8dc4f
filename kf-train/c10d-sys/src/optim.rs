//! Optimizer steps over many tensors at once, and gradients forgotten, which tch does not reach.

use tch::Tensor;

use crate::error::{Error, Result, call};
use crate::ffi::{self, AtTensor};

/// How [`adam_step`] steps.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// The learning rate.
    pub lr: f64,
    /// How slowly the mean forgets.
    pub beta1: f64,
    /// How slowly the mean of squares forgets.
    pub beta2: f64,
    /// The weight decay.
    pub weight_decay: f64,
    /// What is added to the denominator.
    pub eps: f64,
    /// Whether weights decay by themselves, as AdamW's, or through the gradient, as Adam's.
    pub decoupled: bool,
}

/// Makes one step of Adam or AdamW, in place. All lists are of the same length, and the i-th tensors of the same shape,
/// type and device; `largest` is empty unless the variant AMSGrad is wanted. `steps` counts each parameter's steps, this
/// one among them.
///
/// # Errors
/// Lists or tensors that do not fit one another, and libtorch's.
pub fn adam_step(
    parameters: &[Tensor],
    gradients: &[Tensor],
    first: &[Tensor],
    second: &[Tensor],
    largest: &[Tensor],
    steps: &[i64],
    how: AdamStep,
) -> Result<()> {
    let count = parameters.len();
    same_length(count, &[gradients.len(), first.len(), second.len(), steps.len()])?;
    if !largest.is_empty() {
        same_length(count, &[largest.len()])?;
    }
    let lists = [parameters, gradients, first, second, largest].map(pointers);
    let largest = if largest.is_empty() { std::ptr::null() } else { lists[4].as_ptr() };
    // SAFETY: each list has as many tensors as the count says, all alive; the shim compares them with one another.
    call(|message| unsafe {
        ffi::kf_adam_step(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            lists[3].as_ptr(),
            largest,
            steps.as_ptr(),
            count,
            how.lr,
            how.beta1,
            how.beta2,
            how.weight_decay,
            how.eps,
            how.decoupled.into(),
            message,
        )
    })
}

/// How [`sgd_step`] steps.
#[derive(Debug, Clone, Copy)]
pub struct SgdStep {
    /// The learning rate.
    pub lr: f64,
    /// How much of the velocity stays.
    pub momentum: f64,
    /// How much of the gradient is kept out of the velocity.
    pub dampening: f64,
    /// The weight decay.
    pub weight_decay: f64,
    /// Whether the step looks ahead.
    pub nesterov: bool,
    /// Whether the velocity is the gradient, as in the first step.
    pub first: bool,
}

/// Makes one step of SGD, in place. All lists are of the same length, and the i-th tensors of the same shape, type and
/// device; `buffers` is empty without momentum.
///
/// # Errors
/// Lists or tensors that do not fit one another, and libtorch's.
pub fn sgd_step(parameters: &[Tensor], gradients: &[Tensor], buffers: &[Tensor], how: SgdStep) -> Result<()> {
    let count = parameters.len();
    same_length(count, &[gradients.len()])?;
    if !buffers.is_empty() {
        same_length(count, &[buffers.len()])?;
    }
    let lists = [parameters, gradients, buffers].map(pointers);
    let buffers = if buffers.is_empty() { std::ptr::null() } else { lists[2].as_ptr() };
    // SAFETY: each list has as many tensors as the count says, all alive; the shim compares them with one another.
    call(|message| unsafe {
        ffi::kf_sgd_step(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            buffers,
            count,
            how.lr,
            how.momentum,
            how.dampening,
            how.weight_decay,
            how.nesterov.into(),
            how.first.into(),
            message,
        )
    })
}

/// Leaves parameters without gradients, so that the next backward pass makes new ones instead of adding to them.
pub fn forget_gradients(parameters: &[Tensor]) {
    let parameters = pointers(parameters);
    // SAFETY: all tensors are alive, and the shim only lets go of what they hold.
    let done =
        call(|message| unsafe { ffi::kf_gradients_forget(parameters.as_ptr(), parameters.len(), message) });
    debug_assert!(done.is_ok(), "{done:?}");
}

fn same_length(expected: usize, found: &[usize]) -> Result<()> {
    match found.iter().find(|found| **found != expected) {
        None => Ok(()),
        Some(found) => Err(Error::new(format!("{expected} parameters, but {found} of what belongs to them"))),
    }
}

pub(crate) fn pointers(tensors: &[Tensor]) -> Vec<*mut AtTensor> {
    tensors.iter().map(|tensor| tensor.as_ptr().cast_mut().cast()).collect()
}
