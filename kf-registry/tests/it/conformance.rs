use std::sync::Arc;

use kf_registry::{Registry, SqliteRegistry, testing};

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    testing::suite(async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.path().join(format!("made/on/the/way/{number}.sqlite"));
        Arc::new(SqliteRegistry::open(path).await.unwrap()) as Arc<dyn Registry>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_memory_conforms() {
    testing::suite(async || Arc::new(SqliteRegistry::in_memory().await.unwrap()) as Arc<dyn Registry>).await;
}
