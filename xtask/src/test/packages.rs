//! The workspace's packages, as cargo tells them.

use std::path::Path;

use crate::cargo;

/// A package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Whether it is for others to use.
    pub(crate) published: bool,
    /// Whether it has features besides the default ones, without which it builds as well.
    pub(crate) has_features: bool,
}

/// The packages, in the order of their names.
///
/// # Errors
/// A message, where cargo can't read the workspace.
pub(crate) fn list(root: &Path) -> Result<Vec<Package>, String> {
    let command = cargo::cargo_in(root, &["metadata", "--no-deps", "--format-version", "1"]);
    parse(&cargo::output(command, "cargo metadata")?)
}

fn parse(text: &str) -> Result<Vec<Package>, String> {
    let metadata: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata tells no packages")?;
    let mut packages: Vec<_> = packages
        .iter()
        .filter_map(|package| {
            Some(Package {
                name: package["name"].as_str()?.to_owned(),
                published: package["publish"].is_null(),
                has_features: package["features"].as_object().is_some_and(|features| !features.is_empty())
                    && package["metadata"]["xtask"]["needs-default-features"] != true,
            })
        })
        .collect();
    packages.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read() {
        let text = r#"{"packages": [
            {"name": "kf-serve", "publish": null, "features": {"default": [], "torch": []}},
            {"name": "kf-k8s", "publish": null, "features": {"default": ["v1"], "v1": []},
                "metadata": {"xtask": {"needs-default-features": true}}},
            {"name": "examples", "publish": [], "features": {}}
        ]}"#;
        let package =
            |name: &str, published, has_features| Package { name: name.to_owned(), published, has_features };
        assert_eq!(
            parse(text).unwrap(),
            [
                package("examples", false, false),
                package("kf-k8s", true, false),
                package("kf-serve", true, true)
            ]
        );
        assert!(parse("{}").is_err());
        assert!(parse("nonsense").is_err());
    }
}
