//! The program of an image, built by cargo.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::libtorch::Flavor;
use crate::{cargo, libtorch, tools};

/// A program of the workspace.
#[derive(Debug, PartialEq, Eq)]
struct Bin {
    package: String,
    /// Features without which cargo would not build it.
    needed: Vec<String>,
}

/// Builds a program of the workspace, and libtorch first where it is linked, and returns its path.
///
/// # Errors
/// A message for the user: a name that is none, a missing tool, or that cargo failed.
pub(crate) fn build(
    root: &Path,
    name: &str,
    features: Option<&str>,
    release: bool,
) -> Result<PathBuf, String> {
    let metadata = cargo::cargo_in(root, &["metadata", "--no-deps", "--format-version", "1"]);
    let bin = find(&parse(&cargo::output(metadata, "cargo metadata")?)?, name)?;
    let features = bin.needed.iter().map(String::as_str).chain(features).collect::<Vec<_>>().join(",");
    let scope = ["--package", &bin.package, "--features", &features];

    let tree = cargo::cargo_in(root, &[&["tree", "--prefix", "none"], scope.as_slice()].concat());
    if cargo::output(tree, "cargo tree")?.lines().any(|line| line.starts_with("torch-sys ")) {
        tools::compiler().find()?;
        libtorch::ensure(root, Flavor::Cpu)?;
    }
    let mut command = cargo::cargo_in(root, &[&["build", "--bin", name], scope.as_slice()].concat());
    command.args(["--message-format", "json-render-diagnostics"]).args(release.then_some("--release"));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("`cargo build --bin {name}`: {}", output.status));
    }
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .ok_or_else(|| format!("cargo has built `{name}`, but does not tell where it lies"))
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("cargo metadata: {error}"))
}

/// The package that has a program, and what the program needs of it.
fn find(metadata: &Value, name: &str) -> Result<Bin, String> {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    };
    let packages = metadata["packages"].as_array().ok_or("cargo metadata tells no packages")?;
    let mut bins = Vec::new();
    for package in packages {
        let targets = package["targets"].as_array().into_iter().flatten();
        for target in targets.filter(|target| strings(&target["kind"]).iter().any(|kind| kind == "bin")) {
            if let (Some(package), Some(target_name)) = (package["name"].as_str(), target["name"].as_str()) {
                let needed = strings(&target["required-features"]);
                bins.push((target_name, Bin { package: package.to_owned(), needed }));
            }
        }
    }
    let mut names: Vec<_> = bins.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let none = format!("there is no program `{name}` in the workspace; there are: {}", names.join(", "));
    let mut named = bins.into_iter().filter(|(target, _)| *target == name).map(|(_, bin)| bin);
    match (named.next(), named.next()) {
        (None, _) => Err(none),
        (Some(bin), None) => Ok(bin),
        (Some(one), Some(other)) => Err(format!(
            "both {} and {} have a program `{name}`; build the one that is meant, and give it with --bin-file",
            one.package, other.package
        )),
    }
}

/// Where cargo has put a program, by its messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = messages.filter(|message| {
        message["reason"] == "compiler-artifact"
            && message["target"]["name"] == name
            && !message["executable"].is_null()
    });
    built.next()?["executable"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_with_its_package_and_features() {
        let metadata = parse(
            r#"{"packages": [
                {"name": "examples", "targets": [
                    {"name": "launch", "kind": ["bin"]},
                    {"name": "training", "kind": ["bin"], "required-features": ["torch"]},
                    {"name": "it", "kind": ["test"]}
                ]},
                {"name": "benches", "targets": [{"name": "launch", "kind": ["bin"]}]}
            ]}"#,
        )
        .unwrap();
        let training = Bin { package: "examples".to_owned(), needed: vec!["torch".to_owned()] };
        assert_eq!(find(&metadata, "training"), Ok(training));
        assert!(find(&metadata, "it").unwrap_err().contains("there are: launch, launch, training"));
        let message = find(&metadata, "launch").unwrap_err();
        assert!(message.contains("examples and benches"), "{message}");
        assert!(find(&parse("{}").unwrap(), "launch").is_err());
    }

    #[test]
    fn cargo_tells_where_it_lies() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"launch"},"executable":null}"#,
            "\nnot of cargo\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"launch"},"executable":"/t/debug/launch"}"#,
            "\n",
        );
        assert_eq!(executable(messages, "launch"), Some("/t/debug/launch".into()));
        assert_eq!(executable(messages, "none"), None);
    }
}
