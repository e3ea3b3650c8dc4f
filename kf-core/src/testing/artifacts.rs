//! What an [`ArtifactStore`] must do.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::artifact::{ArtifactStore, Pile, Sweep};
use crate::{Digest, Error, Result};

/// The age of what is swept here; times of objects in S3 are whole seconds.
const SWEPT_AFTER: Duration = Duration::from_secs(4);

/// The whole suite. `make` gives a new, empty store at each call.
pub async fn artifact_store(mut make: impl AsyncFnMut() -> Result<ArtifactStore>) {
    bytes_come_back(&make().await.unwrap()).await;
    files_come_back(&make().await.unwrap()).await;
    large_files_come_back(&make().await.unwrap()).await;
    given_files_are_gone(&make().await.unwrap()).await;
    folders_come_back(&make().await.unwrap()).await;
    equal_folders_have_one_digest(&make().await.unwrap()).await;
    changed_copies_are_put_right(&make().await.unwrap()).await;
    odd_things_are_refused_by_name(&make().await.unwrap()).await;
    what_is_missing_is_not_found(&make().await.unwrap()).await;
    what_is_removed_is_gone(&make().await.unwrap()).await;
    many_may_put_the_same(&make().await.unwrap()).await;
    what_is_out_of_reach_and_old_is_swept(make().await.unwrap()).await;
    what_is_put_beside_a_sweep_stays(make().await.unwrap()).await;
}

/// Bytes are stored under their SHA-256 digest and come back, also none at all.
pub async fn bytes_come_back(store: &ArtifactStore) {
    for content in ["", "abc", "{\"kf_folder\":1,"] {
        let stored = store.put_bytes(content.into()).await.unwrap();
        assert_eq!(stored.digest, Digest::of(content));
        assert_eq!((stored.size, stored.folder), (content.len() as u64, false));
        assert!(store.contains(&stored.digest).await.unwrap());
        assert_eq!(store.read(&stored.digest).await.unwrap(), content);
        let path = store.fetch(&stored.digest).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o222, 0, "read-only");
        store.verify(&stored.digest).await.unwrap();
        assert!(store.uri(&stored.digest).ends_with(&stored.digest.to_hex()));
    }
}

/// A file that is put stays where it is, and putting it again changes nothing.
pub async fn files_come_back(store: &ArtifactStore) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.csv");
    fs::write(&path, "a,b\n").unwrap();
    let first = store.put_path(&path).await.unwrap();
    assert_eq!(first, store.put_path(&path).await.unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"a,b\n");
    let fetched = store.fetch(&first.digest).await.unwrap();
    assert_eq!(fetched, store.fetch(&first.digest).await.unwrap());
    assert_eq!(fs::read(fetched).unwrap(), b"a,b\n");
}

/// Files of many pieces come back whole.
pub async fn large_files_come_back(store: &ArtifactStore) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    let content: Vec<u8> = (0..20_000_001_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    fs::write(&path, &content).unwrap();
    let stored = store.put_path(&path).await.unwrap();
    assert_eq!((stored.digest, stored.size), (Digest::of(&content), content.len() as u64));
    assert!(fs::read(store.fetch(&stored.digest).await.unwrap()).unwrap() == content);
    store.verify(&stored.digest).await.unwrap();
}

/// A file or folder that is given away is stored and no longer there; one with a second name keeps that name's
/// content apart.
pub async fn given_files_are_gone(store: &ArtifactStore) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    fs::write(&path, "weights").unwrap();
    let file = store.put_path_owned(&path).await.unwrap();
    assert_eq!(file.digest, Digest::of("weights"));
    assert!(!path.exists());
    fs::write(&path, "weights").unwrap();
    fs::hard_link(&path, folder.path().join("second")).unwrap();
    assert_eq!(store.put_path_owned(&path).await.unwrap(), file);
    fs::write(folder.path().join("second"), "changed").unwrap();
    assert_eq!(store.read(&file.digest).await.unwrap(), "weights");

    let (lent, given) = (folder.path().join("lent"), folder.path().join("given"));
    fill(&lent);
    fill(&given);
    assert_eq!(store.put_path(&lent).await.unwrap(), store.put_path_owned(&given).await.unwrap());
    assert!(lent.exists() && !given.exists());
}

/// Folders come back with names, contents, executable bits and empty folders.
pub async fn folders_come_back(store: &ArtifactStore) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let stored = store.put_path(folder.path()).await.unwrap();
    assert_eq!((stored.size, stored.folder), (12, true));
    store.verify(&stored.digest).await.unwrap();
    assert!(matches!(store.read(&stored.digest).await, Err(Error::Invalid { .. })));
    let fetched = store.fetch(&stored.digest).await.unwrap();
    assert_eq!(fetched, store.fetch(&stored.digest).await.unwrap());
    assert_filled(&fetched);

    let nothing = tempfile::tempdir().unwrap();
    let stored = store.put_path(nothing.path()).await.unwrap();
    assert_eq!(fs::read_dir(store.fetch(&stored.digest).await.unwrap()).unwrap().count(), 0);
}

/// Content decides, not order or time; and each of name, content, executable bit and empty folder does.
pub async fn equal_folders_have_one_digest(store: &ArtifactStore) {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    fill(&a);
    fill(&b);
    let first = store.put_path(&a).await.unwrap();
    assert_eq!(first, store.put_path(&b).await.unwrap());
    let mut digests = vec![first.digest];
    fs::set_permissions(b.join("run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    digests.push(store.put_path(&b).await.unwrap().digest);
    fs::remove_dir(b.join("empty")).unwrap();
    digests.push(store.put_path(&b).await.unwrap().digest);
    fs::rename(b.join("run.sh"), b.join("run")).unwrap();
    digests.push(store.put_path(&b).await.unwrap().digest);
    fs::write(b.join("run"), "other").unwrap();
    digests.push(store.put_path(&b).await.unwrap().digest);
    let different: std::collections::HashSet<_> = digests.iter().collect();
    assert_eq!(different.len(), digests.len(), "{digests:?}");
}

/// A fetched folder in which something was added, removed or changed is as it should be after the next fetch.
pub async fn changed_copies_are_put_right(store: &ArtifactStore) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let digest = store.put_path(folder.path()).await.unwrap().digest;
    let fetched = store.fetch(&digest).await.unwrap();
    fs::remove_file(fetched.join("deep/er/file")).unwrap();
    assert_filled(&store.fetch(&digest).await.unwrap());
    fs::write(fetched.join("added"), "").unwrap();
    assert_filled(&store.fetch(&digest).await.unwrap());
    fs::remove_file(fetched.join("run.sh")).unwrap();
    fs::write(fetched.join("run.sh"), "mali").unwrap();
    fs::set_permissions(fetched.join("run.sh"), fs::Permissions::from_mode(0o555)).unwrap();
    assert_filled(&store.fetch(&digest).await.unwrap());
    fs::remove_dir_all(&fetched).unwrap();
    fs::write(&fetched, "a file in its place").unwrap();
    assert_filled(&store.fetch(&digest).await.unwrap());
}

/// What is neither file nor folder, and names that not every system can keep, are refused; the error says where.
pub async fn odd_things_are_refused_by_name(store: &ArtifactStore) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let make_link = |path: &Path| symlink("/etc/hostname", path).unwrap();
    for name in [b"socket".as_slice(), b"link", b"not-utf8-\xff", b"new\nline", b"back\\slash"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("good"), "x").unwrap();
        let path = folder.path().join(OsStr::from_bytes(name));
        match name {
            b"socket" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            b"link" => make_link(&path),
            _ => fs::write(&path, "x").unwrap(),
        }
        for result in [store.put_path(folder.path()).await, store.put_path_owned(folder.path()).await] {
            let Err(Error::Invalid { found, .. }) = &result else { panic!("{path:?}: {result:?}") };
            assert_eq!(*found, path.display().to_string());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    make_link(&folder.path().join("link"));
    assert!(matches!(store.put_path(&folder.path().join("link")).await, Err(Error::Invalid { .. })));
    assert!(matches!(store.put_path(Path::new("/dev/null")).await, Err(Error::Invalid { .. })));
    assert!(matches!(store.put_path(&folder.path().join("none")).await, Err(Error::Io { .. })));
}

/// What was never put is not found.
pub async fn what_is_missing_is_not_found(store: &ArtifactStore) {
    let digest = Digest::of("never put");
    assert!(!store.contains(&digest).await.unwrap());
    assert!(matches!(store.fetch(&digest).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.read(&digest).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.verify(&digest).await, Err(Error::NotFound { .. })));
    store.remove(&digest).await.unwrap();
}

/// What is removed is not found, and may be put again. A folder of which a file was removed is not found either.
pub async fn what_is_removed_is_gone(store: &ArtifactStore) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let whole = store.put_path(folder.path()).await.unwrap().digest;
    store.fetch(&whole).await.unwrap();
    let part = Digest::of("deep");
    store.remove(&part).await.unwrap();
    assert!(!store.contains(&part).await.unwrap());
    assert!(matches!(store.fetch(&whole).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.verify(&whole).await, Err(Error::NotFound { .. })));
    store.put_path(folder.path()).await.unwrap();
    assert_filled(&store.fetch(&whole).await.unwrap());
    store.remove(&whole).await.unwrap();
    assert!(matches!(store.fetch(&whole).await, Err(Error::NotFound { .. })));
    assert!(store.contains(&part).await.unwrap(), "a folder's files may be others' too");
}

/// Many at once may put and fetch the same file and folder.
pub async fn many_may_put_the_same(store: &ArtifactStore) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, path) = (store.clone(), folder.path().to_owned());
        all.spawn(async move {
            let whole = store.put_path(&path).await.unwrap().digest;
            let file = store.put_bytes("deep".into()).await.unwrap().digest;
            assert_eq!(store.read(&file).await.unwrap(), "deep");
            assert_filled(&store.fetch(&whole).await.unwrap());
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

/// Of what nobody needs only that goes that was not put or renewed lately; folders keep their files.
pub async fn what_is_out_of_reach_and_old_is_swept(store: ArtifactStore) {
    let store = store.renew_after(SWEPT_AFTER / 4);
    let sweep = Sweep::new().min_age(SWEPT_AFTER);
    let old = SWEPT_AFTER + Duration::from_millis(1100);
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let whole = store.put_path(folder.path()).await.unwrap().digest;
    store.fetch(&whole).await.unwrap();
    let put = async |text: &'static str| store.put_bytes(text.into()).await.unwrap().digest;
    let (unused, again, renewed) = (put("unused").await, put("again").await, put("renewed").await);
    tokio::time::sleep(old).await;

    assert_eq!(put("again").await, again);
    store.renew(&renewed).await.unwrap();
    let young = put("young").await;
    let would = store.sweep(HashSet::from([whole]), &sweep.clone().dry_run()).await.unwrap();
    store.verify(&unused).await.unwrap();
    let swept = store.sweep(HashSet::from([whole]), &sweep).await.unwrap();
    assert_eq!((swept.removed, swept.young, swept.kept), (would.removed, would.young, would.kept));
    assert_eq!(swept.removed, Pile { objects: 1, bytes: 6 }, "`unused`");
    assert_eq!(swept.young, Pile { objects: 3, bytes: 17 }, "`again`, `renewed` and `young`");
    assert_eq!(swept.kept.objects, 3, "two files, and the list of them");
    assert!(!store.contains(&unused).await.unwrap());
    assert!(matches!(store.fetch(&unused).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.renew(&unused).await, Err(Error::NotFound { .. })));
    for digest in [&whole, &again, &renewed, &young] {
        store.verify(digest).await.unwrap();
    }
    assert_filled(&store.fetch(&whole).await.unwrap());
    assert_eq!(put("unused").await, unused);
    store.verify(&unused).await.unwrap();

    tokio::time::sleep(old).await;
    store.renew(&whole).await.unwrap();
    // What was fetched after a sweep has looked what is needed, and was renewed before, is being read.
    let as_of = SystemTime::now();
    let fetched = store.fetch(&whole).await.unwrap();
    let swept = store.sweep(HashSet::new(), &sweep.clone().as_of(as_of)).await.unwrap();
    assert_eq!((swept.removed.objects, swept.young.objects), (4, 3), "the folder was renewed");
    assert_filled(&fetched);
    assert_filled(&store.fetch(&whole).await.unwrap());
    tokio::time::sleep(old).await;
    let swept = store.sweep(HashSet::new(), &sweep).await.unwrap();
    assert_eq!((swept.removed.objects, swept.young.objects), (3, 0));
    assert!(matches!(store.fetch(&whole).await, Err(Error::NotFound { .. })));
    store.put_path(folder.path()).await.unwrap();
    assert_filled(&store.fetch(&whole).await.unwrap());
}

/// What sweeps remove without an end is put and renewed again and again: it is there for as long as it is young.
pub async fn what_is_put_beside_a_sweep_stays(store: ArtifactStore) {
    let store = store.renew_after(SWEPT_AFTER / 4);
    let end = Instant::now() + 4 * SWEPT_AFTER;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..8_u32 {
        let store = store.clone();
        all.spawn(async move {
            let (mut stayed, mut was_gone) = (0, 0);
            let text = format!("content {}", n % 4);
            while Instant::now() < end {
                let began = Instant::now();
                let digest = Digest::of(&text);
                // Put by some, renewed by others, where there is something to renew.
                if n % 2 == 0 || matches!(store.renew(&digest).await, Err(Error::NotFound { .. })) {
                    store.put_bytes(text.clone().into()).await.unwrap();
                }
                tokio::time::sleep(SWEPT_AFTER / 10).await;
                let there = store.verify(&digest).await;
                if began.elapsed() < SWEPT_AFTER / 4 {
                    there.unwrap();
                    stayed += 1;
                }
                // Long enough to grow old, at times.
                tokio::time::sleep(SWEPT_AFTER.mul_f64(0.35 * f64::from((n + stayed) % 5))).await;
                was_gone += u32::from(!store.contains(&digest).await.unwrap());
            }
            (stayed, was_gone)
        });
    }
    let sweep = Sweep::new().min_age(SWEPT_AFTER);
    let mut removed = 0;
    while Instant::now() < end {
        removed += store.sweep(HashSet::new(), &sweep).await.unwrap().removed.objects;
    }
    let mut stayed = 0;
    while let Some(done) = all.join_next().await {
        stayed += done.unwrap().0;
    }
    assert!(stayed > 8, "{stayed} times it was looked whether content is there");
    println!("{stayed} times put and there, {removed} swept");
}

fn fill(folder: &Path) {
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::create_dir_all(folder.join("empty")).unwrap();
    fs::write(folder.join("deep/er/file"), "deep").unwrap();
    fs::write(folder.join("same"), "deep").unwrap();
    fs::write(folder.join("run.sh"), "exec").unwrap();
    fs::set_permissions(folder.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn assert_filled(folder: &Path) {
    assert_eq!(fs::read(folder.join("deep/er/file")).unwrap(), b"deep");
    assert_eq!(fs::read(folder.join("same")).unwrap(), b"deep");
    assert_eq!(fs::read(folder.join("run.sh")).unwrap(), b"exec");
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run.sh"), mode("same")), (0o555, 0o444));
    assert!(folder.join("empty").is_dir());
    assert_eq!(fs::read_dir(folder).unwrap().count(), 4);
}
