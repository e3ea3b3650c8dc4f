//! The image of ranks, tasks and engines: the example, libtorch, and the digits.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use examples::digits;

/// Its name, which no registry answers for.
pub(crate) const NAME: &str = "kf.local/kf-examples-tests:dev";

/// Makes it, and gives it to the cluster.
pub(crate) fn import() -> Result<(), String> {
    let socket = socket().ok_or("no containerd of the cluster to give images to; set KF_CONTAINERD")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "xtask", "--", "image", "--name", NAME]);
    command.args(["--bin-file", env!("CARGO_BIN_EXE_k8s_quickstart"), "--file", digits::FILE]);
    command.arg("--import").arg(socket);
    let done = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("the image can't be made: {}", String::from_utf8_lossy(&done.stderr))),
    }
}

/// That of the node, which the scripts of the tests' cluster keep beside its configuration.
fn socket() -> Option<PathBuf> {
    let beside = || {
        let config = PathBuf::from(std::env::var_os("KUBECONFIG")?);
        Some(config.parent()?.parent()?.join("containerd.sock"))
    };
    std::env::var_os("KF_CONTAINERD").map(PathBuf::from).or_else(beside).filter(|path| path.exists())
}
