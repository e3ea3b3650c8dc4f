//! What of clusters there is on this machine.

use std::path::{Path, PathBuf};

use super::decide::Seen;

/// Looks at the environment and at files; starts nothing.
///
/// # Errors
/// Where the state of a cluster would have no folder.
pub(crate) fn look(root: &Path) -> Result<Seen, String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let text = |name: &str| match variable(name).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(format!("{name} is not UTF-8")),
    };
    let home = variable("KF_CLUSTER_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache/kf-cluster")))
        .ok_or("neither KF_CLUSTER_HOME nor HOME is set, so that a cluster's state has no folder; set one")?;
    let id = id(&text("KF_CLUSTER_ID")?.unwrap_or_else(|| "0".to_owned()))?;
    let kubeconfig = text("KUBECONFIG")?;
    let named = variable("KF_CLUSTER").map(PathBuf::from);
    let beside = root.parent().unwrap_or(root).join("shared/cluster");
    let scripts = named.clone().unwrap_or_else(|| beside.clone());
    let run = home.join(format!("run-{id}"));
    let numbers = (0..10).filter(|number| *number != id);
    let mut runs = numbers.map(|number| (number, home.join(format!("run-{number}"))));
    Ok(Seen {
        free: runs.find(|(_, run)| !run.exists()),
        kubeconfig_there: kubeconfig
            .iter()
            .flat_map(|list| list.split(':'))
            .any(|file| Path::new(file).is_file()),
        kubeconfig,
        named: named.is_some(),
        lacking: ["up", "down", "with"].into_iter().filter(|name| !scripts.join(name).is_file()).collect(),
        controllers: controllers(&scripts.join("controllers")),
        scripts,
        programs: home.join("bin"),
        up: run.join("kc/admin").is_file(),
        run,
    })
}

/// Whether this process may do anything on this machine.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The number of a cluster, where several run side by side.
fn id(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|number| *number < 10 && text.len() == 1);
    number.ok_or_else(|| format!("KF_CLUSTER_ID is `{text}`; set it to a number from 0 to 9, or unset it"))
}

/// The controllers that the scripts know: a folder each.
fn controllers(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_one_digit() {
        assert_eq!(id("7"), Ok(7));
        for text in ["", "10", "-1", "07", "../x"] {
            assert!(id(text).unwrap_err().contains("0 to 9"), "{text}");
        }
    }

    #[test]
    fn controllers_are_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("trainer")).unwrap();
        std::fs::create_dir(folder.path().join("jobset")).unwrap();
        std::fs::write(folder.path().join("README.md"), "").unwrap();
        assert_eq!(controllers(folder.path()), ["jobset", "trainer"]);
        assert!(controllers(&folder.path().join("none")).is_empty());
    }
}
