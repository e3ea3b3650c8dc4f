//! Serves models over the Open Inference Protocol V2, inside your own program.
//!
//! A [`ModelRepository`] holds models, each a [`Runtime`]: a Rust function ([`FnRuntime`]), a TorchScript module
//! (`TorchScript`, feature `torch`), or whatever implements the trait. A [`Server`] answers for them over HTTP, to
//! `tritonclient`, KServe's clients and curl alike.
//!
//! ```
//! use kf_serve::{Datatype, FnRuntime, ModelMetadata, ModelRepository, Server, Tensor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), kf_serve::BoxError> {
//! // A model says what it takes and gives, −1 standing for any length …
//! let metadata = ModelMetadata::new("rust")
//!     .input("x", Datatype::Fp32, [-1, 2])
//!     .output("sum", Datatype::Fp32, [-1]);
//! // … and computes one from the other. What reaches it has been checked against that already.
//! let adder = FnRuntime::new(metadata, |inputs| {
//!     let x = inputs.tensor("x")?;
//!     let sums: Vec<f32> = x.values::<f32>()?.chunks(2).map(|row| row[0] + row[1]).collect();
//!     Ok(vec![Tensor::from_vec("sum", [sums.len()], sums)?])
//! });
//!
//! let models = ModelRepository::new();
//! models.insert("adder", "1", adder)?;
//! let server = Server::builder(models.clone()).bind("127.0.0.1:0").await?;
//! println!("curl -d '{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1,2]}}]}}' \
//!           {}/v2/models/adder/infer", server.url());
//!
//! // Readiness turns off, requests under way finish, connections close.
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Models
//! [`ModelRepository::insert`] serves a runtime from then on; inserting again under the same name and version replaces
//! it, while requests under way finish on the old one. Several versions of a model serve side by side; who names none
//! gets the latest. [`ModelRepository::open`] reads models from a folder `NAME/VERSION/…` through a [`Loader`]; a load
//! that fails leaves what served before in place. `v2/health/ready` answers 503 while a model has no version that serves,
//! and while the server drains.
//!
//! # Requests
//! JSON and binary tensors (`Inference-Header-Content-Length`, `binary_data`, `binary_data_output`, and raw bodies with
//! header 0) of every [`Datatype`]. JSON has no NaN and no infinities: they are written, and read, as the strings
//! `"NaN"`, `"Infinity"` and `"-Infinity"`, as protobuf's JSON mapping has it. BYTES are strings in JSON; an output that
//! isn't UTF-8 is refused with 406 unless it is asked for in binary.
//!
//! A request that is wrong gets a 4xx status and `{"error": …}`; 500 is for faults of the model alone, a panic in it
//! among them. Shared memory, classification, compressed bodies and the `priority` and `timeout` parameters' effects are
//! not supported: the first three are refused, the last two only handed to the runtime.
//!
//! # Limits
//! [`ServerBuilder::max_running`] requests run at once and [`ServerBuilder::max_waiting`] more wait; the next one is
//! answered 503 with `Retry-After`. Bodies have a [size limit](ServerBuilder::body_limit), requests a
//! [deadline](ServerBuilder::deadline), and so has the [drain](ServerBuilder::drain_deadline) at the end. A model runs on
//! tokio's blocking threads unless its runtime says that it is quick enough to run [inline](Execution::Inline).
//!
//! The server runs in the caller's tokio runtime and handles no signals. [`Server::router`] gives its routes to an
//! application that has a router of its own.

mod error;
mod http;
mod metadata;
mod panic_message;
mod protocol;
mod repository;
mod runtime;
mod server;
mod tensor;
#[cfg(feature = "testing")]
pub mod testing;

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
