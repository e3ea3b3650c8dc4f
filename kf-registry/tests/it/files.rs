//! Files that are new, old, foreign, damaged, or changed behind the registry's back.

use std::path::Path;

use kf_core::Digest;
use kf_registry::{AliasChange, Error, NewVersion, PageRequest, Registry, SqliteRegistry};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

fn new(text: &str) -> NewVersion {
    NewVersion::new("m".parse().unwrap(), Digest::of(text), "file:///m", 1)
}

async fn filled(path: &Path, versions: u32) {
    let registry = SqliteRegistry::open(path).await.unwrap();
    for i in 0..versions {
        registry.register(new(&i.to_string()).parameter("padding", "x".repeat(500))).await.unwrap();
    }
    registry
        .change_alias(AliasChange::set("m".parse().unwrap(), "champion".parse().unwrap(), 1, "ann"))
        .await
        .unwrap();
    registry.close().await;
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    filled(&path, 3).await;
    let registry = SqliteRegistry::open(&path).await.unwrap();
    let champion =
        registry.version_by_alias(&"m".parse().unwrap(), &"champion".parse().unwrap()).await.unwrap();
    assert_eq!((champion.number, registry.model(&champion.model).await.unwrap().versions), (1, 3));
}

#[tokio::test]
async fn an_empty_file_becomes_a_registry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    std::fs::write(&path, b"").unwrap();
    filled(&path, 1).await;
}

#[tokio::test]
async fn a_newer_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    filled(&path, 1).await;
    let mut connection = raw(&path).await;
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteRegistry::open(&path).await.unwrap_err();
    assert!(matches!(error, Error::TooNew { found: 99, supported: 1, .. }), "{error}");
    assert!(error.to_string().contains("r.sqlite") && !error.is_retryable(), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn another_programs_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    let mut connection =
        SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE theirs (a); PRAGMA user_version = 1").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteRegistry::open(&path).await.unwrap_err();
    assert!(matches!(&error, Error::Damaged { found, .. } if found.contains("another program")), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn garbage_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    for garbage in [&b"not a database, but longer than a header of one hundred bytes. "[..], b"x", b"PAR1"] {
        let garbage = garbage.repeat(50);
        std::fs::write(&path, &garbage).unwrap();
        let error = SqliteRegistry::open(&path).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), garbage);
    }
}

#[tokio::test]
async fn a_truncated_file_is_refused_wherever_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.sqlite");
    filled(&whole, 60).await;
    let bytes = std::fs::read(&whole).unwrap();
    assert!(bytes.len() > 20 * 4096, "{} bytes are too few to cut", bytes.len());
    for length in [
        1,
        50,
        512,
        4095,
        4096,
        4097,
        bytes.len() / 2,
        bytes.len() - 4096,
        bytes.len() - 512,
        bytes.len() - 1,
    ] {
        let path = folder.path().join(format!("{length}.sqlite"));
        std::fs::write(&path, &bytes[..length]).unwrap();
        let opened = SqliteRegistry::open(&path).await;
        assert!(matches!(&opened, Err(Error::Damaged { .. })), "cut at {length}: {opened:?}");
    }
}

#[tokio::test]
async fn a_page_of_zeros_is_found_when_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    filled(&path, 60).await;
    let whole = std::fs::read(&path).unwrap();
    let mut found = 0;
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        let damaged = folder.path().join(format!("{page}.sqlite"));
        std::fs::write(&damaged, bytes).unwrap();
        match SqliteRegistry::open(&damaged).await {
            Err(error) => {
                assert!(matches!(error, Error::Damaged { .. }), "page {page}: {error}");
                found += 1;
            }
            // An overflow page holds the middle of a long text: SQLite can't tell, the registry's JSON can.
            Ok(registry) => {
                let read = registry.versions(&"m".parse().unwrap(), PageRequest::first(1000)).await;
                assert!(matches!(read, Err(Error::Damaged { .. })), "page {page}: {read:?}");
            }
        }
    }
    assert!(found > 10, "only {found} damaged pages were found when opening");
}

#[tokio::test]
async fn a_folder_or_a_place_that_cannot_be_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    for path in [folder.path().to_owned(), folder.path().join("file/r.sqlite")] {
        let error = SqliteRegistry::open(&path).await.unwrap_err();
        assert!(matches!(error, Error::Store { .. }), "{error}");
        assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
    }
}

#[tokio::test]
async fn the_file_itself_refuses_to_rewrite_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    filled(&path, 2).await;
    let mut connection = raw(&path).await;
    for sql in [
        "UPDATE versions SET digest = 'sha256:00' WHERE number = 1",
        "UPDATE versions SET metrics = '{}'",
        "DELETE FROM versions WHERE number = 2",
        "UPDATE alias_events SET actor = 'nobody'",
        "DELETE FROM alias_events",
        "DELETE FROM models",
        "INSERT INTO alias_events (model_id, alias, holds, actor, reason, at) VALUES (1, 'x', 77, 'a', '', 0)",
    ] {
        assert!(sqlx::raw_sql(sql).execute(&mut connection).await.is_err(), "{sql}");
    }
    assert!(sqlx::raw_sql("UPDATE versions SET description = 'ok'").execute(&mut connection).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_the_registry_usable() {
    let folder = tempfile::tempdir().unwrap();
    for registry in [
        SqliteRegistry::open(folder.path().join("r.sqlite")).await.unwrap(),
        SqliteRegistry::in_memory().await.unwrap(),
    ] {
        for i in 0..200_u32 {
            let call = registry.register(new(&i.to_string()));
            let _ = tokio::time::timeout(std::time::Duration::from_micros(u64::from(i) * 10), call).await;
        }
        let last = registry.register(new("last")).await.unwrap().version.number;
        let model = "m".parse().unwrap();
        assert_eq!(registry.model(&model).await.unwrap().versions, last);
        let all = registry.versions(&model, PageRequest::first(1000)).await.unwrap();
        assert_eq!(all.items.len(), last as usize, "numbers have gaps");
    }
}
