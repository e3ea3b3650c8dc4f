//! Data-parallel training.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use c10d_sys::{Reducer, ReducerOptions};
use serde::{Deserialize, Serialize};
use tch::nn::{Optimizer, VarStore};
use tch::{Tensor, no_grad};

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
}

impl Default for DdpOptions {
    /// As PyTorch: buckets of 1 MiB and then 25 MiB, buffers broadcast; no search for unused ones, no views.
    fn default() -> Self {
        let reducer = ReducerOptions::default();
        Self {
            first_bucket_bytes: reducer.first_bucket_bytes,
            bucket_bytes: reducer.bucket_bytes,
            find_unused_parameters: false,
            gradient_views: false,
            broadcast_buffers: true,
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
    parameters: Vec<Tensor>,
    buffers: Vec<Tensor>,
    options: DdpOptions,
}

/// One parameter or buffer, as ranks compare them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Described {
    shape: Vec<i64>,
    kind: String,
    trainable: bool,
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
        let variables = vs.variables();
        verify(group, &variables)?;
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
        spread(group, parameters.iter().chain(&buffers))?;
        let reducer_options = ReducerOptions {
            first_bucket_bytes: options.first_bucket_bytes,
            bucket_bytes: options.bucket_bytes,
            find_unused: options.find_unused_parameters,
            gradient_views: options.gradient_views,
        };
        let reducer =
            group.done("the reducer's start", Reducer::new(group.raw(), &mut named, reducer_options))?;
        Ok(Self { reducer, group, parameters, buffers, options })
    }

    /// Zeroes the gradients, computes and averages them anew, and makes the optimizer's step.
    ///
    /// # Errors
    /// Those of [`backward`](Self::backward).
    pub fn backward_step(&self, optimizer: &mut Optimizer, loss: &Tensor) -> Result<()> {
        self.zero_grad();
        self.backward(loss)?;
        optimizer.step();
        Ok(())
    }

    /// Adds this pass's gradients, averaged over the ranks, to the parameters' gradients.
    ///
    /// # Errors
    /// [`Error::Collective`] and [`Error::CollectiveTimedOut`] when another rank is gone or does not come,
    /// [`Error::Torch`] when autograd fails.
    pub fn backward(&self, loss: &Tensor) -> Result<()> {
        let mut output = self.options.find_unused_parameters.then(|| loss.shallow_clone());
        // The second pass compares how ranks have ordered their buckets.
        let ready = self.group.raw().within_timeout(|| self.reducer.prepare(output.as_mut()));
        self.group.done("backward", ready.and_then(|ready| ready))?;
        self.run(loss, true)?;
        if self.options.broadcast_buffers {
            spread(self.group, &self.buffers)?;
        }
        Ok(())
    }

    /// Adds this pass's gradients without an exchange, to gather the gradients of several passes before the one that
    /// [`backward`](Self::backward) then averages.
    ///
    /// # Errors
    /// [`Error::Torch`] when autograd fails.
    pub fn backward_no_sync(&self, loss: &Tensor) -> Result<()> {
        self.run(loss, false)
    }

    /// Zeroes the gradients in place, which views into the buckets bear.
    pub fn zero_grad(&self) {
        no_grad(|| {
            for parameter in &self.parameters {
                let mut gradient = parameter.grad();
                if gradient.defined() {
                    let _ = gradient.zero_();
                }
            }
        });
    }

    fn run(&self, loss: &Tensor, exchanging: bool) -> Result<()> {
        let done = match exchanging {
            true => self.group.done("backward", self.group.raw().within_timeout(|| loss.f_backward()))?,
            false => loss.f_backward(),
        };
        let Err(error) = done else { return Ok(()) };
        let message = first_line(&error.to_string());
        // What the exchange throws comes out of autograd; Gloo's errors tell of their source file.
        let of_exchange = ["gloo", "NCCL", "imed out"].iter().any(|mark| message.contains(mark));
        Err(match exchanging && of_exchange {
            true => self.group.call("backward").failed(message.contains("imed out"), &message),
            false => Error::Torch { what: "backward".into(), message },
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
fn trainable(vs: &VarStore, variables: &HashMap<String, Tensor>) -> Vec<(String, Tensor)> {
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

/// Gives all ranks rank 0's values.
fn spread<'t>(group: &ProcessGroup, tensors: impl IntoIterator<Item = &'t Tensor>) -> Result<()> {
    no_grad(|| {
        for tensor in tensors {
            match tensor.is_contiguous() {
                true => group.broadcast(&mut tensor.shallow_clone(), 0)?,
                false => {
                    let mut whole = tensor.contiguous();
                    group.broadcast(&mut whole, 0)?;
                    tensor.shallow_clone().copy_(&whole);
                }
            }
        }
        Ok(())
    })
}

/// Compares every rank's parameters with rank 0's; all ranks come to the same verdict.
fn verify(group: &ProcessGroup, variables: &HashMap<String, Tensor>) -> Result<()> {
    let own: BTreeMap<String, Described> = variables
        .iter()
        .map(|(name, tensor)| {
            let described = Described {
                shape: tensor.size(),
                kind: format!("{:?}", tensor.kind()),
                trainable: tensor.requires_grad(),
            };
            (name.clone(), described)
        })
        .collect();
    let json = serde_json::to_vec(&own).map_err(|error| Error::Torch {
        what: "describing the parameters".into(),
        message: error.to_string(),
    })?;
    let all = group.exchange("parameters", &json)?;
    let read =
        |bytes: &[u8]| serde_json::from_slice::<BTreeMap<String, Described>>(bytes).unwrap_or_default();
    let first = all.first().map(|bytes| read(bytes)).unwrap_or_default();
    for (rank, theirs) in all.iter().enumerate().skip(1) {
        if let Some(difference) = difference(&first, &read(theirs)) {
            return Err(Error::Mismatch { rank, difference });
        }
    }
    Ok(())
}

/// The first difference, in the order of names.
fn difference(zero: &BTreeMap<String, Described>, other: &BTreeMap<String, Described>) -> Option<String> {
    let told = |described: &Described| {
        let frozen = if described.trainable { "" } else { ", not trainable" };
        format!("{} {:?}{frozen}", described.kind, described.shape)
    };
    for (name, described) in zero {
        match other.get(name) {
            None => return Some(format!("it has no `{name}` ({} on rank 0)", told(described))),
            Some(theirs) if theirs != described => {
                return Some(format!("`{name}` is {}, and {} on rank 0", told(theirs), told(described)));
            }
            Some(_) => {}
        }
    }
    let more = other.iter().find(|(name, _)| !zero.contains_key(*name))?;
    Some(format!("it has `{}` ({}), which rank 0 has not", more.0, told(more.1)))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told() {
        let map = |list: &[(&str, i64, bool)]| -> BTreeMap<String, Described> {
            let described = |&(name, size, trainable): &(&str, i64, bool)| {
                (name.to_owned(), Described { shape: vec![size], kind: "Float".into(), trainable })
            };
            list.iter().map(described).collect()
        };
        let zero = map(&[("a", 1, true), ("b", 2, true)]);
        let told = |other: &[(&str, i64, bool)]| difference(&zero, &map(other));
        assert_eq!(told(&[("a", 1, true), ("b", 2, true)]), None);
        assert_eq!(told(&[("a", 1, true)]).unwrap(), "it has no `b` (Float [2] on rank 0)");
        assert_eq!(
            told(&[("a", 1, true), ("b", 3, false)]).unwrap(),
            "`b` is Float [3], not trainable, and Float [2] on rank 0"
        );
        assert_eq!(
            told(&[("a", 1, true), ("b", 2, true), ("c", 4, true)]).unwrap(),
            "it has `c` (Float [4]), which rank 0 has not"
        );
    }
}
