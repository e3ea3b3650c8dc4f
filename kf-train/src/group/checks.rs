//! Whether tensors and ranks are what a call takes.

use tch::{Device, Kind, Tensor};

use super::ProcessGroup;
use crate::{Error, Result};

/// How values of several ranks become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// Their mean; floating point only.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

impl ProcessGroup {
    pub(super) fn check(&self, operation: &str, tensor: &Tensor) -> Result<()> {
        self.check_named(&format!("{operation}'s tensor"), tensor)
    }

    fn check_named(&self, what: &str, tensor: &Tensor) -> Result<()> {
        self.check_place(what, tensor)?;
        if !tensor.is_contiguous() {
            let found = format!("strides {:?}", tensor.stride());
            return Err(wrong(what, found, "a contiguous one: call contiguous() first".into()));
        }
        Ok(())
    }

    pub(super) fn check_place(&self, what: &str, tensor: &Tensor) -> Result<()> {
        if tensor.device() == self.device() {
            return Ok(());
        }
        let backend = if self.device() == Device::Cpu { "Gloo" } else { "NCCL" };
        let expected = format!("device {:?}, for {backend}", self.device());
        Err(wrong(what, format!("device {:?}", tensor.device()), expected))
    }

    pub(super) fn check_reduced(&self, operation: &str, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        self.check(operation, tensor)?;
        self.check_kind(operation, tensor, op)
    }

    pub(super) fn check_kind(&self, operation: &str, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        let kind = tensor.kind();
        if op == ReduceOp::Avg && !matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
            let expected = "floating point for a mean".into();
            return Err(wrong(format!("{operation}'s tensor"), format!("type {kind:?}"), expected));
        }
        Ok(())
    }

    pub(super) fn check_rank(&self, what: &str, rank: usize) -> Result<()> {
        match rank < self.world_size() {
            true => Ok(()),
            false => Err(wrong(what, rank, format!("a rank below {}", self.world_size()))),
        }
    }

    pub(super) fn check_other(&self, what: &str, rank: usize) -> Result<()> {
        self.check_rank(what, rank)?;
        match rank == self.rank() {
            false => Ok(()),
            true => Err(wrong(what, format!("{rank}, which is this one"), "another rank".into())),
        }
    }

    /// Whether `whole` holds one `part` of each rank.
    pub(super) fn check_whole(&self, what: &str, whole: &Tensor, part: &Tensor) -> Result<()> {
        self.check_named(what, whole)?;
        let (shape, kind) = (self.of_all(part), part.kind());
        if whole.size() == shape && whole.kind() == kind {
            return Ok(());
        }
        let found = format!("{:?} {:?}", whole.kind(), whole.size());
        Err(wrong(what, found, format!("{kind:?} {shape:?}")))
    }

    /// The shape of every rank's tensor as one.
    pub(super) fn of_all(&self, tensor: &Tensor) -> Vec<i64> {
        let mut shape = tensor.size();
        shape.insert(0, self.world_size() as i64);
        shape
    }

    /// One rank's share of the first dimension.
    pub(super) fn part_of(&self, operation: &str, tensor: &Tensor) -> Result<i64> {
        let world_size = self.world_size() as i64;
        match tensor.size().first() {
            Some(first) if first % world_size == 0 => Ok(first / world_size),
            _ => {
                let expected = format!("a first dimension that is a multiple of {world_size}");
                Err(wrong(format!("{operation}'s tensor"), format!("shape {:?}", tensor.size()), expected))
            }
        }
    }
}

/// Gloo has no mean of its own: it makes sums, and this the mean.
pub(super) fn average(tensor: &Tensor, op: ReduceOp, world_size: usize) {
    if op == ReduceOp::Avg {
        let _ = tch::no_grad(|| tensor.detach().g_div_scalar_(world_size as f64));
    }
}

pub(super) fn reduction(op: ReduceOp) -> c10d_sys::Reduction {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => c10d_sys::Reduction::Sum,
        ReduceOp::Min => c10d_sys::Reduction::Min,
        ReduceOp::Max => c10d_sys::Reduction::Max,
    }
}

pub(super) fn wrong(what: impl Into<String>, found: impl ToString, expected: String) -> Error {
    Error::Tensor { what: what.into(), found: found.to_string(), expected }
}
