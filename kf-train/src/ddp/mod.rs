//! Data-parallel training.

mod uneven;
mod verify;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

pub use c10d_sys::Compression;
use c10d_sys::{Reducer, ReducerOptions};
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use self::uneven::Shared;
pub use self::uneven::{Divisor, Pass};
use crate::group::Call;
use crate::optim::Optimize;
use crate::{Error, ProcessGroup, Result};

/// How gradients are averaged.
#[derive(Debug, Clone, Copy)]
pub struct DdpOptions {
    /// The first bucket's size in bytes; small, so that the first exchange starts early.
    pub first_bucket_bytes: u32,
    /// The largest size in bytes of the others.
    pub bucket_bytes: u32,
    /// Look in each backward pass for parameters that the loss does not depend on. Without it, such parameters are an
    /// error in the next step.
    pub find_unused_parameters: bool,
    /// Let the gradients be views into the buckets, which saves a copy. tch's own `zero_grad` and `backward_step` fail
    /// on views: use those of [`DistributedDataParallel`].
    pub gradient_views: bool,
    /// Give all ranks rank 0's buffers (such as running means) after each backward pass.
    pub broadcast_buffers: bool,
    /// Exchange gradients in a type of half the size, at less precision; the same on all ranks. [`Compression::Bf16`]
    /// has the range of the gradients themselves; with [`Compression::Fp16`] small ones become 0, unless a
    /// [`GradScaler`](crate::GradScaler) keeps them large.
    pub compression: Option<Compression>,
}

impl Default for DdpOptions {
    /// As PyTorch: buckets of 1 MiB and then 25 MiB, buffers broadcast; no search for unused ones, no views, no compression.
    fn default() -> Self {
        let reducer = ReducerOptions::default();
        Self {
            first_bucket_bytes: reducer.first_bucket_bytes,
            bucket_bytes: reducer.bucket_bytes,
            find_unused_parameters: false,
            gradient_views: false,
            broadcast_buffers: true,
            compression: None,
        }
    }
}

/// Averages the gradients of a `VarStore`'s parameters over the ranks of a group.
///
/// Each rank computes the loss (a mean) of its own batch with its own copy of the model; [`backward`](Self::backward)
/// then leaves every rank the mean of all ranks' gradients, exchanged in buckets while autograd is still at work, so
/// that equal optimizers make equal steps. With batches of equal size, that is the gradient of the joint batch.
pub struct DistributedDataParallel<'a> {
    reducer: Reducer<'a>,
    group: &'a ProcessGroup,
    variables: HashMap<String, Tensor>,
    parameters: Vec<Tensor>,
    buffers: Vec<Tensor>,
    options: DdpOptions,
    /// What gradients are divided by instead of the number of ranks, and the rank whose buffers count.
    uneven: Cell<Option<Shared>>,
}

impl<'a> DistributedDataParallel<'a> {
    /// Makes sure that all ranks have the same parameters, gives them rank 0's values, and readies the exchange.
    ///
    /// Load a checkpoint before this, add no parameters after it, and freeze none.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with the first difference, on every rank alike; [`Error::Collective`],
    /// [`Error::CollectiveTimedOut`]; [`Error::Tensor`] where nothing is trainable.
    pub fn new(vs: &VarStore, group: &'a ProcessGroup) -> Result<Self> {
        Self::with_options(vs, group, DdpOptions::default())
    }

    /// Like [`new`](Self::new), with options.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_options(vs: &VarStore, group: &'a ProcessGroup, options: DdpOptions) -> Result<Self> {
        let ddp = Self::unsynchronized(vs, group, options)?;
        ddp.synchronize()?;
        Ok(ddp)
    }

    /// For a [`Team`](crate::Team), whose [`begin`](crate::Team::begin) gives its ranks the same state: by itself this makes
    /// no call, so that ranks may come to it at different times.
    ///
    /// # Errors
    /// [`Error::Tensor`] where nothing is trainable.
    pub fn in_team(vs: &VarStore, team: &'a crate::Team<'_>, options: DdpOptions) -> Result<Self> {
        Self::unsynchronized(vs, team.group(), options)
    }

    fn unsynchronized(vs: &VarStore, group: &'a ProcessGroup, options: DdpOptions) -> Result<Self> {
        let variables = vs.variables();
        let mut named = trainable(vs, &variables);
        if named.is_empty() {
            return Err(Error::Tensor {
                what: "the VarStore".into(),
                found: "no trainable parameter".into(),
                expected: "at least one; build the model before DistributedDataParallel".into(),
            });
        }
        let mut rest: Vec<_> = variables.iter().filter(|(_, tensor)| !tensor.requires_grad()).collect();
        rest.sort_by_key(|(name, _)| *name);
        let buffers: Vec<_> = rest.into_iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let parameters: Vec<_> = named.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let reducer_options = ReducerOptions {
            first_bucket_bytes: options.first_bucket_bytes,
            bucket_bytes: options.bucket_bytes,
            find_unused: options.find_unused_parameters,
            gradient_views: options.gradient_views,
            compression: options.compression,
        };
        let reducer =
            group.done("the reducer's start", Reducer::new(group.raw(), &mut named, reducer_options))?;
        Ok(Self { reducer, group, variables, parameters, buffers, options, uneven: Cell::new(None) })
    }

    /// Makes sure that all ranks have the same parameters, and gives them rank 0's values, parameters and buffers.
    ///
    /// [`new`](Self::new) does so. After the group [was replaced](ProcessGroup::replace) by one with ranks that are new,
    /// those that are not call this while the new ones are in their `new`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with the first difference, on every rank alike; [`Error::Collective`],
    /// [`Error::CollectiveTimedOut`].
    pub fn synchronize(&self) -> Result<()> {
        verify::verify(self.group, &self.variables)?;
        spread(self.group, 0, self.parameters.iter().chain(&self.buffers))
    }

    /// Lets the gradients go, computes and averages them anew, and makes the optimizer's step.
    ///
    /// # Errors
    /// Those of [`backward`](Self::backward).
    pub fn backward_step(&self, optimizer: &mut impl Optimize, loss: &Tensor) -> Result<()> {
        self.zero_grad();
        self.backward(loss)?;
        optimizer.make_step()
    }

    /// Adds this pass's gradients, averaged over the ranks, to the parameters' gradients.
    ///
    /// # Errors
    /// [`Error::Collective`] and [`Error::CollectiveTimedOut`] when another rank is gone or does not come,
    /// [`Error::Torch`] when autograd fails. The gradients are then of no meaning. Over a group that is
    /// [replaceable](ProcessGroup::replaceable), the pass has come to its end as always: replace the group, and go on.
    pub fn backward(&self, loss: &Tensor) -> Result<()> {
        let shared = self.uneven.get();
        let mut output = self.options.find_unused_parameters.then(|| loss.shallow_clone());
        // The second pass compares how ranks have ordered their buckets.
        let call = self.group.call("backward");
        let ready = self.group.raw().within_timeout(|| {
            self.reducer.prepare(output.as_mut(), shared.and_then(|shared| shared.divisor))
        });
        call.done(ready.and_then(|ready| ready))?;
        self.exchange(&call, loss)?;
        drop(call);
        self.spread_buffers(shared.map_or(0, |shared| shared.root))
    }

    fn spread_buffers(&self, root: usize) -> Result<()> {
        match self.options.broadcast_buffers {
            true => spread(self.group, root, &self.buffers),
            false => Ok(()),
        }
    }

    /// Adds this pass's gradients without an exchange, to gather the gradients of several passes before the one that
    /// [`backward`](Self::backward) then averages.
    ///
    /// # Errors
    /// [`Error::Torch`] when autograd fails.
    pub fn backward_no_sync(&self, loss: &Tensor) -> Result<()> {
        loss.f_backward().map_err(|error| autograd(&error))
    }

    /// Lets the gradients go, as PyTorch does: a parameter has none until a pass gives it one, and an optimizer leaves those
    /// out that got none. Cheaper than zeroes, to which the next pass would have to add.
    pub fn zero_grad(&self) {
        c10d_sys::forget_gradients(&self.parameters);
    }

    /// The trainable parameters, in the order in which the model made them.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    fn exchange(&self, call: &Call, loss: &Tensor) -> Result<()> {
        let Err(error) = call.done(self.group.raw().within_timeout(|| loss.f_backward()))? else {
            return self.group.sound(call);
        };
        let message = first_line(&error.to_string());
        // What the exchange throws comes out of autograd; Gloo's errors tell of their source file.
        let of_exchange =
            ["gloo", "shared memory", "NCCL", "imed out"].iter().any(|mark| message.contains(mark));
        Err(match of_exchange {
            true => call.failed(message.contains("imed out"), &message),
            false => autograd(&error),
        })
    }
}

impl fmt::Debug for DistributedDataParallel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistributedDataParallel")
            .field("parameters", &self.parameters.len())
            .field("buffers", &self.buffers.len())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The trainable parameters in the order in which the model made them, which is the same on all ranks.
pub(crate) fn trainable(vs: &VarStore, variables: &HashMap<String, Tensor>) -> Vec<(String, Tensor)> {
    let names: HashMap<_, _> = variables.iter().map(|(name, tensor)| (tensor.data_ptr(), name)).collect();
    let parameters = vs.trainable_variables().into_iter().filter(Tensor::requires_grad);
    parameters
        .enumerate()
        .map(|(i, tensor)| {
            let name = names.get(&tensor.data_ptr()).map_or_else(|| format!("#{i}"), |name| (*name).clone());
            (name, tensor)
        })
        .collect()
}

/// Gives all ranks the root's values.
fn spread<'t>(
    group: &ProcessGroup,
    root: usize,
    tensors: impl IntoIterator<Item = &'t Tensor>,
) -> Result<()> {
    no_grad(|| {
        for tensor in tensors {
            match tensor.is_contiguous() {
                true => group.broadcast(&mut tensor.shallow_clone(), root)?,
                false => {
                    let mut whole = tensor.contiguous();
                    group.broadcast(&mut whole, root)?;
                    tensor.shallow_clone().copy_(&whole);
                }
            }
        }
        Ok(())
    })
}

fn autograd(error: &tch::TchError) -> Error {
    Error::Torch { what: "backward".into(), message: first_line(&error.to_string()) }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
