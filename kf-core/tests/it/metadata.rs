use kf_core::metadata::SqliteMetadata;
use kf_core::testing;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sqlite_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let mut n = 0;
    testing::metadata_store(async || {
        n += 1;
        SqliteMetadata::open(folder.path().join(format!("{n}.db"))).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_in_memory_conforms() {
    testing::metadata_store(async || SqliteMetadata::in_memory().await).await;
}
