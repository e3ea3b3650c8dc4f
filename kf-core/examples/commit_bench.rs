//! What a commit costs: `cargo run --release -p kf-core --example commit_bench [FOLDER]`. With the feature `postgres`, and
//! a URL in `KF_POSTGRES`, in that database instead, in a schema `commit_bench`.

use std::time::Instant;

use kf_core::metadata::{
    Commit, Created, ExecutionRecord, ExecutionState, Lease, Lineage, MetadataStore, NewRun, SqliteMetadata,
};
use kf_core::{Digest, RunId, Timestamp};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    #[cfg(feature = "postgres")]
    if let Ok(url) = std::env::var("KF_POSTGRES") {
        use kf_core::metadata::{PostgresMetadata, PostgresOptions};
        let store = PostgresMetadata::open(PostgresOptions::new(&url)?.schema("commit_bench")?).await?;
        println!("events and executions a commit | commits | µs a commit | events/s");
        for (size, commits) in [(1, 3000), (16, 1000), (256, 200)] {
            for _ in 0..3 {
                measure(&store, size, commits, true).await?;
            }
        }
        return Ok(());
    }
    let folder = match std::env::args().nth(1) {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    println!("events and executions a commit | commits | µs a commit | events/s");
    let only: Option<u64> = std::env::args().nth(2).and_then(|n| n.parse().ok());
    for keyed in [false, true] {
        println!("{} cache keys", if keyed { "with" } else { "without" });
        for (size, commits) in [(1, 10_000), (16, 2000), (256, 400)] {
            if only.is_some_and(|only| only != size) {
                continue;
            }
            for round in 0..3 {
                let path = folder.path().join(format!("{keyed}-{size}-{round}.db"));
                measure(&SqliteMetadata::open(path).await?, size, commits, keyed).await?;
            }
        }
    }
    println!("in memory, without cache keys");
    for (size, commits) in [(1, 10_000), (256, 400)] {
        measure(&SqliteMetadata::in_memory().await?, size, commits, false).await?;
    }
    Ok(())
}

async fn measure(store: &dyn MetadataStore, size: u64, commits: u64, keyed: bool) -> Outcome<()> {
    let lease = begin(store).await?;
    let started = Instant::now();
    for seq in 0..commits {
        store.commit(commit(&lease, seq, size, keyed)).await?;
    }
    let took = started.elapsed().as_secs_f64();
    let each = took * 1e6 / commits as f64;
    println!("{size:>4} | {commits:>6} | {each:>8.1} | {:>9.0}", (size * commits) as f64 / took);
    Ok(())
}

async fn begin(store: &dyn MetadataStore) -> Outcome<Lease> {
    let run = RunId::random();
    let new = NewRun {
        id: run.clone(),
        pipeline: "bench".to_owned(),
        spec_digest: Digest::of("{}"),
        spec: "{}".into(),
        args: "{}".to_owned(),
        created_at: Timestamp::now(),
    };
    let Created::New = store.create_run(new).await? else { return Err("the run was there".into()) };
    Ok(store.acquire(&run, "bench", std::time::Duration::ZERO).await?)
}

fn commit(lease: &Lease, seq: u64, size: u64, keyed: bool) -> Commit {
    let at = Timestamp::now();
    let each = seq * size..(seq + 1) * size;
    let events: Vec<String> = each
        .clone()
        .map(|n| format!(r#"{{"type":"task_succeeded","task":"loop/{n}/noop","attempt":1}}"#))
        .collect();
    let executions = each.map(|n| ExecutionRecord {
        run: lease.run.clone(),
        task: format!("loop/{n}/noop"),
        component: "noop".to_owned(),
        state: ExecutionState::Complete,
        cache_key: keyed.then(|| Digest::of(n.to_le_bytes())),
        started_at: at,
        ended_at: at,
        inputs: Default::default(),
        outputs: Default::default(),
        input_artifacts: vec![],
        output_artifacts: vec![],
    });
    Commit {
        run: lease.run.clone(),
        epoch: lease.epoch,
        expected_seq: seq,
        at,
        events: format!("[{}]", events.join(",")),
        state: None,
        lineage: Lineage { executions: executions.collect() },
    }
}
