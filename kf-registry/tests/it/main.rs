//! The registry over real files and processes.

mod conformance;
mod files;
mod processes;
