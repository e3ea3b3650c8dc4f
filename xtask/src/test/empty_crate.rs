//! `cargo add kf-pipeline` in an empty crate: light, and without C++, libtorch and OpenSSL.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cargo;

/// Packages that an empty crate must not get.
const HEAVY: &[&str] = &[
    "tch",
    "torch-sys",
    "c10d-sys",
    "cxx",
    "link-cplusplus",
    "openssl",
    "openssl-sys",
    "native-tls",
    "aws-lc-sys",
    "rustls",
    "reqwest",
];

/// Makes the crate beside the workspace, builds it into the folder `target`, and looks at what it is built from.
///
/// # Errors
/// What does not build, or what it must not depend on.
pub(crate) fn check(root: &Path, target: &Path) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("kf-empty-crate-{}", std::process::id()));
    let done = make(root, &folder).and_then(|()| build(root, &folder, target));
    // Left-overs in the temporary folder are no reason to fail.
    let _ = fs::remove_dir_all(&folder);
    done
}

fn make(root: &Path, folder: &Path) -> Result<(), String> {
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        made.map_err(|error| format!("{}: {error}", path.display()))
    };
    let path = serde_json::Value::from(root.join("kf-pipeline").to_string_lossy());
    let manifest = format!(
        "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nkf-pipeline = {{ path = {path} }}\n\n[workspace]\n"
    );
    write("Cargo.toml", &manifest)?;
    write("src/main.rs", "fn main() {}\n")?;
    // The same versions as everything else, so that nothing new is fetched.
    let lock = root.join("Cargo.lock");
    fs::copy(&lock, folder.join("Cargo.lock"))
        .map(drop)
        .map_err(|error| format!("{}: {error}", lock.display()))
}

fn build(root: &Path, folder: &Path, target: &Path) -> Result<(), String> {
    let call = |arguments: &[&str]| {
        let mut command: Command = cargo::cargo(root);
        command
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .env("CXX", "/bin/false")
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env_remove("LIBTORCH")
            .env_remove("LD_LIBRARY_PATH");
        command
    };
    let tree = cargo::output(call(&["tree", "--edges", "normal,build", "--prefix", "none"]), "cargo tree")?;
    let heavy = heavy(&tree);
    if !heavy.is_empty() {
        return Err(format!("an empty crate with kf-pipeline depends on {}", heavy.join(", ")));
    }
    let status = call(&["build"]).status().map_err(|error| format!("cargo does not start: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("an empty crate with kf-pipeline does not build: {status}"))
    }
}

/// The packages of a `cargo tree` that must not be in it.
fn heavy(tree: &str) -> Vec<&str> {
    let mut found: Vec<_> =
        tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| HEAVY.contains(name)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_packages_are_found_by_name() {
        let tree =
            "empty v0.0.0\nkf-pipeline v0.1.0 (/x)\ntchotchke v1.0.0\ntch v0.24.0\nopenssl-sys v0.9.1 (*)\n";
        assert_eq!(heavy(tree), ["openssl-sys"].into_iter().chain(["tch"]).collect::<Vec<_>>());
        assert!(heavy("empty v0.0.0\n").is_empty());
    }
}
