//! Many tensors in one call: they travel in few large messages instead of many small ones.

use std::collections::VecDeque;

use tch::{Kind, Tensor, no_grad};

use super::calls::Call;
use super::checks::{average, reduction};
use super::{ProcessGroup, ReduceOp};
use crate::Result;

/// The size in bytes from which tensors of one type travel in a message of their own.
const BUCKET: usize = 25 << 20;
/// How many messages are under way at a time; each is a copy of its tensors.
const UNDER_WAY: usize = 2;

/// Calls of many tensors, which may have different shapes and types, and any strides. They do what the calls of one
/// tensor do for each, in buckets of up to 25 MiB that hold tensors of one type in their order. All ranks must give the
/// same shapes and types in the same order; of no tensors, nothing is sent.
impl ProcessGroup {
    /// Gives every rank the values of rank `root`, in place. After an error some may have been changed.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective),
    /// [`Error::CollectiveTimedOut`](crate::Error::CollectiveTimedOut).
    pub fn broadcast_coalesced(&self, tensors: &mut [Tensor], root: usize) -> Result<()> {
        self.check_rank("broadcast_coalesced's root", root)?;
        let call = self.coalesced("broadcast_coalesced", format_args!(" from rank {root}"), tensors)?;
        self.in_place(&call, tensors, |flat| self.raw().broadcast(flat, root), |_| ())
    }

    /// Reduces each element of each tensor over all ranks, in place, on every rank. After an error some may have been
    /// changed.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective),
    /// [`Error::CollectiveTimedOut`](crate::Error::CollectiveTimedOut).
    pub fn all_reduce_coalesced(&self, tensors: &mut [Tensor], op: ReduceOp) -> Result<()> {
        self.check_kinds("all_reduce_coalesced", tensors, op)?;
        let call = self.coalesced("all_reduce_coalesced", format_args!(" by {op:?}"), tensors)?;
        let mean = |flat: &Tensor| average(flat, op, self.world_size());
        self.in_place(&call, tensors, |flat| self.raw().all_reduce(flat, reduction(op)), mean)
    }

    /// Every rank's tensors on every rank: for each, shape `[world_size, …]` for one of shape `[…]`.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective),
    /// [`Error::CollectiveTimedOut`](crate::Error::CollectiveTimedOut).
    pub fn all_gather_coalesced(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        let call = self.coalesced("all_gather_coalesced", format_args!(""), tensors)?;
        let world_size = self.world_size() as i64;
        let mut outputs: Vec<_> = tensors.iter().map(|tensor| empty(&self.of_all(tensor), tensor)).collect();
        self.pipelined(
            &call,
            tensors,
            |bucket| {
                let flat = Tensor::cat(&bucket.iter().map(|i| flat(&tensors[*i])).collect::<Vec<_>>(), 0);
                let mut all = empty(&[world_size, flat.size1().unwrap_or(0)], &flat);
                let work = self.raw().all_gather(&mut all, &mut flat.unsqueeze(0))?;
                Ok((work, all))
            },
            |bucket, all| {
                let mut from = 0;
                for i in bucket {
                    let length = tensors[*i].numel() as i64;
                    let values = all.narrow(1, from, length).reshape(outputs[*i].size());
                    outputs[*i].copy_(&values);
                    from += length;
                }
            },
        )?;
        Ok(outputs)
    }

    /// Reduces over all ranks and leaves rank r the r-th part of each tensor's first dimension: for each, shape
    /// `[n / world_size, …]` for one of shape `[n, …]`.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) also where an n is not a multiple of `world_size`;
    /// [`Error::Collective`](crate::Error::Collective), [`Error::CollectiveTimedOut`](crate::Error::CollectiveTimedOut).
    pub fn reduce_scatter_coalesced(&self, tensors: &[Tensor], op: ReduceOp) -> Result<Vec<Tensor>> {
        self.check_kinds("reduce_scatter_coalesced", tensors, op)?;
        let mut outputs = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let mut shape = tensor.size();
            let part = self.part_of("reduce_scatter_coalesced", tensor)?;
            shape.iter_mut().take(1).for_each(|first| *first = part);
            outputs.push(empty(&shape, tensor));
        }
        let call = self.coalesced("reduce_scatter_coalesced", format_args!(" by {op:?}"), tensors)?;
        let world_size = self.world_size();
        let rows = |tensor: &Tensor| tensor.detach().reshape([world_size as i64, -1]);
        self.pipelined(
            &call,
            tensors,
            |bucket| {
                let mut whole =
                    Tensor::cat(&bucket.iter().map(|i| rows(&tensors[*i])).collect::<Vec<_>>(), 1);
                let mut part = empty(&[1, whole.size2().map_or(0, |(_, columns)| columns)], &whole);
                let work = self.raw().reduce_scatter(&mut part, &mut whole, reduction(op))?;
                Ok((work, part))
            },
            |bucket, part| {
                average(part, op, world_size);
                let mut from = 0;
                for i in bucket {
                    let length = outputs[*i].numel() as i64;
                    let values = part.narrow(1, from, length).reshape(outputs[*i].size());
                    outputs[*i].copy_(&values);
                    from += length;
                }
            },
        )?;
        Ok(outputs)
    }

    fn check_kinds(&self, operation: &str, tensors: &[Tensor], op: ReduceOp) -> Result<()> {
        tensors.iter().try_for_each(|tensor| self.check_kind(operation, tensor, op))
    }

    fn coalesced(
        &self,
        operation: &'static str,
        how: std::fmt::Arguments<'_>,
        tensors: &[Tensor],
    ) -> Result<Call> {
        tensors.iter().try_for_each(|tensor| self.check_place(&format!("{operation}'s tensor"), tensor))?;
        let call = self.call(operation);
        self.verify_all(&call, how, tensors)?;
        Ok(call)
    }

    /// Exchanges buckets of the tensors and writes what comes back over them.
    fn in_place(
        &self,
        call: &Call,
        tensors: &[Tensor],
        begin: impl Fn(&mut Tensor) -> c10d_sys::Result<c10d_sys::Work>,
        finish: impl Fn(&Tensor),
    ) -> Result<()> {
        self.pipelined(
            call,
            tensors,
            |bucket| {
                let mut whole = match bucket {
                    // One that fills a bucket needs no copy.
                    [one] if tensors[*one].is_contiguous() => flat(&tensors[*one]),
                    _ => Tensor::cat(&bucket.iter().map(|i| flat(&tensors[*i])).collect::<Vec<_>>(), 0),
                };
                let work = begin(&mut whole)?;
                Ok((work, whole))
            },
            |bucket, whole| {
                finish(whole);
                let mut from = 0;
                for i in bucket {
                    let tensor = &tensors[*i];
                    let length = tensor.numel() as i64;
                    if bucket.len() > 1 || !tensor.is_contiguous() {
                        tensor.detach().copy_(&whole.narrow(0, from, length).view_as(tensor));
                    }
                    from += length;
                }
            },
        )
    }

    /// Begins a bucket while the one before is under way.
    fn pipelined(
        &self,
        call: &Call,
        tensors: &[Tensor],
        begin: impl Fn(&[usize]) -> c10d_sys::Result<(c10d_sys::Work, Tensor)>,
        mut finish: impl FnMut(&[usize], &Tensor),
    ) -> Result<()> {
        let sizes: Vec<_> = tensors.iter().map(|tensor| (tensor.kind(), bytes(tensor))).collect();
        let buckets = buckets(&sizes, BUCKET);
        let mut under_way: VecDeque<(&[usize], c10d_sys::Work, Tensor)> = VecDeque::new();
        no_grad(|| {
            for bucket in &buckets {
                if under_way.len() == UNDER_WAY
                    && let Some((bucket, mut work, tensor)) = under_way.pop_front()
                {
                    call.done(work.wait())?;
                    finish(bucket, &tensor);
                }
                let (work, tensor) = call.done(begin(bucket))?;
                under_way.push_back((bucket, work, tensor));
            }
            for (bucket, mut work, tensor) in under_way {
                call.done(work.wait())?;
                finish(bucket, &tensor);
            }
            Ok(())
        })
    }
}

fn flat(tensor: &Tensor) -> Tensor {
    tensor.detach().reshape([-1])
}

fn empty(shape: &[i64], like: &Tensor) -> Tensor {
    Tensor::empty(shape, (like.kind(), like.device()))
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// The tensors' indices in buckets of one type each and of at most `limit` bytes, or of one tensor. Those of no bytes
/// are in none.
fn buckets(sizes: &[(Kind, usize)], limit: usize) -> Vec<Vec<usize>> {
    let mut done = Vec::new();
    let mut open: Vec<(Kind, usize, Vec<usize>)> = Vec::new();
    for (i, &(kind, bytes)) in sizes.iter().enumerate().filter(|(_, (_, bytes))| *bytes > 0) {
        match open.iter_mut().find(|(other, ..)| *other == kind) {
            Some((_, filled, bucket)) if *filled + bytes <= limit => {
                *filled += bytes;
                bucket.push(i);
            }
            Some((_, filled, bucket)) => {
                *filled = bytes;
                done.push(std::mem::replace(bucket, vec![i]));
            }
            None => open.push((kind, bytes, vec![i])),
        }
    }
    done.extend(open.into_iter().map(|(.., bucket)| bucket));
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_one_type_in_order_up_to_their_limit() {
        let (float, int) = (Kind::Float, Kind::Int64);
        let sizes = [(float, 4), (int, 8), (float, 6), (float, 1), (float, 0), (int, 100), (int, 2)];
        assert_eq!(buckets(&sizes, 10), [vec![0, 2], vec![1], vec![5], vec![3], vec![6]]);
        assert!(buckets(&[(float, 0)], 10).is_empty());
    }
}
