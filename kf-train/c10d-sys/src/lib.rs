//! c10d, libtorch's collective communication, from Rust: a [`Store`] to meet at, a [`Group`] of processes over Gloo,
//! shared memory or NCCL, and the [`Reducer`] that averages gradients during the backward pass.
//!
//! Thin and safe; `kf-train` has the comfort. C++ exceptions come back as [`Error`]s with their message.
//!
//! # Building
//! Needs the libtorch that `torch-sys` needs, and a compiler for C++20. In a checkout, `cargo xtask libtorch` provides
//! the former. What `cargo run` and `cargo test` start finds the libraries; for a program that stands alone, set
//! `LD_LIBRARY_PATH`, or depend on this crate and give the program an rpath in its own build script:
//! ```ignore
//! println!("cargo::rustc-link-arg=-Wl,-rpath,{}", std::env::var("DEP_C10D_LIBTORCH_LIB").unwrap());
//! ```
//!
//! # Features
//! `nccl`: groups over NCCL. Needs a libtorch with CUDA and the headers of CUDA and NCCL, which
//! `cargo xtask libtorch --nccl` provides; a GPU is needed only to run. With a libtorch without CUDA it builds, and
//! every such group is refused.

mod error;
mod ffi;
mod group;
mod key_value;
mod messenger;
mod optim;
mod precision;
mod reducer;
mod replaceable;
mod shm;
mod store;
mod work;

pub use error::{Error, Result};
#[cfg(feature = "nccl")]
pub use group::gpus;
pub use group::{Address, Group, Reduction};
pub use key_value::KeyValue;
pub use messenger::Messenger;
pub use optim::{AdamStep, SgdStep, adam_step, forget_gradients, sgd_step};
pub use precision::{Autocast, autocast, unscale};
pub use reducer::{Compression, Reducer, ReducerOptions};
pub use replaceable::Aborter;
pub use store::Store;
pub use work::Work;
