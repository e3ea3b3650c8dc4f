//! The example `launch`, judged by PyTorch: scripts written for torchrun, with its DistributedDataParallel over Gloo.
//! Only in the long checks, since PyTorch is some gigabytes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The Python that has PyTorch.
fn pytorch() -> Option<PathBuf> {
    let wanted = std::env::var_os("KF_LONG").and(std::env::var_os("KF_TORCH_PYTHON"));
    if wanted.is_none() {
        println!("JUDGE torch-ddp skipped: it runs in the long checks, with a KF_TORCH_PYTHON");
    }
    wanted.map(PathBuf::from)
}

fn launch(python: &Path, folder: &Path, options: &[&str], args: &[&str]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/scripts/ddp.py");
    Command::new(env!("CARGO_BIN_EXE_launch"))
        .args(options)
        // This program's libtorch is not that of PyTorch.
        .args(["--no-python", "env", "-u", "LD_LIBRARY_PATH"])
        .arg(python)
        .arg(script)
        .args(args)
        .stdin(Stdio::null())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn told(output: &Output, restarts: u64) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let mut lines: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    let line = |rank| format!("rank {rank} of 2: same=True fell=True restarts={restarts}");
    assert_eq!(lines, [line(0), line(1)], "{errors}");
}

#[test]
fn pytorch_trains_and_is_started_anew() {
    let Some(python) = pytorch() else { return };
    let folder = tempfile::tempdir().unwrap();
    let options = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "--log-dir", "logs"];
    told(&launch(&python, folder.path(), &options, &["run"]), 0);
    let output = launch(&python, folder.path(), &options, &["fail"]);
    told(&output, 1);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("rank 1 of 2 ended with exit code 1: ValueError: as it was told"), "{errors}");
    let output = launch(&python, folder.path(), &["--standalone", "--nproc-per-node=2"], &["fail"]);
    assert_eq!(output.status.code(), Some(1));
    println!("JUDGE torch-ddp passed");
}
