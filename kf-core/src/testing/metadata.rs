//! What a [`MetadataStore`] must do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::artifact::{ArtifactRef, Metadata};
use crate::metadata::{
    Commit, Created, ExecutionRecord, ExecutionState, Hold, Io, Lease, Lineage, LineageQuery, MetadataStore,
    NewRun, RunQuery, RunRecord, RunState,
};
use crate::{Digest, Error, Result, RunId, Timestamp};

type Store = Arc<dyn MetadataStore>;

const TTL: Duration = Duration::from_secs(60);

/// The whole suite. `make` gives a new, empty store at each call.
pub async fn metadata_store<S: MetadataStore>(mut make: impl AsyncFnMut() -> Result<S>) {
    let mut make = async || {
        let store: Store = Arc::new(make().await.unwrap());
        store
    };
    creating_twice_is_creating_once(&make().await).await;
    runs_are_listed_in_pages(&make().await).await;
    one_holds_the_lease(&make().await).await;
    commits_are_read_again(&make().await).await;
    stale_commits_write_nothing(&make().await).await;
    of_many_commits_at_once_one_wins(&make().await).await;
    state_follows_the_commits(&make().await).await;
    executions_are_found(&make().await).await;
    recording_again_replaces(&make().await).await;
    the_cache_finds_the_newest_that_succeeded(&make().await).await;
    places_under_a_name_are_taken_and_given_back(&make().await).await;
    any_text_is_kept(&make().await).await;
    a_commit_of_thousands(&make().await).await;
}

/// As many have a name at once as it has places; what is given back is free again.
pub async fn places_under_a_name_are_taken_and_given_back(store: &Store) {
    for run in ["a", "b"] {
        store.create_run(new_run(run)).await.unwrap();
    }
    let of_a = store.acquire(&id("a"), "test", TTL).await.unwrap();
    let of_b = store.acquire(&id("b"), "test", TTL).await.unwrap();
    let hold = async |name: &str, places, lease: &Lease| {
        let mut hold = Hold::new(name, &lease.run, lease.epoch);
        store.hold(&mut hold, places).await.unwrap().then_some(hold)
    };
    let name = format!("gpu / 'é' \u{1F600} {}", "long".repeat(2000));
    let mut first = hold(&name, 1, &of_a).await.expect("a place");
    assert!(hold(&name, 1, &of_b).await.is_none());
    assert!(hold(&name, 1, &of_a).await.is_none(), "also for the same run");
    assert!(store.hold(&mut first, 1).await.unwrap(), "it has its place");
    let mut second = hold(&name, 2, &of_b).await.expect("a second place");
    assert!(hold(&name, 2, &of_a).await.is_none());
    let _other = hold("another name", 1, &of_b).await.expect("another name");
    store.let_go(&mut first).await.unwrap();
    let mut again = hold(&name, 2, &of_b).await.expect("what was given back");
    store.let_go(&mut first).await.unwrap();
    assert!(hold(&name, 2, &of_a).await.is_none(), "it is another's by now");
    store.let_go(&mut second).await.unwrap();
    store.let_go(&mut again).await.unwrap();
    let mut never = Hold::new(name.as_str(), &of_a.run, of_a.epoch);
    store.let_go(&mut never).await.unwrap();

    let mut all = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (store, lease) = (Arc::clone(store), if n % 2 == 0 { &of_a } else { &of_b });
        let mut hold = Hold::new("many", &lease.run, lease.epoch);
        all.spawn(async move { store.hold(&mut hold, 5).await.unwrap().then_some(hold) });
    }
    let mut held: Vec<Hold> = Vec::new();
    while let Some(hold) = all.join_next().await {
        held.extend(hold.unwrap());
    }
    assert!(held.len() <= 5, "{} have one of 5 places", held.len());
    // Who comes at the same moment may find no place where there is one, and asks again.
    while held.len() < 5 {
        held.push(hold("many", 5, &of_a).await.expect("a place that is free"));
    }
    assert!(hold("many", 5, &of_a).await.is_none());
    for mut hold in held {
        store.let_go(&mut hold).await.unwrap();
    }
    assert!(hold("many", 1, &of_b).await.is_some());
}

/// The same run again finds the first; a different one of the same id is a conflict.
pub async fn creating_twice_is_creating_once(store: &Store) {
    assert!(matches!(store.create_run(new_run("a")).await.unwrap(), Created::New));
    let Created::Existing(found) = store.create_run(new_run("a")).await.unwrap() else {
        panic!("made twice")
    };
    assert_eq!((found.id.as_str(), found.state, found.epoch, found.seq), ("a", RunState::Pending, 0, 0));
    assert_eq!(
        (found.pipeline, found.spec, found.args),
        ("p".into(), "{}".into(), r#"{"a":1,"b":2}"#.into())
    );
    let reordered = NewRun { args: r#"{"b": 2, "a": 1}"#.into(), ..new_run("a") };
    assert!(matches!(store.create_run(reordered).await.unwrap(), Created::Existing(_)));
    for other in [
        NewRun { args: r#"{"a":2}"#.into(), ..new_run("a") },
        NewRun { pipeline: "q".into(), ..new_run("a") },
        NewRun { spec_digest: Digest::of("other"), ..new_run("a") },
    ] {
        let error = store.create_run(other).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }) && !error.is_retryable(), "{error}");
    }
    assert!(store.run(&id("b")).await.unwrap().is_none());
}

/// Lists are newest first, by pipeline and state, in pages that neither repeat nor leave out.
pub async fn runs_are_listed_in_pages(store: &Store) {
    for n in 0..7 {
        let pipeline = if n % 2 == 0 { "even" } else { "odd" };
        store.create_run(NewRun { pipeline: pipeline.into(), ..new_run(&format!("r{n}")) }).await.unwrap();
    }
    let lease = store.acquire(&id("r2"), "test", TTL).await.unwrap();
    store.commit(Commit { state: Some((RunState::Running, None)), ..commit(&lease, 0) }).await.unwrap();
    let list = async |query: RunQuery| {
        let (mut query, mut ids) = (query, Vec::new());
        loop {
            let page = store.runs(&query).await.unwrap();
            assert!(query.limit == 0 || page.items.len() <= query.limit);
            ids.extend(page.items.into_iter().map(|run| run.id.to_string()));
            let Some(next) = page.next else { return ids };
            query.after = Some(next);
        }
    };
    let all = ["r6", "r5", "r4", "r3", "r2", "r1", "r0"];
    for limit in [0, 1, 3, 7, 100] {
        assert_eq!(list(RunQuery { limit, ..RunQuery::default() }).await, all, "{limit}");
    }
    let odd = RunQuery { pipeline: Some("odd".into()), limit: 2, ..RunQuery::default() };
    assert_eq!(list(odd).await, ["r5", "r3", "r1"]);
    let query = RunQuery { brief: true, limit: 1, ..RunQuery::default() };
    let brief = store.runs(&query).await.unwrap().items.remove(0);
    let whole = store.run(&brief.id).await.unwrap().unwrap();
    assert!(!whole.spec.is_empty());
    assert_eq!(format!("{brief:?}"), format!("{:?}", RunRecord { spec: String::new(), ..whole }));
    assert_eq!(list(RunQuery { state: Some(RunState::Running), ..RunQuery::default() }).await, ["r2"]);
    let named = |ids: &[&str]| Some(ids.iter().copied().map(id).collect());
    let some = RunQuery { ids: named(&["r1", "r9", "r4", "r2", "r1"]), limit: 2, ..RunQuery::default() };
    assert_eq!(list(some.clone()).await, ["r4", "r2", "r1"]);
    assert_eq!(list(RunQuery { pipeline: Some("odd".into()), ..some }).await, ["r1"]);
    assert!(list(RunQuery { ids: named(&[]), ..RunQuery::default() }).await.is_empty());
    let odd_cursor = RunQuery { after: Some("x'; DROP TABLE runs; --".into()), ..RunQuery::default() };
    assert!(matches!(store.runs(&odd_cursor).await, Err(Error::Invalid { .. })));
}

/// A lease excludes others until it is given back or dropped, and each has a higher number.
pub async fn one_holds_the_lease(store: &Store) {
    assert!(matches!(store.acquire(&id("a"), "first", TTL).await, Err(Error::NotFound { .. })));
    store.create_run(new_run("a")).await.unwrap();
    store.create_run(new_run("b")).await.unwrap();
    let mut first = store.acquire(&id("a"), "the first", TTL).await.unwrap();
    let error = store.acquire(&id("a"), "second", TTL).await.unwrap_err();
    assert!(matches!(&error, Error::Held { holder, .. } if holder.contains("the first")), "{error}");
    assert!(error.is_retryable());
    store.renew(&mut first, TTL).await.unwrap();
    let other = store.acquire(&id("b"), "first", TTL).await.unwrap();
    let epoch = first.epoch;
    store.release(first).await.unwrap();
    let second = store.acquire(&id("a"), "second", TTL).await.unwrap();
    assert!(second.epoch > epoch);
    drop(other);
    store.acquire(&id("b"), "second", TTL).await.unwrap();
}

/// The journal comes back in order, from any point, in any portion.
pub async fn commits_are_read_again(store: &Store) {
    store.create_run(new_run("other")).await.unwrap();
    let lease = begin(store, "a").await;
    for n in 0..5 {
        let commit =
            Commit { events: format!("[{n}]"), at: Timestamp::from_millis(n), ..commit(&lease, n as u64) };
        assert_eq!(store.commit(commit).await.unwrap(), n as u64 + 1);
    }
    let other = begin(store, "b").await;
    store.commit(commit(&other, 0)).await.unwrap();
    let read = async |after, limit| {
        let entries = store.journal(&lease.run, after, limit).await.unwrap();
        entries.iter().map(|e| (e.seq, e.at.as_millis(), e.events.clone())).collect::<Vec<_>>()
    };
    let entry = |seq: u64| (seq, seq as i64 - 1, format!("[{}]", seq - 1));
    assert_eq!(read(0, 100).await, (1..=5).map(entry).collect::<Vec<_>>());
    assert_eq!(read(2, 2).await, [entry(3), entry(4)]);
    assert_eq!(read(5, 2).await, []);
    assert_eq!(read(u64::MAX, 2).await, []);
    assert_eq!(store.journal(&id("none"), 0, 9).await.unwrap().len(), 0);
    assert_eq!(store.run(&lease.run).await.unwrap().unwrap().seq, 5);
    let run = lease.run.clone();
    store.release(lease).await.unwrap();
    assert_eq!(store.acquire(&run, "next", TTL).await.unwrap().seq, 5);
}

/// A commit under an old lease or after the wrong commit is refused and leaves no trace.
pub async fn stale_commits_write_nothing(store: &Store) {
    let first = begin(store, "a").await;
    store.commit(commit(&first, 0)).await.unwrap();
    let (run, old) = (first.run.clone(), first.epoch);
    let mut stale = Lease { run: run.clone(), epoch: old, seq: 1, expires_at: None, guard: None };
    store.release(first).await.unwrap();
    let second = store.acquire(&run, "second", TTL).await.unwrap();
    for (epoch, seq) in [(old, 1), (second.epoch, 0), (second.epoch, 2), (second.epoch + 1, 1)] {
        let refused = Commit {
            epoch,
            state: Some((RunState::Failed, Some("stale".into()))),
            lineage: Lineage { executions: vec![execution(&run, "t")] },
            ..commit(&second, seq)
        };
        let error = store.commit(refused).await.unwrap_err();
        assert!(matches!(error, Error::Fenced { .. }) && !error.is_retryable(), "{error}");
    }
    assert!(matches!(store.renew(&mut stale, TTL).await, Err(Error::Fenced { .. })));
    let found = store.run(&run).await.unwrap().unwrap();
    assert_eq!((found.seq, found.state, found.error), (1, RunState::Pending, None));
    assert_eq!(store.journal(&run, 0, 9).await.unwrap().len(), 1);
    assert!(store.executions(&LineageQuery::default()).await.unwrap().items.is_empty());
    assert_eq!(store.commit(commit(&second, 1)).await.unwrap(), 2);
    let unknown = Commit { run: id("none"), ..commit(&second, 1) };
    assert!(matches!(store.commit(unknown).await, Err(Error::NotFound { .. })));
}

/// Of commits that are made at once after the same commit, one is written.
pub async fn of_many_commits_at_once_one_wins(store: &Store) {
    let lease = begin(store, "a").await;
    for round in 0..10 {
        let mut all = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (store, events) = (Arc::clone(store), format!("[{n}]"));
            let commit = Commit { events, ..commit(&lease, round) };
            all.spawn(async move { store.commit(commit).await });
        }
        let mut won = 0;
        while let Some(result) = all.join_next().await {
            match result.unwrap() {
                Ok(seq) => {
                    assert_eq!(seq, round + 1);
                    won += 1;
                }
                Err(error) => assert!(matches!(error, Error::Fenced { .. }), "{error}"),
            }
        }
        assert_eq!(won, 1);
    }
    assert_eq!(store.journal(&lease.run, 0, 100).await.unwrap().len(), 10);
}

/// The run's state is that of the last commit that gave one, with its end and its error.
pub async fn state_follows_the_commits(store: &Store) {
    let lease = begin(store, "a").await;
    let steps = [
        (Some((RunState::Running, None)), RunState::Running, None, None),
        (None, RunState::Running, None, None),
        (Some((RunState::Failed, Some("why"))), RunState::Failed, Some("why"), Some(102)),
        (None, RunState::Failed, Some("why"), Some(102)),
        (Some((RunState::Running, None)), RunState::Running, None, None),
        (Some((RunState::Succeeded, None)), RunState::Succeeded, None, Some(105)),
    ];
    for (n, (given, state, error, ended_at)) in steps.into_iter().enumerate() {
        let given = given.map(|(state, why)| (state, why.map(str::to_owned)));
        let at = Timestamp::from_millis(100 + n as i64);
        store.commit(Commit { state: given, at, ..commit(&lease, n as u64) }).await.unwrap();
        let found = store.run(&lease.run).await.unwrap().unwrap();
        assert_eq!((found.state, found.error.as_deref()), (state, error), "step {n}");
        assert_eq!(found.ended_at.map(Timestamp::as_millis), ended_at, "step {n}");
    }
}

/// Executions come back as they were recorded, by run and by what they read and made, in pages.
pub async fn executions_are_found(store: &Store) {
    let a = begin(store, "a").await;
    let b = begin(store, "b").await;
    let (x, y, z) = (Digest::of("x"), Digest::of("y"), Digest::of("z"));
    let reads = |task: &str, run: &RunId, from: &[Digest], to: &[Digest]| ExecutionRecord {
        input_artifacts: from.iter().zip(0..).map(|(d, n)| io("data", n, *d)).collect(),
        output_artifacts: to.iter().map(|d| io("model", 0, *d)).collect(),
        ..execution(run, task)
    };
    let one = reads("one", &a.run, &[], &[x]);
    let two = reads("two", &a.run, &[x, x, y], &[z]);
    let three = reads("one", &b.run, &[x], &[z]);
    let mut unread = reads("unread", &b.run, &[x], &[]);
    unread.input_artifacts[0].artifact.digest = None;
    store.commit(record(&a, 0, vec![one.clone(), two.clone()])).await.unwrap();
    store.commit(record(&b, 0, vec![three.clone(), unread.clone()])).await.unwrap();
    let find = async |query: LineageQuery| {
        let (mut query, mut found) = (query, Vec::new());
        loop {
            let page = store.executions(&query).await.unwrap();
            found.extend(page.items);
            let Some(next) = page.next else { return found };
            query.after = Some(next);
        }
    };
    let all = LineageQuery::default();
    assert_eq!(find(all.clone()).await, [one.clone(), two.clone(), three.clone(), unread.clone()]);
    assert_eq!(find(LineageQuery { limit: 1, ..all.clone() }).await.len(), 4);
    assert_eq!(
        find(LineageQuery { run: Some(a.run.clone()), ..all.clone() }).await,
        [one.clone(), two.clone()]
    );
    assert_eq!(find(LineageQuery { reads: Some(x), ..all.clone() }).await, [two.clone(), three.clone()]);
    assert_eq!(find(LineageQuery { makes: Some(x), ..all.clone() }).await, [one]);
    assert_eq!(
        find(LineageQuery { makes: Some(z), limit: 1, ..all.clone() }).await,
        [two.clone(), three.clone()]
    );
    let both = LineageQuery { run: Some(b.run.clone()), reads: Some(x), makes: Some(z), ..all.clone() };
    assert_eq!(find(both).await, [three]);
    assert_eq!(find(LineageQuery { reads: Some(z), ..all.clone() }).await, []);
    assert_eq!(find(LineageQuery { run: Some(id("none")), ..all }).await, []);

    let stray = record(&a, 1, vec![execution(&b.run, "t")]);
    assert!(matches!(store.commit(stray).await, Err(Error::Invalid { .. })));
}

/// A task that is recorded again in its run replaces what was recorded, artifacts too.
pub async fn recording_again_replaces(store: &Store) {
    let lease = begin(store, "a").await;
    let (x, y) = (Digest::of("x"), Digest::of("y"));
    let made = |digest| ExecutionRecord {
        output_artifacts: vec![io("model", 0, digest)],
        ..execution(&lease.run, "t")
    };
    let failed = ExecutionRecord { state: ExecutionState::Failed, ..made(x) };
    store.commit(record(&lease, 0, vec![failed, execution(&lease.run, "u")])).await.unwrap();
    store.commit(record(&lease, 1, vec![made(y), made(y)])).await.unwrap();
    let by = async |makes| {
        store.executions(&LineageQuery { makes, ..LineageQuery::default() }).await.unwrap().items
    };
    assert_eq!(by(None).await.len(), 2);
    assert_eq!(by(Some(x)).await, []);
    assert_eq!(by(Some(y)).await, [made(y)]);
}

/// Only an execution in state `COMPLETE` is reused, and of several the newest.
pub async fn the_cache_finds_the_newest_that_succeeded(store: &Store) {
    let lease = begin(store, "a").await;
    let other = begin(store, "other").await;
    let key = Digest::of("key");
    let with = |task: &str, state, n: u64| ExecutionRecord {
        cache_key: Some(key),
        state,
        outputs: object(json!({ "n": n })),
        ..execution(&lease.run, task)
    };
    assert_eq!(store.cached(&key, &other.run).await.unwrap(), None);
    let useless = [ExecutionState::Failed, ExecutionState::Cached, ExecutionState::Canceled];
    let useless = useless.iter().enumerate().map(|(n, state)| with(&format!("t{n}"), *state, 0)).collect();
    store.commit(record(&lease, 0, useless)).await.unwrap();
    assert_eq!(store.cached(&key, &other.run).await.unwrap(), None);
    for n in 1..4 {
        let task = format!("u{n}");
        store.commit(record(&lease, n, vec![with(&task, ExecutionState::Complete, n)])).await.unwrap();
        assert_eq!(store.cached(&key, &other.run).await.unwrap().unwrap().outputs["n"], n);
    }
    store.commit(record(&lease, 4, vec![with("later", ExecutionState::Failed, 9)])).await.unwrap();
    assert_eq!(store.cached(&key, &other.run).await.unwrap().unwrap().outputs["n"], 3);
    assert_eq!(store.cached(&Digest::of("other"), &other.run).await.unwrap(), None);
    // Another run's, though the newest is its own.
    let own = ExecutionRecord {
        cache_key: Some(key),
        outputs: object(json!({ "n": 4 })),
        ..execution(&other.run, "t")
    };
    store.commit(record(&other, 0, vec![own])).await.unwrap();
    assert_eq!(store.cached(&key, &other.run).await.unwrap().unwrap().outputs["n"], 3);
    assert_eq!(store.cached(&key, &lease.run).await.unwrap().unwrap().outputs["n"], 4);
}

/// Quotes, line ends, other scripts, numbers of every size and deep nesting come back as they were.
pub async fn any_text_is_kept(store: &Store) {
    let lease = begin(store, "a").await;
    let odd = "'; DROP TABLE runs; -- \" \\ \n\r\t \u{1} \u{7f} é 漢 🦀 \u{202e} $.a[0]";
    let deep = (0..100).fold(json!(odd), |inner, _| json!([inner]));
    let values = object(json!({
        "text": odd, odd: 1, "null": null, "big": u64::MAX, "small": i64::MIN, "float": 0.1, "huge": 1e300,
        "minus": -0.0, "deep": deep, "list": [1, "2", {"three": [4.0]}], "empty": {}, "true": true,
    }));
    let full = ExecutionRecord {
        component: odd.to_owned(),
        inputs: values.clone(),
        outputs: values,
        input_artifacts: vec![io(odd, u32::MAX, Digest::of("x"))],
        ..execution(&lease.run, odd)
    };
    let events = json!([odd]).to_string();
    let state = Some((RunState::Failed, Some(odd.to_owned())));
    let commit = Commit { events: events.clone(), state, ..record(&lease, 0, vec![full.clone()]) };
    store.commit(commit).await.unwrap();
    let query = LineageQuery { reads: Some(Digest::of("x")), ..LineageQuery::default() };
    assert_eq!(store.executions(&query).await.unwrap().items, [full]);
    assert_eq!(store.journal(&lease.run, 0, 1).await.unwrap()[0].events, events);
    assert_eq!(store.run(&lease.run).await.unwrap().unwrap().error.as_deref(), Some(odd));
    let args = json!({ odd: odd }).to_string();
    store.create_run(NewRun { args: args.clone(), spec: odd.into(), ..new_run("b") }).await.unwrap();
    let found = store.run(&id("b")).await.unwrap().unwrap();
    assert_eq!((found.args, found.spec), (args, odd.to_owned()));
}

/// Thousands of executions and megabytes of events may be one commit.
pub async fn a_commit_of_thousands(store: &Store) {
    let lease = begin(store, "a").await;
    let events = json!(["x".repeat(4 << 20)]).to_string();
    let executions: Vec<_> = (0..5000).map(|n| execution(&lease.run, &format!("loop/{n}"))).collect();
    let commit = Commit { events: events.clone(), ..record(&lease, 0, executions.clone()) };
    store.commit(commit).await.unwrap();
    assert!(store.journal(&lease.run, 0, 1).await.unwrap()[0].events == events);
    let query = LineageQuery { limit: 10_000, ..LineageQuery::default() };
    assert!(store.executions(&query).await.unwrap().items == executions);
}

/// A new run with the arguments `{"a":1,"b":2}`.
pub fn new_run(name: &str) -> NewRun {
    NewRun {
        id: id(name),
        pipeline: "p".into(),
        spec_digest: Digest::of("{}"),
        spec: "{}".into(),
        args: r#"{"a":1,"b":2}"#.into(),
        created_at: Timestamp::from_millis(1),
    }
}

/// A new run and its lease.
pub async fn begin(store: &Store, name: &str) -> Lease {
    store.create_run(new_run(name)).await.unwrap();
    store.acquire(&id(name), "test", TTL).await.unwrap()
}

/// A commit of no more than one event.
pub fn commit(lease: &Lease, expected_seq: u64) -> Commit {
    Commit {
        run: lease.run.clone(),
        epoch: lease.epoch,
        expected_seq,
        at: Timestamp::from_millis(2),
        events: "[]".into(),
        state: None,
        lineage: Lineage::default(),
    }
}

/// An execution of a task that succeeded.
pub fn execution(run: &RunId, task: &str) -> ExecutionRecord {
    ExecutionRecord {
        run: run.clone(),
        task: task.to_owned(),
        component: "component".to_owned(),
        state: ExecutionState::Complete,
        cache_key: None,
        started_at: Timestamp::from_millis(3),
        ended_at: Timestamp::from_millis(4),
        inputs: object(json!({ "rate": 0.1 })),
        outputs: Metadata::new(),
        input_artifacts: vec![],
        output_artifacts: vec![],
    }
}

fn record(lease: &Lease, expected_seq: u64, executions: Vec<ExecutionRecord>) -> Commit {
    Commit { lineage: Lineage { executions }, ..commit(lease, expected_seq) }
}

fn io(port: &str, index: u32, digest: Digest) -> Io {
    let artifact = ArtifactRef {
        name: "a".into(),
        schema_title: "system.Model".into(),
        uri: "file:///a".into(),
        digest: Some(digest),
        size: 1,
        metadata: object(json!({ "n": 1 })),
    };
    Io { port: port.to_owned(), index, artifact }
}

fn object(value: serde_json::Value) -> Metadata {
    match value {
        serde_json::Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn id(name: &str) -> RunId {
    name.parse().unwrap()
}
