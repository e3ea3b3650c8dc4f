//! `cargo xtask bench`: the programs of the `benches` package, each beside its peer.

use std::collections::HashMap;
use std::path::Path;

use crate::libtorch::Flavor;
use crate::{cargo, libtorch, tools, venv};

/// Runs one bench, or all.
///
/// # Errors
/// A message for the user: a name that is none, a missing tool, the benches that failed.
pub(crate) fn run(root: &Path, name: Option<&str>, json: bool) -> Result<(), String> {
    let names = names(&root.join("benches/src/bin"))?;
    let chosen = choose(&names, name)?;
    tools::compiler().find()?;
    libtorch::ensure(root, Flavor::Cpu)?;
    let peers = venv::ensure(root, &venv::JUDGES)
        .map_err(|why| eprintln!("warning: without the peers that are written in Python, since {why}"));
    let features = features(root)?;
    let mut failed = Vec::new();
    for name in chosen {
        let began = std::time::Instant::now();
        eprintln!("\nbench {name}");
        let mut command =
            cargo::cargo_in(root, &["run", "--quiet", "--release", "--package", "benches", "--bin", name]);
        if let Some(features) = features.get(name) {
            command.args(["--features", features]);
        }
        if let Ok(python) = &peers {
            command.env("KF_TEST_PYTHON", python);
        }
        // Too large to be fetched for this: that of the long checks, where there is one.
        if std::env::var_os("KF_TORCH_PYTHON").is_none()
            && let Some(python) = venv::made(root, &venv::TORCH)
        {
            command.env("KF_TORCH_PYTHON", python);
        }
        if json {
            command.args(["--", "--json"]);
        }
        let status = command.status().map_err(|error| format!("cargo does not start: {error}"))?;
        eprintln!("bench {name}: {status} after {}", crate::step::seconds(began.elapsed()));
        if !status.success() {
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// The benches there are: a file or a folder each.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| format!("{}: {error}", folder.display()))?,
    };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").is_file())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// What benches need that not all of them need: features of the package, so that the others are built without.
fn features(root: &Path) -> Result<HashMap<String, String>, String> {
    let command = cargo::cargo_in(root, &["metadata", "--no-deps", "--format-version", "1"]);
    parse(&cargo::output(command, "cargo metadata")?)
}

fn parse(metadata: &str) -> Result<HashMap<String, String>, String> {
    let metadata: serde_json::Value =
        serde_json::from_str(metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata tells no packages")?;
    let benches = packages.iter().filter(|package| package["name"] == "benches");
    let targets = benches.filter_map(|package| package["targets"].as_array()).flatten();
    let needed = targets.filter_map(|target| {
        let features = target["required-features"].as_array()?;
        let features: Vec<_> = features.iter().filter_map(serde_json::Value::as_str).collect();
        Some((target["name"].as_str()?.to_owned(), features.join(",")))
    });
    Ok(needed.collect())
}

fn choose<'a>(names: &'a [String], wanted: Option<&str>) -> Result<Vec<&'a str>, String> {
    let chosen: Vec<_> =
        names.iter().map(String::as_str).filter(|name| wanted.is_none_or(|wanted| wanted == *name)).collect();
    match (chosen.as_slice(), wanted) {
        ([], Some(wanted)) => Err(format!("there is no bench `{wanted}`; there are: {}", names.join(", "))),
        ([], None) => Err("there are no benches".to_owned()),
        _ => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_benches() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("serve.rs"), "").unwrap();
        std::fs::write(folder.path().join("notes.md"), "").unwrap();
        std::fs::create_dir(folder.path().join("pipeline")).unwrap();
        std::fs::create_dir(folder.path().join("shared")).unwrap();
        std::fs::write(folder.path().join("pipeline/main.rs"), "").unwrap();
        assert_eq!(names(folder.path()).unwrap(), ["pipeline", "serve"]);
        assert!(names(&folder.path().join("none")).unwrap().is_empty());
        assert!(names(&folder.path().join("serve.rs")).is_err());
    }

    #[test]
    fn what_a_bench_needs_is_read() {
        let text = r#"{"packages": [
            {"name": "benches", "targets": [
                {"name": "serve"}, {"name": "ddp", "required-features": ["torch", "data"]}
            ]},
            {"name": "kf-train", "targets": [{"name": "ranks", "required-features": ["nccl"]}]}
        ]}"#;
        let expected = HashMap::from([("ddp".to_owned(), "torch,data".to_owned())]);
        assert_eq!(parse(text).unwrap(), expected);
        assert!(parse("{}").is_err());
    }

    #[test]
    fn an_unknown_name_lists_those_there_are() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(choose(&names, None).unwrap(), ["a", "b"]);
        assert_eq!(choose(&names, Some("b")).unwrap(), ["b"]);
        assert!(choose(&names, Some("c")).unwrap_err().contains("a, b"));
        assert!(choose(&[], None).is_err());
    }
}
