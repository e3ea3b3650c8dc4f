use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use kf_core::metadata::RunQuery;
use kf_core::testing::metadata::new_run;
use kf_core::{Error, Home};

use crate::disk::SmallDisk;

#[tokio::test]
async fn a_home_is_made_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/home");
    let home = Home::open(&path).await.unwrap();
    let digest = home.artifacts().put_bytes("x".into()).await.unwrap().digest;
    home.metadata().create_run(new_run("a")).await.unwrap();
    assert_eq!(home.run_dir(&"a".parse().unwrap()), home.path().join("runs/a"));
    drop(home);
    let home = Home::open(&path).await.unwrap();
    assert_eq!(home.artifacts().read(&digest).await.unwrap(), "x");
    assert_eq!(home.metadata().runs(&RunQuery::default()).await.unwrap().items.len(), 1);
    for name in ["VERSION", "metadata.db", "artifacts", "scratch", "runs", "cache"] {
        assert!(home.path().join(name).exists(), "{name}");
    }
    assert_eq!(fs::read_to_string(path.join("VERSION")).unwrap(), "1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_open_a_new_home_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..8 {
        let path = folder.path().join("home");
        all.spawn(async move {
            let home = Home::open(path).await.unwrap();
            home.artifacts().put_bytes(format!("{n}").into()).await.unwrap();
            home.metadata().create_run(new_run(&format!("r{n}"))).await.unwrap();
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

async fn refused(path: &Path) -> Error {
    Home::open(path).await.expect_err("this is no home")
}

#[tokio::test]
async fn what_is_no_home_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home");
    drop(Home::open(&path).await.unwrap());
    fs::write(path.join("VERSION"), "7\n").unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, Error::TooNew { found: 7, supported: 1, .. }), "{error}");
    for text in ["", "one", "-1", "0", "1.5", "\u{0}"] {
        fs::write(path.join("VERSION"), text).unwrap();
        let error = refused(&path).await;
        assert!(matches!(error, Error::Corrupt { .. }), "{text}: {error}");
    }

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refused(&file).await, Error::Io { .. }));
    assert!(matches!(refused(&file.join("below")).await, Error::Io { .. }));

    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("thesis.tex"), "").unwrap();
    let error = refused(&theirs).await;
    assert!(matches!(error, Error::Conflict { .. }) && error.to_string().contains("thesis.tex"), "{error}");
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);
}

#[tokio::test]
async fn a_full_disk_is_said() {
    let Some(disk) = SmallDisk::mount(64, "a_full_disk_is_said") else { return };
    fs::write(disk.path().join(".filler"), vec![0; 256 << 10]).unwrap_err();
    let Error::Io { source, .. } = refused(&disk.path().join("home")).await else { panic!("no I/O error") };
    assert_eq!(source.kind(), ErrorKind::StorageFull);
    fs::remove_file(disk.path().join(".filler")).unwrap();
}
