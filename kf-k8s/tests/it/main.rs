//! The crate from outside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what is wrong by failing")]

#[cfg(feature = "argo")]
mod argo;
mod objects;
