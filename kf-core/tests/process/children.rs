//! Output, signals and ownership of children.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kf_core::process::{Child, Command, Exit, Log, SpawnError, Spawner};

use super::{lives, until};

async fn start(command: Command) -> (Spawner, Child) {
    let spawner = Spawner::new().unwrap();
    let child = spawner.spawn(command).await.unwrap();
    (spawner, child)
}

async fn asleep(command: Command) -> (Spawner, Child) {
    let (spawner, child) = start(command).await;
    until("the child sleeps", || child.tail(1) == ["asleep"]).await;
    (spawner, child)
}

pub(crate) async fn hundred_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs/flood.log");
    let began = Instant::now();
    let flood = Command::entry("flood", &100_000_000).unwrap().log(Log::to(&path));
    let (_spawner, child) = start(flood).await;
    assert_eq!(child.wait().await, Exit::Code(0));
    let took = began.elapsed();
    let log = std::fs::read_to_string(&path).unwrap();
    assert!(log.len() < (5 << 20) + 100, "{} bytes", log.len());
    assert!(log.starts_with("first line\nxxx"));
    assert!(log.ends_with("xxx\nlast line\n"));
    assert!(log.contains(&format!("[… {} bytes left out …]", 100_000_000 + 21 - (5 << 20))));
    assert_eq!(child.tail(1), ["last line"]);
    assert!(took < Duration::from_secs(30), "{took:?}");
}

pub(crate) async fn ignores_sigterm() {
    let deaf = Command::program("sh", ["-c", "trap '' TERM; echo asleep; while :; do sleep 0.1; done"]);
    let (_spawner, child) = asleep(deaf).await;
    let began = Instant::now();
    assert_eq!(child.terminate(Duration::from_millis(300)).await, Exit::Signal(9));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(!lives(child.pid()));
}

pub(crate) async fn ends_on_sigterm() {
    let polite = Command::program(
        "sh",
        ["-c", "trap 'echo bye; exit 5' TERM; echo asleep; while :; do sleep 0.1; done"],
    );
    let (_spawner, child) = asleep(polite).await;
    assert_eq!(child.terminate(Duration::from_secs(30)).await, Exit::Code(5));
    assert_eq!(child.tail(1), ["bye"]);
    assert_eq!(child.terminate(Duration::ZERO).await, Exit::Code(5), "an ended child stays ended");
}

pub(crate) async fn dropped_child_dies() {
    let (_spawner, child) = asleep(Command::entry("sleep", &()).unwrap()).await;
    let pid = child.pid();
    assert!(lives(pid));
    drop(child);
    until("the dropped child is gone", || !lives(pid)).await;
}

pub(crate) async fn dropped_spawner_ends_children() {
    let (spawner, child) = asleep(Command::entry("sleep", &()).unwrap()).await;
    drop(spawner);
    assert_eq!(child.wait().await, Exit::Signal(9));
}

pub(crate) async fn grandchild_dies_with_its_group() {
    let script = "sleep 600 & echo $!; echo asleep; exit 0";
    let (_spawner, child) = start(Command::program("sh", ["-c", script])).await;
    let began = Instant::now();
    assert_eq!(child.wait().await, Exit::Code(0));
    assert!(began.elapsed() < Duration::from_secs(60), "waited for a process left behind");
    let pid = child.tail(2)[0].parse().unwrap();
    until("the process left behind is gone", || !lives(pid)).await;
}

pub(crate) async fn lines_come_live() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = lines.clone();
    let speaker = Command::program("sh", ["-c", "echo one; echo two >&2; sleep 600"])
        .on_line(move |line| seen.lock().unwrap().push(line.to_owned()));
    let (_spawner, child) = start(speaker).await;
    until("both lines came", || *lines.lock().unwrap() == ["one", "two"]).await;
    assert_eq!(child.exit(), None);
}

pub(crate) async fn environment_and_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap();
    let command =
        Command::entry("environment", &()).unwrap().env("KF_TEST_A", "7").env_remove("HOME").cwd(&folder);
    assert!(!format!("{:?}", command.clone().env("TOKEN", "s3cret")).contains("s3cret"));
    let (_spawner, child) = start(command).await;
    assert_eq!(child.wait().await, Exit::Code(0));
    assert_eq!(
        child.tail(2),
        [format!("cwd {}", folder.display()), r#"A Ok("7") HOME Err(NotPresent)"#.to_owned()]
    );
}

pub(crate) async fn log_that_cannot_be_opened() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let command = Command::entry("sleep", &()).unwrap().log(Log::to(file.path().join("x.log")));
    let error = Spawner::new().unwrap().spawn(command).await.unwrap_err();
    assert!(matches!(error, SpawnError::Log { .. }), "{error}");
    assert!(error.to_string().contains("can't open the log"), "{error}");
}

/// A device that is always full stands for the disk.
pub(crate) async fn silence_leaves_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = |name: &str| Log::to(dir.path().join(name).join("x.log")).on_demand();
    let (_spawner, child) = start(Command::program("true", [""; 0]).log(log("silent"))).await;
    assert_eq!(child.wait().await, Exit::Code(0));
    assert!(!dir.path().join("silent").exists());
    let (_spawner, child) = start(Command::program("echo", ["said"]).log(log("loud"))).await;
    child.wait().await;
    assert_eq!(std::fs::read_to_string(dir.path().join("loud/x.log")).unwrap(), "said\n");
}

pub(crate) async fn full_disk_leaves_the_child_alone() {
    let (_spawner, child) =
        start(Command::entry("flood", &1_000_000).unwrap().log(Log::to("/dev/full"))).await;
    assert_eq!(child.wait().await, Exit::Code(0));
    assert_eq!(child.tail(1), ["last line"]);
}
