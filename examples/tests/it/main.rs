//! The example programs, run as a user runs them.

mod data;
mod programs;
#[cfg(feature = "torch")]
mod quickstart;
