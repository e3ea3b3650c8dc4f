//! The crates over libtorch, against a newer release of it than the workspace's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo;
use crate::libtorch::{self, at};

/// What the workspace asks for, and what fits the newer libtorch.
const TCH: [&str; 2] = ["tch = \"0.24\"", "tch = \"0.26\""];

/// The copy of the checkout that asks for the newer `tch`, with its libtorch, below the folder `target`.
///
/// # Errors
/// What can't be fetched or copied.
pub(crate) fn checkout(root: &Path, target: &Path) -> Result<PathBuf, String> {
    let libtorch = libtorch::newer()?;
    let copy = target.join("checkout");
    let files = tracked(root)?;
    // What was moved or deleted must not be built beside what is there now.
    let sources = copy.join("kf-train");
    if sources.is_dir() {
        forget(&copy, &sources, &files)?;
    }
    for file in files {
        let (from, to) = (root.join(&file), copy.join(&file));
        // One that is deleted, and not yet committed so.
        let Ok(bytes) = fs::read(&from) else { continue };
        let bytes = match file.to_str() {
            Some("Cargo.toml") => with_newer(&String::from_utf8_lossy(&bytes))?.into_bytes(),
            // Once resolved for the newer one, it stays so.
            Some("Cargo.lock") if to.is_file() => continue,
            _ => bytes,
        };
        // What is unchanged keeps its time, so that it is not built again.
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        to.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| at(&to, &error))?;
        fs::write(&to, bytes).map_err(|error| at(&to, &error))?;
    }
    let link = copy.join(".libtorch");
    let _ = fs::remove_file(&link);
    symlink(libtorch, &link).map_err(|error| at(&link, &error))?;
    Ok(copy)
}

/// Cargo's call there that tests those crates.
pub(crate) fn tests(copy: &Path, target: &Path) -> Command {
    let arguments =
        ["test", "-p", "c10d-sys", "-p", "kf-train", "--features", "kf-train/torch,kf-train/data"];
    let mut command = cargo::cargo_in(copy, &arguments);
    command.env("CARGO_TARGET_DIR", target.join("target")).env("LIBTORCH", copy.join(".libtorch"));
    command
}

/// The manifest that asks for the newer `tch`.
fn with_newer(manifest: &str) -> Result<String, String> {
    let [ours, newer] = TCH;
    match manifest.matches(ours).count() {
        1 => Ok(manifest.replace(ours, newer)),
        count => Err(format!("the workspace's Cargo.toml has `{ours}` {count} times; it must have it once")),
    }
}

/// Removes the files in a folder of the copy that the checkout has no more.
fn forget(copy: &Path, folder: &Path, files: &BTreeSet<PathBuf>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|error| at(folder, &error))? {
        let path = entry.map_err(|error| at(folder, &error))?.path();
        if path.is_dir() {
            forget(copy, &path, files)?;
        } else if path.strip_prefix(copy).is_ok_and(|file| !files.contains(file)) {
            fs::remove_file(&path).map_err(|error| at(&path, &error))?;
        }
    }
    Ok(())
}

fn tracked(root: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let list = cargo::output(command, "git ls-files")?;
    Ok(list.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_asks_for_the_newer() {
        assert_eq!(with_newer("a = 1\ntch = \"0.24\"\n").unwrap(), "a = 1\ntch = \"0.26\"\n");
        assert!(with_newer("tch = \"0.25\"").unwrap_err().contains("0 times"));
    }
}
