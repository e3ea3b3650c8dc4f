//! Artifacts in an object store that fails.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kf_core::artifact::{ArtifactStore, Sweep};
use kf_core::testing::{self, FaultyObjects, ObjectCall, ObjectFault};
use kf_core::{Digest, Error};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

/// A faulty store, what is really in it, and artifacts in it.
struct Bench {
    real: Arc<InMemory>,
    objects: Arc<FaultyObjects>,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let real = Arc::new(InMemory::new());
        let objects = Arc::new(FaultyObjects::new(real.clone()));
        Self { real, objects, folder: tempfile::tempdir().unwrap() }
    }

    /// The artifacts as another machine has them: nothing is here yet.
    fn machine(&self, name: &str) -> ArtifactStore {
        ArtifactStore::new(self.objects.clone(), self.folder.path().join(name)).unwrap()
    }

    /// That every object is what its name says.
    async fn is_sound(&self) -> usize {
        let (mut objects, mut count) = (self.real.list(None), 0);
        while let Some(meta) = objects.next().await {
            let key = meta.unwrap().location;
            let content = self.real.get(&key).await.unwrap().bytes().await.unwrap();
            assert_eq!(key.filename(), Some(Digest::of(&content).to_hex().as_str()));
            count += 1;
        }
        count
    }
}

fn large() -> Vec<u8> {
    (0..20_000_001_u32).map(|n| (n ^ (n >> 8)) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_now_and_then_conforms() {
    let (folder, mut n) = (tempfile::tempdir().unwrap(), 0);
    let mut met = Vec::new();
    testing::artifact_store(async || {
        n += 1;
        let objects = Arc::new(FaultyObjects::new(Arc::new(InMemory::new())));
        let late = ObjectFault::Late(Duration::from_millis(2));
        let faults = vec![ObjectFault::Fails, ObjectFault::FailsAfter, ObjectFault::Breaks, late];
        objects.at_random(n, 12, faults);
        met.push(objects.clone());
        ArtifactStore::new(objects, folder.path().join(n.to_string()))
    })
    .await;
    let met: usize = met.iter().map(|objects| objects.met()).sum();
    assert!(met > 10, "only {met} faults");
}

#[tokio::test]
async fn what_passes_is_asked_again() {
    use ObjectCall::{Get, Head, Part, Put};
    use ObjectFault::{Breaks, Changes, Ends, Fails, FailsAfter};
    let bench = Bench::new();
    for (n, (call, fault)) in
        [(Put, Fails), (Put, FailsAfter), (Put, Breaks), (Head, Fails), (Head, FailsAfter)]
            .into_iter()
            .enumerate()
    {
        bench.objects.next(call, fault.clone(), 2);
        bench
            .machine("a")
            .put_bytes(format!("{n}").into())
            .await
            .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        bench.objects.heal();
    }
    for fault in [Fails, FailsAfter, Breaks] {
        bench.objects.next(Part, fault.clone(), 1);
        let path = bench.folder.path().join("large");
        fs::write(&path, [large(), format!("{fault:?}").into_bytes()].concat()).unwrap();
        bench.machine("a").put_path(&path).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    }
    assert_eq!(bench.is_sound().await, 8);
    let digest = Digest::of("0");
    for (n, fault) in [Fails, FailsAfter, Breaks, Ends].into_iter().enumerate() {
        bench.objects.next(Get, fault.clone(), 2);
        let machine = bench.machine(&format!("get-{n}"));
        assert_eq!(machine.read(&digest).await.unwrap_or_else(|error| panic!("{fault:?}: {error}")), "0");
        bench.objects.next(Get, fault, 2);
        machine.verify(&digest).await.unwrap();
    }
    // Once it may be the way; twice it is what lies there.
    bench.objects.next(Get, Changes, 1);
    assert_eq!(bench.machine("changed").read(&digest).await.unwrap(), "0");
}

/// Who puts what is just being removed waits for that, and puts it up again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_removed_is_put_again() {
    let bench = Bench::new();
    let (renewed_after, min_age) = (Duration::from_millis(100), Duration::from_millis(200));
    let open = |name: &str| bench.machine(name).renew_after(renewed_after);
    let sweeps = open("sweeps");
    let digest = sweeps.put_bytes("x".into()).await.unwrap().digest;
    let late = Duration::from_secs(1);
    for puts in [true, false] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = bench.objects.calls(ObjectCall::Delete);
        // After that of what told the store's time.
        bench.objects.next(ObjectCall::Delete, ObjectFault::Late(Duration::ZERO), 1);
        bench.objects.next(ObjectCall::Delete, ObjectFault::Late(late), 1);
        let sweep = tokio::spawn({
            let sweeps = sweeps.clone();
            async move { sweeps.sweep(HashSet::new(), &Sweep::new().min_age(min_age)).await }
        });
        while bench.objects.calls(ObjectCall::Delete) < before + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(sweeps.contains(&digest).await.unwrap(), "the removal is under way");
        let began = Instant::now();
        let other = open(if puts { "puts" } else { "renews" });
        if puts {
            other.put_bytes("x".into()).await.unwrap();
        } else {
            let renewed = other.renew(&digest).await;
            assert!(matches!(renewed, Err(Error::NotFound { .. })), "{renewed:?}");
        }
        assert!(began.elapsed() > late / 2, "it waited");
        assert_eq!(sweep.await.unwrap().unwrap().removed.objects, 1);
        assert_eq!(sweeps.contains(&digest).await.unwrap(), puts);
    }
}

/// A removal whose answer was lost is asked for again; what was put in between is there in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_between_two_removals_is_put_again() {
    let bench = Bench::new();
    let (renewed_after, min_age) = (Duration::from_millis(100), Duration::from_millis(200));
    let sweeps = bench.machine("sweeps").renew_after(renewed_after);
    let digest = sweeps.put_bytes("x".into()).await.unwrap().digest;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // After that of what told the store's time.
    bench.objects.next(ObjectCall::Delete, ObjectFault::Late(Duration::ZERO), 1);
    bench.objects.next(ObjectCall::Delete, ObjectFault::FailsAfter, 1);
    let sweep = tokio::spawn({
        let sweeps = sweeps.clone();
        async move { sweeps.sweep(HashSet::new(), &Sweep::new().min_age(min_age)).await }
    });
    while sweeps.contains(&digest).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bench.machine("puts").renew_after(renewed_after).put_bytes("x".into()).await.unwrap();
    assert!(sweep.is_finished(), "it waited for the end");
    assert_eq!(sweep.await.unwrap().unwrap().removed.objects, 1);
    assert_eq!(bench.objects.calls(ObjectCall::Delete), 5, "the time, twice the object, its use, the sweep");
    assert!(sweeps.contains(&digest).await.unwrap());
}

#[tokio::test]
async fn renewing_asks_for_an_object_once() {
    let bench = Bench::new();
    let store = bench.machine("a");
    let digest = store.put_bytes("x".into()).await.unwrap().digest;
    store.verify(&digest).await.unwrap();
    let before = bench.objects.calls(ObjectCall::Head);
    store.renew(&digest).await.unwrap();
    assert_eq!(bench.objects.calls(ObjectCall::Head) - before, 1, "it is young");
    // One that is not is looked at again once it was renewed.
    let store = bench.machine("b").renew_after(Duration::ZERO);
    store.verify(&digest).await.unwrap();
    let before = bench.objects.calls(ObjectCall::Head);
    store.renew(&digest).await.unwrap();
    assert_eq!(bench.objects.calls(ObjectCall::Head) - before, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sweeps_at_a_time() {
    let bench = Bench::new();
    let store = bench.machine("a").renew_after(Duration::ZERO);
    let put = async || store.put_bytes("x".into()).await.unwrap().digest;
    let digest = put().await;
    let sweep = Sweep::new().min_age(Duration::ZERO);
    // What another wrote that died a moment ago.
    let another = object_store::path::Path::from("sweep");
    bench.real.put(&another, format!("{}\n", Digest::of("y")).into()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let held = store.sweep(HashSet::new(), &sweep).await.unwrap_err();
    assert!(matches!(held, Error::Held { .. }) && held.to_string().contains("sweep"), "{held}");
    assert_eq!(put().await, digest, "who puts other things goes on");
    bench.real.delete(&another).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(store.sweep(HashSet::new(), &sweep).await.unwrap().removed.objects, 1);
    assert_eq!(bench.real.list(None).count().await, 0, "nothing of the sweep's own is left");

    let error = bench.machine("b").sweep(HashSet::new(), &sweep).await.unwrap_err();
    assert!(error.to_string().contains("renew_after"), "{error}");
}

#[tokio::test]
async fn what_lasts_is_an_error_and_nothing_is_left() {
    use ObjectCall::{Get, Head, Put};
    use ObjectFault::{Breaks, Changes, Ends, Fails, Refuses};
    let bench = Bench::new();
    let store = bench.machine("a");
    for (call, fault, retryable) in
        [(Put, Fails, true), (Put, Breaks, true), (Put, Refuses, false), (Head, Fails, true)]
    {
        bench.objects.next(call, fault, 10);
        let error = store.put_bytes("content".into()).await.unwrap_err();
        assert!(matches!(error, Error::ObjectStore(_)) && error.is_retryable() == retryable, "{error}");
        bench.objects.heal();
        assert_eq!(bench.is_sound().await, 0);
        assert!(!store.contains(&Digest::of("content")).await.unwrap());
    }
    let digest = store.put_bytes("content".into()).await.unwrap().digest;
    for fault in [Fails, Breaks, Ends, Refuses, Changes] {
        bench.objects.next(Get, fault.clone(), 10);
        let other = bench.machine("other");
        let error = other.fetch(&digest).await.unwrap_err();
        assert_eq!(matches!(error, Error::Corrupt { .. }), fault == Changes, "{fault:?}: {error}");
        assert_eq!(files_in(&bench.folder.path().join("other/sha256")), 0, "{fault:?}: a half object");
        bench.objects.heal();
        assert_eq!(other.read(&digest).await.unwrap(), "content");
        fs::remove_dir_all(bench.folder.path().join("other")).unwrap();
    }
}

/// A store that keeps something else than it was given, and says that all is well.
#[tokio::test]
async fn a_store_that_lies_is_found_out() {
    for fault in [ObjectFault::Ends, ObjectFault::Changes] {
        let bench = Bench::new();
        let store = bench.machine("a");
        bench.objects.next(ObjectCall::Put, fault.clone(), 1);
        let digest = store.put_bytes("content".into()).await.unwrap().digest;
        for result in [store.verify(&digest).await, bench.machine("b").fetch(&digest).await.map(drop)] {
            let error = result.expect_err("taken for whole");
            assert!(matches!(error, Error::Corrupt { .. }), "{fault:?}: {error}");
        }
        assert_eq!(store.read(&digest).await.unwrap(), "content", "the copy here is whole");
        store.put_bytes("content".into()).await.unwrap();
        store.verify(&digest).await.expect("put up again");
        assert_eq!(bench.is_sound().await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up() {
    use ObjectCall::{Get, Head, Part, Put};
    for call in [Put, Head, Part, Get] {
        let bench = Bench::new();
        let path = bench.folder.path().join("content");
        fs::write(&path, if call == Part { large() } else { b"content".to_vec() }).unwrap();
        let digest = match call {
            Get => Some(bench.machine("a").put_path(&path).await.unwrap().digest),
            _ => None,
        };
        bench.objects.next(call, ObjectFault::Hangs, 100);
        let machine = bench.machine("b");
        let result = match &digest {
            Some(digest) => machine.fetch(digest).await.map(drop),
            None => machine.put_path(&path).await.map(drop),
        };
        let error = result.expect_err("it never answers");
        assert!(error.is_retryable() && error.to_string().contains("no answer within"), "{call:?}: {error}");
        bench.is_sound().await;
    }
}

fn files_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap());
    entries.map(|e| if e.file_type().unwrap().is_dir() { files_in(&e.path()) } else { 1 }).sum()
}
