//! Calls of cargo, in the environment that a plain `cargo build` in the checkout has.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// A call of the cargo that runs this program.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("LD_LIBRARY_PATH", library_path(root)).env_remove("CARGO_MANIFEST_DIR");
    if in_ci() {
        // What is built once only gains nothing from being built incrementally, and takes longer. Without what a
        // debugger would read, all that is built takes half the room.
        command.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    }
    command
}

/// The loader's path for what is built in the checkout.
///
/// `cargo run` has changed it for this program; libtorch comes first in it again, so that what is built is fresh for a
/// plain `cargo build` too.
pub(crate) fn library_path(root: &Path) -> OsString {
    let libraries = root.join(".libtorch/lib");
    let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut path: OsString = libraries.clone().into();
    for entry in std::env::split_paths(&before) {
        let ours = entry == libraries || entry.starts_with(root.join("target"));
        if !ours && !entry.as_os_str().is_empty() {
            path.push(":");
            path.push(entry);
        }
    }
    path
}

/// A call in the root of the checkout that asks nobody anything.
pub(crate) fn cargo_in(root: &Path, arguments: &[&str]) -> Command {
    let mut command = cargo(root);
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    command
}

/// Whether this is a build machine, which has nobody's half-done work.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// The text that a call prints.
pub(crate) fn output(mut command: Command, what: &str) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{what}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{what}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{what}: {error}"))
}
