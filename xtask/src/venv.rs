//! The Python packages that judges and peers need, each set in an environment of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tools;

/// A Python environment in the checkout.
pub(crate) struct Venv {
    folder: &'static str,
    file: &'static str,
    requirements: &'static str,
}

/// What the judges of all checks and the peers of benches need.
pub(crate) const JUDGES: Venv = Venv {
    folder: ".venv-test",
    file: "xtask/requirements-test.txt",
    requirements: include_str!("../requirements-test.txt"),
};

/// PyTorch, some 5 GB, for the long checks.
pub(crate) const TORCH: Venv = Venv {
    folder: ".venv-torch",
    file: "xtask/requirements-torch.txt",
    requirements: include_str!("../requirements-torch.txt"),
};

/// The file of an environment that tells what it holds.
const STAMP: &str = "requirements.txt";

/// The Python of an environment that holds exactly the pinned packages, where there is one.
pub(crate) fn made(root: &Path, venv: &Venv) -> Option<PathBuf> {
    let folder = root.join(venv.folder);
    let python = folder.join("bin/python");
    let runs = Command::new(&python).arg("--version").output().is_ok_and(|output| output.status.success());
    let holds = || fs::read_to_string(folder.join(STAMP)).is_ok_and(|text| text == venv.requirements);
    (runs && holds()).then_some(python)
}

/// Makes sure that an environment holds exactly the pinned packages, and returns its Python.
///
/// # Errors
/// A message for the user.
pub(crate) fn ensure(root: &Path, venv: &Venv) -> Result<PathBuf, String> {
    if let Some(python) = made(root, venv) {
        return Ok(python);
    }
    let folder = root.join(venv.folder);
    let (python, stamp) = (folder.join("bin/python"), folder.join(STAMP));
    let base = tools::python().find()?;
    eprintln!("venv: making {} with the packages of {}", folder.display(), venv.file);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let requirements = root.join(venv.file);
    let mut install = if quietly(Command::new(&base).args(["-m", "venv"]).arg(&folder)) {
        let mut command = Command::new(&python);
        command.args(["-m", "pip"]);
        command
    } else {
        // Debian without python3-venv: the environment has no pip of its own, and the system's fills it.
        run(Command::new(&base).args(["-m", "venv", "--clear", "--without-pip"]).arg(&folder), HOW)?;
        let mut command = Command::new(&base);
        command.args(["-m", "pip", "--python"]).arg(&python);
        command
    };
    install.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    run(&mut install, HOW)?;
    // Last, since it is what tells a whole environment from a begun one.
    fs::write(&stamp, venv.requirements).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

const HOW: &str = "see the message above; pip must reach a package index, and Debian and Ubuntu want \
                   apt-get install python3-venv python3-pip";

fn quietly(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command, how: &str) -> Result<(), String> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the tests' Python environment: {status}; {how}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned() {
        let lines = |venv: &Venv| -> Vec<&str> {
            venv.requirements.lines().filter(|line| !line.starts_with('#')).collect()
        };
        for line in lines(&JUDGES).iter().chain(&lines(&TORCH)) {
            assert!(
                line.split_once("==").is_some_and(|(name, version)| !name.is_empty() && !version.is_empty()),
                "{line}"
            );
        }
        for name in
            ["tritonclient==", "numpy==", "dask==", "kfp==", "moto==", "jax==", "mpich==", "xgboost-cpu=="]
        {
            assert!(lines(&JUDGES).iter().any(|line| line.starts_with(name)), "{name}");
        }
        assert!(lines(&TORCH).contains(&"torch==2.11.0"));
    }
}
