//! The collectives as they begin, each with its work; the blocking forms wait for these.

use tch::Tensor;

use super::checks::{average, reduction, wrong};
use super::work::Work;
use super::{ProcessGroup, ReduceOp};
use crate::Result;

/// Collectives that return when they have begun. Arguments are checked, and calls compared where the group
/// [verifies](crate::GroupOptions::verify), before that; what happens later is the [`Work`]'s to tell. What a group does
/// in the order of its calls, it also does so with these: they and the blocking forms can be mixed.
impl ProcessGroup {
    /// [`broadcast`](Self::broadcast), begun.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective).
    pub fn broadcast_async(&self, mut tensor: Tensor, root: usize) -> Result<Work> {
        self.check("broadcast", &tensor)?;
        self.check_rank("broadcast's root", root)?;
        let call = self.call("broadcast");
        self.verify(&call, format_args!(" from rank {root}"), &tensor)?;
        let begun = self.raw().broadcast(&mut tensor, root);
        Work::new(call, begun, move || tensor)
    }

    /// [`all_reduce`](Self::all_reduce), begun.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective).
    pub fn all_reduce_async(&self, mut tensor: Tensor, op: ReduceOp) -> Result<Work> {
        self.check_reduced("all_reduce", &tensor, op)?;
        let call = self.call("all_reduce");
        self.verify(&call, format_args!(" by {op:?}"), &tensor)?;
        let (begun, world_size) = (self.raw().all_reduce(&mut tensor, reduction(op)), self.world_size());
        Work::new(call, begun, move || {
            average(&tensor, op, world_size);
            tensor
        })
    }

    /// [`reduce`](Self::reduce), begun.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective).
    pub fn reduce_async(&self, mut tensor: Tensor, root: usize, op: ReduceOp) -> Result<Work> {
        self.check_reduced("reduce", &tensor, op)?;
        self.check_rank("reduce's root", root)?;
        let call = self.call("reduce");
        self.verify(&call, format_args!(" to rank {root} by {op:?}"), &tensor)?;
        let begun = self.raw().reduce(&mut tensor, root, reduction(op));
        let (is_root, world_size) = (root == self.rank(), self.world_size());
        Work::new(call, begun, move || {
            if is_root {
                average(&tensor, op, world_size);
            }
            tensor
        })
    }

    /// [`all_gather`](Self::all_gather), begun. The tensor must not be changed before the work is done.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective).
    pub fn all_gather_async(&self, tensor: &Tensor) -> Result<Work> {
        self.check("all_gather", tensor)?;
        let output = Tensor::empty(self.of_all(tensor), (tensor.kind(), tensor.device()));
        self.gather_all("all_gather", output, tensor)
    }

    pub(super) fn gather_all(
        &self,
        operation: &'static str,
        mut output: Tensor,
        tensor: &Tensor,
    ) -> Result<Work> {
        let call = self.call(operation);
        self.verify(&call, format_args!(""), tensor)?;
        // Gloo wants the first dimension to be world_size times the input's.
        let begun = self.raw().all_gather(&mut output, &mut tensor.unsqueeze(0));
        Work::new(call, begun, move || output)
    }

    /// [`reduce_scatter`](Self::reduce_scatter), begun. The tensor must not be changed before the work is done.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective).
    pub fn reduce_scatter_async(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        self.check_reduced("reduce_scatter", tensor, op)?;
        let part = self.part_of("reduce_scatter", tensor)?;
        let mut shape = tensor.size();
        if let Some(first) = shape.first_mut() {
            *first = part;
        }
        let mut output = Tensor::empty(&shape, (tensor.kind(), tensor.device()));
        let call = self.call("reduce_scatter");
        self.verify(&call, format_args!(" by {op:?}"), tensor)?;
        let begun = self.raw().reduce_scatter(&mut output, &mut tensor.shallow_clone(), reduction(op));
        let world_size = self.world_size();
        Work::new(call, begun, move || {
            average(&output, op, world_size);
            output
        })
    }

    /// [`gather`](Self::gather), begun. The tensor must not be changed before the work is done.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective).
    pub fn gather_async(&self, tensor: &Tensor, root: usize) -> Result<Work<Option<Tensor>>> {
        self.check("gather", tensor)?;
        self.check_rank("gather's root", root)?;
        let mut output = (root == self.rank())
            .then(|| Tensor::empty(self.of_all(tensor), (tensor.kind(), tensor.device())));
        let call = self.call("gather");
        self.verify(&call, format_args!(" to rank {root}"), tensor)?;
        let begun = self.raw().gather(output.as_mut(), &mut tensor.shallow_clone(), root);
        Work::new(call, begun, move || output)
    }

    /// [`scatter`](Self::scatter), begun. The parts must not be changed before the work is done.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective).
    pub fn scatter_async(&self, mut output: Tensor, parts: Option<&Tensor>, root: usize) -> Result<Work> {
        self.check("scatter", &output)?;
        self.check_rank("scatter's root", root)?;
        match (parts, root == self.rank()) {
            (Some(parts), true) => self.check_whole("scatter's parts", parts, &output)?,
            (None, false) => {}
            (Some(_), false) => {
                let expected = "none, for this rank is not the root";
                return Err(wrong("scatter's parts", "a tensor", expected.into()));
            }
            (None, true) => {
                return Err(wrong("scatter's parts", "none", "a tensor, for this rank is the root".into()));
            }
        }
        let mut parts = parts.map(Tensor::shallow_clone);
        let call = self.call("scatter");
        self.verify(&call, format_args!(" from rank {root}"), &output)?;
        let begun = self.raw().scatter(&mut output, parts.as_mut(), root);
        Work::new(call, begun, move || output)
    }

    /// [`all_to_all`](Self::all_to_all), begun. The tensor must not be changed before the work is done.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor), [`Error::Collective`](crate::Error::Collective).
    pub fn all_to_all_async(&self, tensor: &Tensor) -> Result<Work> {
        self.check("all_to_all", tensor)?;
        self.part_of("all_to_all", tensor)?;
        let mut output = Tensor::empty(tensor.size(), (tensor.kind(), tensor.device()));
        let call = self.call("all_to_all");
        self.verify(&call, format_args!(""), tensor)?;
        let begun = self.raw().all_to_all(&mut output, &mut tensor.shallow_clone());
        Work::new(call, begun, move || output)
    }

    /// [`barrier`](Self::barrier), begun.
    ///
    /// # Errors
    /// [`Error::Collective`](crate::Error::Collective).
    pub fn barrier_async(&self) -> Result<Work<()>> {
        let call = self.call("barrier");
        let begun = self.raw().barrier();
        Work::new(call, begun, || ())
    }
}
