//! The crate from outside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what is wrong by failing")]

mod argo;
mod discover;
mod objects;
mod platform;
