//! What the ranks of a group do together, over every backend alike.

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

/// Every call fails with [`Error::Tensor`] where its tensors or ranks are not what it takes, before anything is sent;
/// with [`Error::Collective`] where another rank is seen to be gone and, of a group that
/// [verifies](crate::GroupOptions::verify) or in [`recv`](Self::recv), where the ranks' tensors do not fit one another;
/// and with [`Error::CollectiveTimedOut`] where it is not done in the group's time.
impl ProcessGroup {
    /// Gives every rank the values of rank `root`, in place.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()> {
        self.check("broadcast", tensor)?;
        self.check_rank("broadcast's root", root)?;
        self.verify("broadcast", format_args!(" from rank {root}"), tensor)?;
        self.done("broadcast", self.raw().broadcast(tensor, root))
    }

    /// Reduces each element over all ranks, in place, on every rank.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<()> {
        self.check_reduced("all_reduce", tensor, op)?;
        self.verify("all_reduce", format_args!(" by {op:?}"), tensor)?;
        self.done("all_reduce", self.raw().all_reduce(tensor, reduction(op)))?;
        self.average(tensor, op);
        Ok(())
    }

    /// Reduces each element over all ranks, in place, on rank `root`. On the others the tensor's values are then
    /// undefined.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn reduce(&self, tensor: &mut Tensor, root: usize, op: ReduceOp) -> Result<()> {
        self.check_reduced("reduce", tensor, op)?;
        self.check_rank("reduce's root", root)?;
        self.verify("reduce", format_args!(" to rank {root} by {op:?}"), tensor)?;
        self.done("reduce", self.raw().reduce(tensor, root, reduction(op)))?;
        if root == self.rank() {
            self.average(tensor, op);
        }
        Ok(())
    }

    /// Every rank's tensor on every rank: shape `[world_size, …]` for tensors of shape `[…]`.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        self.check("all_gather", tensor)?;
        let mut output = Tensor::empty(self.of_all(tensor), (tensor.kind(), tensor.device()));
        self.gather_all("all_gather", &mut output, tensor)?;
        Ok(output)
    }

    /// Like [`all_gather`](Self::all_gather), into a tensor of shape `[world_size, …]` that is there already.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn all_gather_into(&self, output: &mut Tensor, tensor: &Tensor) -> Result<()> {
        self.check("all_gather_into", tensor)?;
        self.check_whole("all_gather_into's output", output, tensor)?;
        self.gather_all("all_gather_into", output, tensor)
    }

    fn gather_all(&self, operation: &'static str, output: &mut Tensor, tensor: &Tensor) -> Result<()> {
        self.verify(operation, format_args!(""), tensor)?;
        // Gloo wants the first dimension to be world_size times the input's.
        let mut input = tensor.unsqueeze(0);
        self.done(operation, self.raw().all_gather(output, &mut input))
    }

    /// Reduces over all ranks and leaves rank r the r-th part of the first dimension: shape `[n / world_size, …]` for
    /// tensors of shape `[n, …]`.
    ///
    /// # Errors
    /// [`Error::Tensor`] also where n is not a multiple of `world_size`; [`Error::Collective`],
    /// [`Error::CollectiveTimedOut`].
    pub fn reduce_scatter(&self, tensor: &Tensor, op: ReduceOp) -> Result<Tensor> {
        self.check_reduced("reduce_scatter", tensor, op)?;
        let part = self.part_of("reduce_scatter", tensor)?;
        let mut shape = tensor.size();
        if let Some(first) = shape.first_mut() {
            *first = part;
        }
        let mut output = Tensor::empty(&shape, (tensor.kind(), tensor.device()));
        let mut input = tensor.shallow_clone();
        self.verify("reduce_scatter", format_args!(" by {op:?}"), tensor)?;
        self.done("reduce_scatter", self.raw().reduce_scatter(&mut output, &mut input, reduction(op)))?;
        self.average(&mut output, op);
        Ok(output)
    }

    /// Every rank's tensor on rank `root`, and none on the others: shape `[world_size, …]` for tensors of shape `[…]`.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn gather(&self, tensor: &Tensor, root: usize) -> Result<Option<Tensor>> {
        self.check("gather", tensor)?;
        self.check_rank("gather's root", root)?;
        let mut output = (root == self.rank())
            .then(|| Tensor::empty(self.of_all(tensor), (tensor.kind(), tensor.device())));
        let mut input = tensor.shallow_clone();
        self.verify("gather", format_args!(" to rank {root}"), tensor)?;
        self.done("gather", self.raw().gather(output.as_mut(), &mut input, root))?;
        Ok(output)
    }

    /// Fills `output`, of shape `[…]`, with this rank's part of what rank `root` gives: a tensor of shape
    /// `[world_size, …]`, and on the others none.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn scatter(&self, output: &mut Tensor, parts: Option<&Tensor>, root: usize) -> Result<()> {
        self.check("scatter", output)?;
        self.check_rank("scatter's root", root)?;
        match (parts, root == self.rank()) {
            (Some(parts), true) => self.check_whole("scatter's parts", parts, output)?,
            (None, false) => {}
            (Some(_), false) => {
                return Err(wrong(
                    "scatter's parts",
                    "a tensor",
                    "none, for this rank is not the root".into(),
                ));
            }
            (None, true) => {
                return Err(wrong("scatter's parts", "none", "a tensor, for this rank is the root".into()));
            }
        }
        let mut parts = parts.map(Tensor::shallow_clone);
        self.verify("scatter", format_args!(" from rank {root}"), output)?;
        self.done("scatter", self.raw().scatter(output, parts.as_mut(), root))
    }

    /// Sends the r-th part of the first dimension to rank r, and puts what comes together in the ranks' order: the
    /// shape stays `[n, …]`, of which every part is `n / world_size`.
    ///
    /// # Errors
    /// [`Error::Tensor`] also where n is not a multiple of `world_size`; [`Error::Collective`],
    /// [`Error::CollectiveTimedOut`].
    pub fn all_to_all(&self, tensor: &Tensor) -> Result<Tensor> {
        self.check("all_to_all", tensor)?;
        self.part_of("all_to_all", tensor)?;
        let mut output = Tensor::empty(tensor.size(), (tensor.kind(), tensor.device()));
        let mut input = tensor.shallow_clone();
        self.verify("all_to_all", format_args!(""), tensor)?;
        self.done("all_to_all", self.raw().all_to_all(&mut output, &mut input))?;
        Ok(output)
    }

    /// Sends a tensor to one other rank, which [receives](Self::recv) it: a description of it, and then the tensor, each
    /// in the group's time.
    ///
    /// Over Gloo it may return before that, over NCCL it waits for the other: ranks in a ring that all send first wait
    /// until time runs out.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn send(&self, tensor: &Tensor, to: usize) -> Result<()> {
        self.check("send", tensor)?;
        self.check_other("send's rank", to)?;
        self.announce(tensor, to)?;
        self.done("send", self.raw().send(&mut tensor.shallow_clone(), to))
    }

    /// Fills a tensor with what one other rank [sends](Self::send): of this shape and type.
    ///
    /// # Errors
    /// [`Error::Tensor`]; [`Error::Collective`] also where another shape or type is sent, which leaves the tensor as it
    /// was, and the sender to its own time; [`Error::CollectiveTimedOut`].
    pub fn recv(&self, tensor: &mut Tensor, from: usize) -> Result<()> {
        self.check("recv", tensor)?;
        self.check_other("recv's rank", from)?;
        self.expect(tensor, from)?;
        self.done("recv", self.raw().recv(tensor, from))
    }

    /// Waits until every rank is here.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn barrier(&self) -> Result<()> {
        self.done("barrier", self.raw().barrier())
    }

    fn check(&self, operation: &str, tensor: &Tensor) -> Result<()> {
        self.check_named(&format!("{operation}'s tensor"), tensor)
    }

    fn check_named(&self, what: &str, tensor: &Tensor) -> Result<()> {
        if tensor.device() != self.device() {
            let backend = if self.device() == Device::Cpu { "Gloo" } else { "NCCL" };
            let expected = format!("device {:?}, for {backend}", self.device());
            return Err(wrong(what, format!("device {:?}", tensor.device()), expected));
        }
        if !tensor.is_contiguous() {
            let found = format!("strides {:?}", tensor.stride());
            return Err(wrong(what, found, "a contiguous one: call contiguous() first".into()));
        }
        Ok(())
    }

    fn check_reduced(&self, operation: &str, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        self.check(operation, tensor)?;
        let kind = tensor.kind();
        if op == ReduceOp::Avg && !matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
            let expected = "floating point for a mean".into();
            return Err(wrong(format!("{operation}'s tensor"), format!("type {kind:?}"), expected));
        }
        Ok(())
    }

    fn check_rank(&self, what: &str, rank: usize) -> Result<()> {
        match rank < self.world_size() {
            true => Ok(()),
            false => Err(wrong(what, rank, format!("a rank below {}", self.world_size()))),
        }
    }

    fn check_other(&self, what: &str, rank: usize) -> Result<()> {
        self.check_rank(what, rank)?;
        match rank == self.rank() {
            false => Ok(()),
            true => Err(wrong(what, format!("{rank}, which is this one"), "another rank".into())),
        }
    }

    /// Whether `whole` holds one `part` of each rank.
    fn check_whole(&self, what: &str, whole: &Tensor, part: &Tensor) -> Result<()> {
        self.check_named(what, whole)?;
        let (shape, kind) = (self.of_all(part), part.kind());
        if whole.size() == shape && whole.kind() == kind {
            return Ok(());
        }
        let found = format!("{:?} {:?}", whole.kind(), whole.size());
        Err(wrong(what, found, format!("{kind:?} {shape:?}")))
    }

    /// The shape of every rank's tensor as one.
    fn of_all(&self, tensor: &Tensor) -> Vec<i64> {
        let mut shape = tensor.size();
        shape.insert(0, self.world_size() as i64);
        shape
    }

    /// One rank's share of the first dimension.
    fn part_of(&self, operation: &str, tensor: &Tensor) -> Result<i64> {
        let world_size = self.world_size() as i64;
        match tensor.size().first() {
            Some(first) if first % world_size == 0 => Ok(first / world_size),
            _ => {
                let expected = format!("a first dimension that is a multiple of {world_size}");
                Err(wrong(format!("{operation}'s tensor"), format!("shape {:?}", tensor.size()), expected))
            }
        }
    }

    /// Gloo has no mean of its own.
    fn average(&self, tensor: &mut Tensor, op: ReduceOp) {
        if op == ReduceOp::Avg {
            let _ = tch::no_grad(|| tensor.detach().g_div_scalar_(self.world_size() as f64));
        }
    }
}

fn reduction(op: ReduceOp) -> c10d_sys::Reduction {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => c10d_sys::Reduction::Sum,
        ReduceOp::Min => c10d_sys::Reduction::Min,
        ReduceOp::Max => c10d_sys::Reduction::Max,
    }
}

fn wrong(what: impl Into<String>, found: impl ToString, expected: String) -> Error {
    Error::Tensor { what: what.into(), found: found.to_string(), expected }
}
