use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kf_core::artifact::ArtifactStore;
use kf_core::{Digest, Error, testing};
use object_store::{ObjectStoreExt, memory::InMemory};

use crate::child;
use crate::disk::SmallDisk;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = 0;
    testing::artifact_store(async || {
        n += 1;
        ArtifactStore::local(folder.path().join(n.to_string()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_memory_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = 0;
    testing::artifact_store(async || {
        n += 1;
        ArtifactStore::in_memory(folder.path().join(n.to_string()))
    })
    .await;
}

fn is_send<T: Send>(_: &T) {}

#[tokio::test]
async fn its_futures_go_to_any_thread() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::in_memory(folder.path()).unwrap();
    let digest = Digest::of("x");
    is_send(&store.put_path(folder.path()));
    is_send(&store.fetch(&digest));
    is_send(&store.verify(&digest));
    is_send(&store.read(&digest));
    let shared = store.clone();
    let missing = tokio::spawn(async move { shared.fetch(&Digest::of("y")).await.is_err() });
    assert!(missing.await.unwrap());
}

/// Where a local store keeps an object.
fn object(root: &Path, digest: &Digest) -> PathBuf {
    root.join("sha256").join(&digest.to_hex()[..2]).join(digest.to_hex())
}

fn overwrite(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

fn assert_corrupt<T: std::fmt::Debug>(result: kf_core::Result<T>, expected: &Digest, found: &Digest) {
    let Err(error) = result else { panic!("taken for whole: {result:?}") };
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(&expected.to_string()), "{error}");
    assert!(error.to_string().contains(&found.to_string()), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn an_object_changed_on_disk_is_noticed_and_can_be_put_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::local(folder.path()).unwrap();
    let digest = store.put_bytes("a model".into()).await.unwrap().digest;
    for other in ["A model", "a mode", "", "a model and more"] {
        let path = store.fetch(&digest).await.unwrap();
        overwrite(&path, other.as_bytes());
        let found = Digest::of(other);
        assert_corrupt(store.fetch(&digest).await, &digest, &found);
        assert_corrupt(store.verify(&digest).await, &digest, &found);
        assert_corrupt(store.read(&digest).await, &digest, &found);
        let another = ArtifactStore::local(folder.path()).unwrap();
        assert_corrupt(another.fetch(&digest).await, &digest, &found);
        store.put_bytes("a model".into()).await.unwrap();
        assert_eq!(store.read(&digest).await.unwrap(), "a model");
    }
}

#[tokio::test]
async fn a_changed_file_of_a_folder_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::local(folder.path().join("store")).unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "first").unwrap();
    fs::write(source.join("b"), "second").unwrap();
    let whole = store.put_path(&source).await.unwrap().digest;
    store.fetch(&whole).await.unwrap();
    let part = Digest::of("second");
    overwrite(&object(&folder.path().join("store"), &part), b"Second");
    assert_corrupt(store.fetch(&whole).await, &part, &Digest::of("Second"));
    assert_corrupt(store.verify(&whole).await, &part, &Digest::of("Second"));
    store.put_path(&source).await.unwrap();
    store.verify(&whole).await.unwrap();
    assert_eq!(fs::read(store.fetch(&whole).await.unwrap().join("b")).unwrap(), b"second");
}

#[tokio::test]
async fn an_object_changed_in_an_object_store_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(InMemory::new());
    let open =
        |n: &str| ArtifactStore::with_base(objects.clone(), "s3://bucket/kf", folder.path().join(n)).unwrap();
    let first = open("first");
    let digest = first.put_bytes("content".into()).await.unwrap().digest;
    first.verify(&digest).await.unwrap();
    assert!(first.uri(&digest).starts_with("s3://bucket/kf/sha256/"), "{}", first.uri(&digest));
    let key = object_store::path::Path::from(format!("sha256/{}/{}", &digest.to_hex()[..2], digest.to_hex()));
    objects.put(&key, "Content".into()).await.unwrap();
    assert_corrupt(first.verify(&digest).await, &digest, &Digest::of("Content"));
    assert_corrupt(open("second").fetch(&digest).await, &digest, &Digest::of("Content"));
    assert_eq!(first.read(&digest).await.unwrap(), "content", "the copy on this machine is whole");
    first.put_bytes("content".into()).await.unwrap();
    first.verify(&digest).await.expect("what was found damaged is put up again, though of the same size");
    assert_eq!(open("third").read(&digest).await.unwrap(), "content");
    overwrite(&object(&folder.path().join("third"), &digest), b"changed");
    assert_eq!(fs::read(open("third").fetch(&digest).await.unwrap()).unwrap(), b"content", "fetched again");
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount(1024, "a_full_disk_is_an_error_and_leaves_nothing") else { return };
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    fs::write(&large, vec![7; 2 << 20]).unwrap();
    let store = ArtifactStore::local(disk.path()).unwrap();
    let small = store.put_bytes("small".into()).await.unwrap().digest;
    let is_full = |result: kf_core::Result<_>| match result {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::StorageFull, "{source}"),
        other => panic!("{other:?}"),
    };
    is_full(store.put_path(&large).await);
    is_full(store.put_path_owned(&large).await);
    is_full(store.put_path(folder.path()).await);
    is_full(store.put_bytes(vec![7; 2 << 20].into()).await);
    assert!(large.exists());
    assert!(!store.contains(&Digest::of(vec![7; 2 << 20])).await.unwrap());
    assert_eq!(files_below(&disk.path().join("staging")), 1, "the lock and nothing else");
    store.put_bytes(vec![1; 700 << 10].into()).await.unwrap();
    assert_eq!(store.read(&small).await.unwrap(), "small");
}

#[tokio::test]
async fn a_killed_process_leaves_no_half_object() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let mut said = Vec::new();
    for round in 0..12_u64 {
        let mut child = child::start("puts_until_killed", folder.path());
        while child.line().is_some_and(|line| line != "put") {}
        // A round of the child takes some tens of milliseconds.
        tokio::time::sleep(Duration::from_millis(round * 37 % 200)).await;
        said.extend(child.kill().into_iter().filter_map(|line| line.parse::<Digest>().ok()));
    }
    assert!(said.len() > 12, "the children got to put {}", said.len());
    let mut objects = 0;
    for shard in fs::read_dir(root.join("sha256")).unwrap() {
        for object in fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            let hex = Digest::of(fs::read(&path).unwrap()).to_hex();
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), hex);
            objects += 1;
        }
    }
    assert!(objects > 12);
    let store = ArtifactStore::local(&root).unwrap();
    assert_eq!(fs::read_dir(root.join("staging")).unwrap().count(), 2, "its own folder and lock");
    for digest in said {
        store.verify(&digest).await.unwrap();
    }
}

#[tokio::test]
async fn unfinished_work_of_the_living_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let first = ArtifactStore::local(folder.path()).unwrap();
    let second = ArtifactStore::local(folder.path()).unwrap();
    first.put_bytes("first".into()).await.unwrap();
    drop(first);
    second.put_bytes("second".into()).await.unwrap();
    assert_eq!(second.read(&Digest::of("first")).await.unwrap(), "first");
    drop(second);
    assert_eq!(files_below(&folder.path().join("staging")), 0);
}

#[tokio::test]
async fn a_root_that_is_a_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = ArtifactStore::local(&file).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("file"), "{error}");
}

#[tokio::test]
async fn an_uri_is_plain_ascii() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::local(folder.path().join("a b%é")).unwrap();
    let uri = store.uri(&Digest::of(""));
    assert!(uri.starts_with("file:///") && uri.contains("/a%20b%25%C3%A9/sha256/e3/e3b0c442"), "{uri}");
}

fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| if e.file_type().unwrap().is_dir() { files_below(&e.path()) } else { 1 }).sum()
}
