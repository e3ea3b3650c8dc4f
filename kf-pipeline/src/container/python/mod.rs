//! Python steps: virtual environments, and servers in them that fork a process for each step.

mod server;
mod venv;

pub(super) use server::{Servers, Step, StepRequest};
pub(super) use venv::{Requirements, Venvs};
