//! The scheduler over generated pipelines, failures and interruptions.

mod pipelines;
mod properties;
mod size;
mod world;
