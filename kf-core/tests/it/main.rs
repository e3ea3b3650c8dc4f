//! The crate from outside.

mod artifact;
mod metadata;
