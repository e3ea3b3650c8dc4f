//! The image of the tests' ranks: this program, and a shell.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Its name, which no registry answers for.
pub(crate) const NAME: &str = "kf.local/kf-k8s-tests:dev";

/// An image with a shell alone, that knows nothing of this program.
pub(crate) const SHELL: &str = "kf.local/kf-k8s-shell:dev";

/// Makes them, and gives them to the cluster.
pub(crate) fn import() -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    let busybox = busybox.ok_or("no busybox: apt-get install busybox")?;
    import_one(NAME, &program, busybox)?;
    import_one(SHELL, Path::new(busybox), busybox)
}

fn import_one(name: &str, program: &Path, busybox: &str) -> Result<(), String> {
    let socket = socket().ok_or("no containerd of the cluster to give images to; set KF_CONTAINERD")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "xtask", "--", "image", "--name", name, "--bin-file"]);
    command.arg(program).arg("--import").arg(socket);
    for applet in ["sh", "sleep", "wget", "httpd"] {
        command.args(["--file", &format!("{busybox}:/bin/{applet}")]);
    }
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
