use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kf_core::metadata::{Commit, Created, Lineage, LineageQuery, MetadataStore, NewRun, SqliteMetadata};
use kf_core::testing::metadata::{begin, commit, execution, new_run};
use kf_core::{Error, RunId, testing};

use crate::child;
use crate::disk::SmallDisk;

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

async fn store(path: &Path) -> Arc<dyn MetadataStore> {
    Arc::new(SqliteMetadata::open(path).await.unwrap())
}

fn run_sql(path: &Path, text: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(text).unwrap();
}

#[tokio::test]
async fn what_was_committed_is_there_when_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    let first = store(&path).await;
    let lease = begin(&first, "a").await;
    let executions = vec![execution(&lease.run, "t")];
    first.commit(Commit { lineage: Lineage { executions }, ..commit(&lease, 0) }).await.unwrap();
    first.release(lease).await.unwrap();
    drop(first);
    let again = store(&path).await;
    let lease = again.acquire(&run("a"), "second", Duration::ZERO).await.unwrap();
    assert_eq!((lease.epoch, lease.seq), (2, 1));
    assert_eq!(again.executions(&LineageQuery::default()).await.unwrap().items.len(), 1);
    let found: (String, String, String, String) = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT run, task, component, state FROM lineage", [], |row| row.try_into())
        .unwrap();
    assert_eq!(found, ("a".into(), "t".into(), "component".into(), "COMPLETE".into()));
}

#[tokio::test]
async fn a_long_pipeline_is_stored_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    let long: Arc<str> = format!(r#"{{"é":"{}"}}"#, "0123456789abcdef".repeat(200_000)).into();
    let new = || NewRun { spec: Arc::clone(&long), ..new_run("long") };
    let first = store(&path).await;
    assert!(matches!(first.create_run(new()).await.unwrap(), Created::New));
    assert!(
        matches!(first.create_run(new()).await.unwrap(), Created::Existing(found) if *found.spec == *long)
    );
    assert!(matches!(first.create_run(new_run("short")).await.unwrap(), Created::New));
    drop(first);
    assert_eq!(*store(&path).await.run(&run("long")).await.unwrap().unwrap().spec, *long);
}

#[tokio::test]
async fn two_engines_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    let engines = [store(&path).await, store(&path).await];
    let mut lease = begin(&engines[0], "a").await;
    for seq in 0..20 {
        let engine = &engines[(seq / 2 % 2) as usize];
        let executions = vec![execution(&lease.run, &format!("t{seq}"))];
        let commit = Commit { lineage: Lineage { executions }, ..commit(&lease, seq) };
        if seq % 2 == 0 {
            let stale = Commit { epoch: lease.epoch - 1, ..commit.clone() };
            assert!(matches!(engine.commit(stale).await, Err(Error::Fenced { .. })));
        }
        engine.commit(commit).await.unwrap();
        if seq % 2 == 1 {
            let other = &engines[((seq / 2 + 1) % 2) as usize];
            assert!(matches!(other.acquire(&run("a"), "o", Duration::ZERO).await, Err(Error::Held { .. })));
            engine.release(lease).await.unwrap();
            lease = other.acquire(&run("a"), "o", Duration::ZERO).await.unwrap();
        }
    }
    let tasks = engines[0].executions(&LineageQuery::default()).await.unwrap().items;
    let tasks: Vec<_> = tasks.into_iter().map(|execution| execution.task).collect();
    assert_eq!(tasks, (0..20).map(|seq| format!("t{seq}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lease_ends_with_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("metadata.db")).await;
    store.create_run(new_run("a")).await.unwrap();
    for _ in 0..3 {
        let mut child = child::start("holds_a_lease", folder.path());
        assert_eq!(child.line().as_deref(), Some("held"));
        let error = store.acquire(&run("a"), "parent", Duration::ZERO).await.unwrap_err();
        let Error::Held { holder, .. } = &error else { panic!("{error}") };
        assert_eq!(*holder, format!("child (process {})", child.pid()));
        child.kill();
        store.acquire(&run("a"), "parent", Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_loses_no_commit_and_leaves_no_half() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    let mut before = 0;
    for round in 0..12_u64 {
        let mut child = child::start("commits_until_killed", folder.path());
        let first: u64 = child.line().unwrap().parse().unwrap();
        assert_eq!(first, before + 1);
        tokio::time::sleep(Duration::from_millis(round * 11 % 50)).await;
        let said: u64 = child.kill().last().map_or(first, |line| line.parse().unwrap());
        let store = store(&path).await;
        let journal = store.journal(&run("a"), 0, usize::MAX).await.unwrap();
        let last = journal.last().unwrap().seq;
        assert!(last == said || last == said + 1, "said {said}, found {last}");
        assert!(journal.iter().zip(1..).all(|(e, n)| e.seq == n && e.events == format!("[{n}]")));
        let all = LineageQuery { limit: usize::MAX, ..LineageQuery::default() };
        let executions = store.executions(&all).await.unwrap().items.len() as u64;
        assert_eq!(executions, (0..last).map(|seq| seq % 5).sum::<u64>());
        before = last;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("metadata.db")).await;
    let lease = begin(&store, "a").await;
    let mut seq = 0;
    let mut expected = 0;
    let mut abandoned = 0;
    for round in 0..60_u64 {
        let count = if round % 20 == 0 { 6000 } else { round % 7 };
        let executions = (0..count).map(|n| execution(&lease.run, &format!("{round}/{n}"))).collect();
        let commit = Commit { lineage: Lineage { executions }, ..commit(&lease, seq) };
        let going = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.commit(commit).await }
        });
        tokio::time::sleep(Duration::from_micros(round * 53 % 1000)).await;
        going.abort();
        match going.await {
            Ok(result) => {
                result.unwrap();
            }
            Err(_) => abandoned += 1,
        }
        // One that was abandoned is made or not, and after the next write it is known which.
        let empty = |seq| Commit { events: "[]".to_owned(), ..self::commit(&lease, seq) };
        let found = match store.commit(empty(seq + 1)).await {
            Ok(seq) => seq,
            Err(Error::Fenced { .. }) => store.commit(empty(seq)).await.unwrap(),
            Err(error) => panic!("{error}"),
        };
        expected += if found == seq + 2 { count } else { 0 };
        seq = found;
    }
    let all = LineageQuery { limit: usize::MAX, ..LineageQuery::default() };
    assert_eq!(store.executions(&all).await.unwrap().items.len() as u64, expected);
    assert_eq!(store.journal(&lease.run, 0, usize::MAX).await.unwrap().len() as u64, seq);
    assert!(abandoned > 0, "the large ones take longer than their callers wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_does_not_grow_with_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    let store = store(&path).await;
    let lease = begin(&store, "a").await;
    let events = format!("[\"{}\"]", "x".repeat(40_000));
    for seq in 0..2500 {
        store.commit(Commit { events: events.clone(), ..commit(&lease, seq) }).await.unwrap();
    }
    let size = |name: &str| fs::metadata(folder.path().join(name)).map_or(0, |about| about.len()) >> 20;
    assert!(
        size("metadata.db-wal") < 64,
        "{} MiB of log, {} of database",
        size("metadata.db-wal"),
        size("metadata.db")
    );
    drop((lease, store));
    // A copy that is under way closes the file when it is done.
    for _ in 0..1200 {
        if !folder.path().join("metadata.db-wal").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(size("metadata.db") > 90 && size("metadata.db-wal") == 0);
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    drop(store(&path).await);
    run_sql(&path, "PRAGMA user_version = 99");
    let error = SqliteMetadata::open(&path).await.unwrap_err();
    assert!(matches!(error, Error::TooNew { found: 99, supported: 1, .. }), "{error}");
}

#[tokio::test]
async fn another_programs_database_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    run_sql(&path, "CREATE TABLE theirs (a)");
    let before = fs::read(&path).unwrap();
    let error = SqliteMetadata::open(&path).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert!(fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn what_is_no_database_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.db");
    let full = store(&good).await;
    let lease = begin(&full, "a").await;
    for seq in 0..50 {
        let events = format!("[\"{}\"]", "x".repeat(4000));
        full.commit(Commit { events, ..commit(&lease, seq) }).await.unwrap();
    }
    drop((lease, full));
    run_sql(&good, "PRAGMA wal_checkpoint(TRUNCATE)");
    let whole = fs::read(&good).unwrap();
    assert!(whole.len() > 100_000, "{}", whole.len());
    let mut scrambled = whole.clone();
    scrambled[100..4096].fill(0x5a);
    let cases: [(&str, &[u8]); 6] = [
        ("text", b"this is no database, but a text of some length that somebody put here"),
        ("short", b"SQLite"),
        ("header", b"SQLite format 3\0"),
        ("header-and-garbage", &[b"SQLite format 3\0".as_slice(), &[0xa5; 5000]].concat()),
        ("truncated", &whole[..whole.len() / 2]),
        ("scrambled", &scrambled),
    ];
    for (name, content) in cases {
        let path = folder.path().join(format!("{name}.db"));
        fs::write(&path, content).unwrap();
        let error = match SqliteMetadata::open(&path).await {
            Err(error) => error,
            // Where the damage is elsewhere, it shows when it is read.
            Ok(store) => store.journal(&run("a"), 0, 100).await.map(drop).expect_err(name),
        };
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name) && !error.is_retryable(), "{error}");
    }
    let folder_error = SqliteMetadata::open(folder.path()).await.unwrap_err();
    assert!(matches!(folder_error, Error::Io { .. }), "{folder_error:?}");
}

#[tokio::test]
async fn many_may_open_a_new_database_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    let mut all = tokio::task::JoinSet::new();
    for n in 0..8 {
        let path = path.clone();
        all.spawn(async move {
            let store = store(&path).await;
            let lease = begin(&store, &format!("r{n}")).await;
            store.commit(commit(&lease, 0)).await.unwrap();
            store.release(lease).await.unwrap();
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    assert_eq!(store(&path).await.runs(&Default::default()).await.unwrap().items.len(), 8);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(1024, "a_full_disk_is_an_error_and_loses_nothing") else { return };
    let path = disk.path().join("metadata.db");
    let full = store(&path).await;
    let lease = begin(&full, "a").await;
    full.commit(commit(&lease, 0)).await.unwrap();
    for count in [1, 5000] {
        let events = format!("[\"{}\"]", "x".repeat(2 << 20));
        let executions = (0..count).map(|n| execution(&lease.run, &n.to_string())).collect();
        let large = Commit { events, lineage: Lineage { executions }, ..commit(&lease, 1) };
        let error = full.commit(large).await.unwrap_err();
        let Error::Io { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.kind(), ErrorKind::StorageFull);
    }
    full.commit(commit(&lease, 1)).await.unwrap();
    drop((lease, full));
    let again = store(&path).await;
    assert_eq!(again.journal(&run("a"), 0, 9).await.unwrap().len(), 2);
    assert!(again.executions(&LineageQuery::default()).await.unwrap().items.is_empty());
}

fn run(name: &str) -> RunId {
    name.parse().unwrap()
}
