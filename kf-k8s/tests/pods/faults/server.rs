//! The API server of a cluster that scripts have started, as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The process, and what starts it again.
pub(super) struct ApiServer {
    /// Where the scripts keep the state of the cluster: `HOME/run-ID`.
    run: PathBuf,
    up: PathBuf,
}

impl ApiServer {
    /// That of the cluster of `KUBECONFIG`.
    pub(super) fn find() -> Result<Self, String> {
        let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG").unwrap_or_default());
        let run =
            kubeconfig.parent().and_then(Path::parent).ok_or("KUBECONFIG names no cluster of scripts")?;
        let scripts = match std::env::var_os("KF_CLUSTER").filter(|folder| !folder.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cluster"),
        };
        let server = Self { run: run.to_owned(), up: scripts.join("up") };
        match (server.up.is_file(), server.process()) {
            (false, _) => Err(format!("there is no script {}; set KF_CLUSTER", server.up.display())),
            (true, None) => Err(format!("{} is not of a cluster that scripts have started", run.display())),
            (true, Some(_)) => Ok(server),
        }
    }

    /// Its number; none where it has ended.
    pub(super) fn process(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.run.join("pid/kube-apiserver")).ok()?;
        let number: u32 = text.split_whitespace().next()?.parse().ok()?;
        let program = std::fs::read_to_string(format!("/proc/{number}/cmdline")).ok()?;
        program.split('\0').next()?.ends_with("kube-apiserver").then_some(number)
    }

    /// Sends it a signal, and waits until it has ended.
    pub(super) fn end(&self, signal: &str) {
        let number = self.process().unwrap();
        let sent = Command::new("kill").args([&format!("-{signal}"), &number.to_string()]).status().unwrap();
        assert!(sent.success());
        let began = Instant::now();
        while self.process() == Some(number) {
            assert!(began.elapsed() < Duration::from_secs(90), "it does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts it again, and waits until it answers.
    pub(super) fn start(&self) {
        let folder = self.run.file_name().and_then(|name| name.to_str()).unwrap();
        let ended = Command::new(&self.up)
            .env("KF_CLUSTER_ID", folder.strip_prefix("run-").unwrap())
            .env("KF_CLUSTER_HOME", self.run.parent().unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}
