//! What carries out a model.

mod function;
mod inputs;
mod loader;
#[cfg(feature = "torch")]
mod torchscript;

#[cfg(feature = "torch")]
pub use self::torchscript::TorchScript;
pub use self::{
    function::FnRuntime,
    inputs::{Inputs, Parameters},
    loader::Loader,
};
use crate::{BoxError, ModelMetadata, Tensor};

/// A loaded model.
///
/// Several requests may call [`infer`](Runtime::infer) at the same time. A panic in it is caught and answered as the
/// model's fault.
pub trait Runtime: Send + Sync + 'static {
    /// What the model takes and gives. It must not change while the model is loaded.
    fn metadata(&self) -> &ModelMetadata;

    /// Runs the model over the tensors of one request, which are exactly those of the metadata in its order, and
    /// gives the tensors that the metadata promises.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) where the values are at fault; any other error is the
    /// model's.
    fn infer(&self, inputs: Inputs) -> Result<Vec<Tensor>, BoxError>;

    /// Where `infer` is to be called; on a thread of its own unless it says otherwise.
    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

impl<R: Runtime + ?Sized> Runtime for Box<R> {
    fn metadata(&self) -> &ModelMetadata {
        (**self).metadata()
    }

    fn infer(&self, inputs: Inputs) -> Result<Vec<Tensor>, BoxError> {
        (**self).infer(inputs)
    }

    fn execution(&self) -> Execution {
        (**self).execution()
    }
}

/// Where a runtime's `infer` is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// On tokio's blocking threads: for everything that takes longer than some 20 µs.
    Blocking,
    /// On the thread that read the request, which serves nobody else meanwhile, and past any deadline: for what is over
    /// at once.
    Inline,
}
