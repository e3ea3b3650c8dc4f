//! The example programs, run as a user runs them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail their tests")]

mod data;
mod export;
mod launch;
mod launch_torch;
mod programs;
#[cfg(feature = "torch")]
mod quickstart;
