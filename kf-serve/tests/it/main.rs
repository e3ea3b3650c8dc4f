//! The server over real HTTP on loopback.

#![allow(clippy::unwrap_used, clippy::panic)]

mod client;
mod embed;
mod hostile;
mod judge;
mod limits;
mod models;
mod protocol;
mod repository;
#[cfg(feature = "torch")]
mod torchscript;
