//! `cargo package`: each crate builds from what would be published, against its siblings as published.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo;

/// Packages and builds the workspace into the folder `target`.
///
/// Cargo takes what it has unpacked and built of a package under one path and version for unchanged, and would
/// build against a sibling as it was at the first call. So each call comes through a path of its own, a link to
/// the folder, and the crates from outside are built but once.
///
/// # Errors
/// What cargo refuses.
pub(crate) fn check(root: &Path, target: &Path) -> Result<(), String> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    fs::create_dir_all(target).map_err(at(target))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let link = target.with_extension(now.as_micros().to_string());
    symlink(target, &link).map_err(at(&link))?;
    let before = unpacked();

    let mut command = cargo::cargo_in(root, &["package", "--workspace", "--quiet", "--target-dir"]);
    command.arg(&link).env("CARGO_PROFILE_DEV_DEBUG", "0");
    // What is not committed is the developer's own affair; a build machine has nothing of that kind.
    if !cargo::in_ci() {
        command.arg("--allow-dirty");
    }
    let done = run(command);

    for folder in unpacked().difference(&before) {
        // Left-overs in cargo's own cache are no reason to fail.
        let _ = fs::remove_dir_all(folder);
    }
    fs::remove_file(&link).map_err(at(&link))?;
    done
}

fn run(mut command: Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cargo does not start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo package --workspace`: {status}")) }
}

/// The folders into which cargo has unpacked packages that come from no named registry.
fn unpacked() -> BTreeSet<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let entries = home.and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('-'))
        .map(|entry| entry.path())
        .collect()
}
