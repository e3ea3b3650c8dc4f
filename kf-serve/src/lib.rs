//! Under construction.

mod error;
mod http;
mod metadata;
mod panic_message;
mod protocol;
mod repository;
mod runtime;
mod server;
mod tensor;

pub use half::{bf16, f16};

#[cfg(feature = "torch")]
pub use self::runtime::TorchScript;
pub use self::{
    error::{BoxError, Error, Result},
    metadata::{ModelMetadata, TensorSpec},
    repository::{ModelRepository, ModelState, ModelStatus},
    runtime::{Execution, FnRuntime, Inputs, Loader, Parameters, Runtime},
    server::{Server, ServerBuilder, ServerHandle},
    tensor::{Datatype, Element, Strings, Tensor},
};
