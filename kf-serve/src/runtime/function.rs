use std::fmt;

use crate::{BoxError, Execution, Inputs, ModelMetadata, Runtime, Tensor};

/// A Rust function served as a model.
///
/// ```
/// use kf_serve::{Datatype, FnRuntime, Inputs, ModelMetadata, Runtime, Tensor};
///
/// let metadata =
///     ModelMetadata::new("rust").input("x", Datatype::Fp32, [-1]).output("doubled", Datatype::Fp32, [-1]);
/// let model = FnRuntime::new(metadata, |inputs| {
///     let doubled = inputs[0].values::<f32>()?.iter().map(|x| 2.0 * x).collect();
///     Ok(vec![Tensor::from_vec("doubled", inputs[0].shape(), doubled)?])
/// });
///
/// let x = Tensor::from_vec("x", [2], vec![1.0_f32, 2.5])?;
/// assert_eq!(*model.infer(Inputs::new(vec![x]))?[0].values::<f32>()?, [2.0, 5.0]);
/// # Ok::<(), kf_serve::BoxError>(())
/// ```
pub struct FnRuntime<F> {
    metadata: ModelMetadata,
    execution: Execution,
    function: F,
}

impl<F> FnRuntime<F>
where
    F: Fn(Inputs) -> Result<Vec<Tensor>, BoxError> + Send + Sync + 'static,
{
    /// A runtime that calls `function` on a blocking thread.
    pub fn new(metadata: ModelMetadata, function: F) -> Self {
        Self { metadata, execution: Execution::Blocking, function }
    }

    /// Calls the function on the server's own threads instead: only for one that is over within microseconds.
    #[must_use]
    pub fn inline(mut self) -> Self {
        self.execution = Execution::Inline;
        self
    }
}

impl<F> Runtime for FnRuntime<F>
where
    F: Fn(Inputs) -> Result<Vec<Tensor>, BoxError> + Send + Sync + 'static,
{
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn infer(&self, inputs: Inputs) -> Result<Vec<Tensor>, BoxError> {
        (self.function)(inputs)
    }

    fn execution(&self) -> Execution {
        self.execution
    }
}

impl<F> fmt::Debug for FnRuntime<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnRuntime").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}
