//! The crate from outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests say what is wrong by failing")]

mod artifact;
mod child;
mod disk;
mod faults;
mod home;
mod metadata;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "s3")]
mod s3;
