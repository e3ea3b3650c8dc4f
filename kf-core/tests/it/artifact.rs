use kf_core::artifact::ArtifactStore;
use kf_core::{Digest, testing};

fn is_send<T: Send>(_: &T) {}

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
