//! `cargo xtask quickstart`: all that it takes, then the example itself.

use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::libtorch::Flavor;
use crate::{cargo, libtorch, tools};

/// How the example is built and started. Without optimisation, which would take longer than all that it saves: the work
/// is done in libtorch.
const EXAMPLE: &[&str] = &["run", "--package", "examples", "--features", "torch", "--bin", "quickstart"];

/// Becomes the example: its exit code is the task's, and who ends the task ends the example.
///
/// # Errors
/// A message for the user, where something is missing. Returns in no other case.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    tools::compiler().find()?;
    libtorch::ensure(root, Flavor::Cpu)?;
    let mut command = cargo::cargo(root);
    command.args(EXAMPLE).arg("--manifest-path").arg(root.join("Cargo.toml")).arg("--").args(arguments);
    Err(format!("cargo does not start: {}", command.exec()))
}
