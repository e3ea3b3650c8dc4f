//! The scheduler over generated pipelines, failures and interruptions.

mod language;
mod pipelines;
mod properties;
mod size;
mod waits;
mod world;
