//! The registry over real files and processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what is wrong by failing")]

mod conformance;
mod files;
mod processes;
