//! Artifacts in S3, on a server of the tests' own.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use kf_core::artifact::{ArtifactStore, S3Options};
use kf_core::testing::servers::{S3Server, judge};
use kf_core::{Digest, Error, testing};

/// The server that these tests share; none where moto is missing, which is said.
fn server() -> Option<&'static S3Server> {
    static SERVER: OnceLock<Result<S3Server, String>> = OnceLock::new();
    judge("s3", SERVER.get_or_init(S3Server::start).as_ref())
}

fn options(server: &S3Server) -> S3Options {
    S3Options::new().endpoint(&server.endpoint()).allow_http().keys("test", "test").region("us-east-1")
}

/// A bucket that nobody has used.
fn bucket(server: &S3Server) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    server.make_bucket(&name).unwrap();
    name
}

fn open(server: &S3Server, url: &str, scratch: &Path) -> ArtifactStore {
    ArtifactStore::s3(url, scratch, options(server)).unwrap()
}

fn key(digest: &Digest) -> String {
    format!("sha256/{}/{}", &digest.to_hex()[..2], digest.to_hex())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_conforms() {
    let Some(server) = server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut n = 0;
    testing::artifact_store(async || {
        n += 1;
        let prefix = if n % 2 == 0 { "" } else { "/kf/artifacts" };
        let url = format!("s3://{}{prefix}", bucket(server));
        ArtifactStore::s3(&url, folder.path().join(n.to_string()), options(server))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_machine_puts_another_fetches() {
    let Some(server) = server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = format!("s3://{}/kf", bucket(server));
    let (one, two) =
        (open(server, &url, &folder.path().join("1")), open(server, &url, &folder.path().join("2")));
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let large: Vec<u8> = (0..30_000_003_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(source.join("large"), &large).unwrap();
    fs::write(source.join("small"), "small").unwrap();
    fs::write(source.join("empty"), "").unwrap();
    let stored = one.put_path(&source).await.unwrap();
    let uri = one.uri(&stored.digest);
    assert_eq!(uri, format!("{url}/{}", key(&stored.digest)));
    let fetched = two.fetch(&stored.digest).await.unwrap();
    assert!(fs::read(fetched.join("large")).unwrap() == large);
    assert_eq!(fs::read(fetched.join("small")).unwrap(), b"small");
    assert_eq!(fs::read(fetched.join("empty")).unwrap(), b"");
    two.verify(&stored.digest).await.unwrap();

    // It went up in parts, straight to its key: no other object, no unfinished upload.
    let name = url.trim_start_matches("s3://").trim_end_matches("/kf");
    let head = server.request("HEAD", &format!("/{name}/kf/{}", key(&Digest::of(&large)))).unwrap();
    let tag = head.lines().find(|line| line.to_lowercase().starts_with("etag:")).unwrap().to_owned();
    assert!(tag.contains("-4\""), "an ETag of 4 parts: {tag}");
    let list = server.request("GET", &format!("/{name}?list-type=2")).unwrap();
    assert_eq!(list.matches("<Key>").count(), 4, "{list}");
    assert_eq!(list.matches("<Key>kf/sha256/").count(), 4, "{list}");
    let uploads = server.request("GET", &format!("/{name}?uploads")).unwrap();
    assert!(!uploads.contains("<UploadId>"), "{uploads}");
}

#[tokio::test]
async fn a_damaged_object_is_noticed() {
    let Some(server) = server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let name = bucket(server);
    let url = format!("s3://{name}/kf");
    let one = open(server, &url, &folder.path().join("1"));
    let digest = one.put_bytes("content".into()).await.unwrap().digest;
    // No body: the object is empty now.
    server.request("PUT", &format!("/{name}/kf/{}", key(&digest))).unwrap();
    let two = open(server, &url, &folder.path().join("2"));
    for error in [two.fetch(&digest).await.unwrap_err(), one.verify(&digest).await.unwrap_err()] {
        assert!(matches!(&error, Error::Corrupt { name, .. } if name.starts_with("s3://")), "{error}");
    }
    one.put_bytes("content".into()).await.unwrap();
    assert_eq!(two.read(&digest).await.unwrap(), "content");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_a_clear_error() {
    let Some(server) = server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = open(server, "s3://no-such-bucket/kf", folder.path());
    let error = store.put_bytes("content".into()).await.unwrap_err();
    assert!(error.to_string().contains("no-such-bucket") && !error.is_retryable(), "{error}");
    assert!(matches!(store.fetch(&Digest::of("other")).await, Err(Error::NotFound { .. })));
}
