//! Parts of tests that run in a process of their own, so that it can be killed: tests by name only, which do nothing
//! unless they are started by [`start`].

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use kf_core::artifact::ArtifactStore;
use kf_core::metadata::{Lineage, MetadataStore, SqliteMetadata};
use kf_core::testing::metadata::{commit, execution, new_run};

const FOLDER: &str = "KF_CORE_TEST_FOLDER";

/// A child process; killed when dropped.
pub(crate) struct Running {
    process: Child,
    lines: BufReader<ChildStdout>,
}

/// Starts the child `name` of this module on `folder`.
pub(crate) fn start(name: &str, folder: &Path) -> Running {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .arg(format!("child::{name}"))
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap());
    Running { process, lines }
}

impl Running {
    /// The next line that the child says, without the harness's own.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // A child killed in the middle of a line did not say it. The harness says `test … ` on the first.
            let said = line.strip_suffix('\n').and_then(|line| line.split_once("child> "));
            if let Some((_, said)) = said {
                return Some(said.to_owned());
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills the child with SIGKILL and returns what it had still said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn say(what: impl std::fmt::Display) {
    println!("child> {what}");
    std::io::stdout().flush().unwrap();
}

#[tokio::test]
#[ignore = "a part of other tests"]
async fn puts_until_killed() {
    let Some(folder) = folder() else { return };
    let store = ArtifactStore::local(folder.join("store")).unwrap();
    let (file, whole) = (folder.join("file"), folder.join("whole"));
    std::fs::create_dir_all(&whole).unwrap();
    for n in 0..100_000_u32 {
        let content = [std::process::id().to_le_bytes(), n.to_le_bytes()].concat().repeat(100_000);
        std::fs::write(&file, &content).unwrap();
        for part in 0..20 {
            std::fs::write(whole.join(part.to_string()), &content[..1000 * part]).unwrap();
        }
        say("put");
        let digest = store.put_path(&file).await.unwrap().digest;
        say(digest);
        say(store.put_path(&whole).await.unwrap().digest);
        say(store.put_path_owned(&file).await.unwrap().digest);
        store.fetch(&digest).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "a part of other tests"]
async fn holds_a_lease() {
    let Some(folder) = folder() else { return };
    let store = SqliteMetadata::open(folder.join("metadata.db")).await.unwrap();
    let _lease = store.acquire(&"a".parse().unwrap(), "child", Duration::ZERO).await.unwrap();
    say("held");
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
#[ignore = "a part of other tests"]
async fn commits_until_killed() {
    let Some(folder) = folder() else { return };
    let store = SqliteMetadata::open(folder.join("metadata.db")).await.unwrap();
    store.create_run(new_run("a")).await.unwrap();
    let lease = store.acquire(&"a".parse().unwrap(), "child", Duration::ZERO).await.unwrap();
    for seq in lease.seq..1_000_000 {
        let executions = (0..seq % 5).map(|n| execution(&lease.run, &format!("{seq}/{n}"))).collect();
        let commit = kf_core::metadata::Commit {
            events: format!("[{}]", seq + 1),
            lineage: Lineage { executions },
            ..commit(&lease, seq)
        };
        say(store.commit(commit).await.unwrap());
    }
}
