//! Metadata in PostgreSQL, on a server of the tests' own.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use kf_core::metadata::{
    Commit, Hold, Lease, Lineage, LineageQuery, MetadataStore, PostgresMetadata, PostgresOptions, RunState,
};
use kf_core::testing::metadata::{begin, commit, execution, new_run};
use kf_core::testing::servers::{PostgresServer, judge};
use kf_core::{Error, RunId, testing};
use tokio::net::{TcpListener, TcpStream};

const TTL: Duration = Duration::from_secs(60);

/// The server that these tests share, each in schemas of its own; none where PostgreSQL is missing, which is said.
fn server() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Result<PostgresServer, String>> = OnceLock::new();
    judge("postgres", SERVER.get_or_init(PostgresServer::start).as_ref())
}

/// A schema that nobody has used.
fn fresh(url: &str) -> PostgresOptions {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("s{}", NEXT.fetch_add(1, Ordering::Relaxed));
    PostgresOptions::new(url).unwrap().connections(4).schema(&name).unwrap()
}

async fn open(options: &PostgresOptions) -> Arc<dyn MetadataStore> {
    Arc::new(PostgresMetadata::open(options.clone()).await.unwrap())
}

fn run(name: &str) -> RunId {
    name.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_conforms() {
    let Some(server) = server() else { return };
    let mut n = 0;
    testing::metadata_store(async || {
        n += 1;
        let url = if n % 2 == 0 { server.url() } else { server.socket_url() };
        PostgresMetadata::open(fresh(&url)).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_open_a_new_database_at_once() {
    let Some(server) = server() else { return };
    let options = fresh(&server.url());
    let mut all = tokio::task::JoinSet::new();
    for n in 0..8 {
        let options = options.clone();
        all.spawn(async move {
            let store = open(&options).await;
            let lease = begin(&store, &format!("r{n}")).await;
            store.commit(commit(&lease, 0)).await.unwrap();
            store.release(lease).await.unwrap();
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    assert_eq!(open(&options).await.runs(&Default::default()).await.unwrap().items.len(), 8);
}

/// A place ends with its lease, and whoever has lost a place has lost the lease.
#[tokio::test]
async fn places_end_with_leases() {
    let Some(server) = server() else { return };
    let store = open(&fresh(&server.url()).schema("places").unwrap()).await;
    let ttl = Duration::from_millis(600);
    let late = async || tokio::time::sleep(ttl + Duration::from_millis(100)).await;
    store.create_run(new_run("short")).await.unwrap();
    let mut short = store.acquire(&run("short"), "test", ttl).await.unwrap();
    let long = begin(&store, "long").await;
    let of = |lease: &Lease| Hold::new("name", &lease.run, lease.epoch);
    let (mut ours, mut theirs) = (of(&short), of(&long));
    assert!(store.hold(&mut ours, 1).await.unwrap());
    assert!(!store.hold(&mut theirs, 1).await.unwrap());
    // Late, and yet in time, since nobody wanted anything.
    late().await;
    store.renew(&mut short, ttl).await.unwrap();
    assert!(!store.hold(&mut theirs, 1).await.unwrap());
    late().await;
    assert!(!store.hold(&mut of(&short), 2).await.unwrap(), "a lease that is over takes no place");
    assert!(store.hold(&mut theirs, 1).await.unwrap());
    let lost = store.renew(&mut short, ttl).await.unwrap_err();
    assert!(matches!(lost, Error::Fenced { .. }), "{lost}");
    assert!(!store.hold(&mut ours, 1).await.unwrap());

    let anew = store.acquire(&short.run, "test", TTL).await.unwrap();
    let mut waits = of(&anew);
    assert!(!store.hold(&mut waits, 1).await.unwrap());
    store.release(long).await.unwrap();
    assert!(store.hold(&mut waits, 1).await.unwrap(), "given back with the lease");
}

/// Who never heard that it has a place can give it back, or ask again.
#[tokio::test]
async fn a_lost_answer_leaves_no_place_behind() {
    let Some(server) = server() else { return };
    let store = open(&fresh(&server.url()).schema("answers").unwrap()).await;
    let lease = begin(&store, "r").await;
    let (mut unheard, mut earlier) = (0, Vec::new());
    // On a busy machine an answer is there before it is looked for, most of the time.
    for n in 0..2000 {
        if n >= 60 && unheard >= 5 {
            return;
        }
        let mut hold = Hold::new("name", &lease.run, lease.epoch);
        // Left after it was looked at once or a few times; no answer comes at once.
        let mut asking = Box::pin(store.hold(&mut hold, 1));
        let mut heard = false;
        for _ in 0..=n % 4 * 3 {
            if heard {
                break;
            }
            heard = futures::poll!(&mut asking).is_ready();
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        drop(asking);
        unheard += u32::from(!heard);
        if n % 2 == 0 {
            // A statement that was left before may have been carried out since.
            let mut tries = 0;
            while !store.hold(&mut hold, 1).await.unwrap() {
                tries += 1;
                assert!(tries < 100, "a place is lost");
                tokio::time::sleep(Duration::from_millis(5)).await;
                for hold in &mut earlier {
                    store.let_go(hold).await.unwrap();
                }
            }
        }
        store.let_go(&mut hold).await.unwrap();
        earlier.push(hold);
    }
    panic!("only {unheard} answers were not waited for");
}

#[tokio::test]
async fn a_schema_of_an_older_version_is_brought_to_this_one() {
    let Some(server) = server() else { return };
    let admin = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let options = fresh(&server.url()).schema("older").unwrap();
    let lease = begin(&open(&options).await, "r").await;
    let older = "DROP TABLE older.holds; UPDATE older.kf_format SET number = 1";
    sqlx::raw_sql(older).execute(&admin).await.unwrap();
    let store = open(&options).await;
    assert!(store.hold(&mut Hold::new("name", &lease.run, lease.epoch), 1).await.unwrap());
    store.commit(commit(&lease, 0)).await.unwrap();
}

#[tokio::test]
async fn a_schema_of_a_newer_version_or_of_another_program_is_refused() {
    let Some(server) = server() else { return };
    let admin = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let sql = async |text: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&admin).await.unwrap();
    };
    let options = fresh(&server.url()).schema("newer").unwrap();
    open(&options).await;
    sql("UPDATE newer.kf_format SET number = 99".to_owned()).await;
    let error = PostgresMetadata::open(options).await.unwrap_err();
    assert!(matches!(error, Error::TooNew { found: 99, supported: 2, .. }), "{error}");
    assert!(error.to_string().contains("schema newer") && !error.is_retryable(), "{error}");

    sql("CREATE SCHEMA theirs; CREATE TABLE theirs.things (a int)".to_owned()).await;
    let options = fresh(&server.url()).schema("theirs").unwrap();
    let error = PostgresMetadata::open(options).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { difference, .. } if difference.contains("things")), "{error}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'theirs'";
    assert_eq!(sqlx::query_scalar::<_, i64>(tables).fetch_one(&admin).await.unwrap(), 1);
}

#[tokio::test]
async fn what_can_not_be_had_is_a_clear_error() {
    let Some(server) = server() else { return };
    for (odd, said) in [
        ("?sslmode=require", "TLS"),
        ("?user=nobody-of-this-name", "nobody-of-this-name"),
        ("?dbname=none-of-this-name", "none-of-this-name"),
    ] {
        let options = fresh(&format!("{}{odd}", server.url()));
        let error = PostgresMetadata::open(options).await.unwrap_err();
        assert!(error.to_string().contains(said) && !error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn who_may_not_make_tables_may_use_those_that_are_there() {
    let Some(server) = server() else { return };
    let admin = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let options = fresh(&server.url()).schema("select").unwrap();
    open(&options).await;
    sqlx::raw_sql(
        "CREATE ROLE worker LOGIN; GRANT USAGE ON SCHEMA \"select\" TO worker;
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA \"select\" TO worker",
    )
    .execute(&admin)
    .await
    .unwrap();
    let url = server.url().replace("kf@", "worker@");
    let store = open(&PostgresOptions::new(&url).unwrap().schema("select").unwrap()).await;
    let lease = begin(&store, "a").await;
    store.commit(commit(&lease, 0)).await.unwrap();
    let none = PostgresOptions::new(&url).unwrap().schema("forbidden").unwrap();
    let error = PostgresMetadata::open(none).await.unwrap_err();
    assert!(error.to_string().contains("permission denied") && !error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_lease_ends_by_the_databases_clock_and_what_comes_late_is_refused() {
    let Some(server) = server() else { return };
    let options = fresh(&server.url());
    let (first, second) = (open(&options).await, open(&options).await);
    first.create_run(new_run("a")).await.unwrap();
    let ttl = Duration::from_millis(600);
    let mut old = first.acquire(&run("a"), "first", ttl).await.unwrap();
    for _ in 0..4 {
        tokio::time::sleep(ttl / 2).await;
        let before = old.expires_at.unwrap();
        first.renew(&mut old, ttl).await.unwrap();
        assert!(old.expires_at.unwrap() > before);
        let error = second.acquire(&run("a"), "second", TTL).await.unwrap_err();
        let Error::Held { holder, .. } = &error else { panic!("{error}") };
        assert!(holder.starts_with(&format!("first (process {} on ", std::process::id())), "{holder}");
    }
    tokio::time::sleep(ttl + Duration::from_millis(50)).await;
    // Its time is over, and nobody has taken the run: it may go on.
    first.commit(commit(&old, 0)).await.unwrap();
    let new = second.acquire(&run("a"), "second", TTL).await.unwrap();
    assert_eq!((new.epoch, new.seq), (old.epoch + 1, 1));
    let executions = vec![execution(&run("a"), "late")];
    let late =
        Commit { state: Some((RunState::Failed, None)), lineage: Lineage { executions }, ..commit(&old, 1) };
    let error = first.commit(late).await.unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    let error = first.renew(&mut old, TTL).await.unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    // Nor does giving the old one back free the new one.
    first.release(old).await.unwrap();
    assert!(matches!(first.acquire(&run("a"), "first", TTL).await, Err(Error::Held { .. })));
    assert!(second.executions(&LineageQuery::default()).await.unwrap().items.is_empty());
    second.commit(commit(&new, 1)).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_is_repeated_is_found_made_and_another_is_refused() {
    let Some(server) = server() else { return };
    let store = open(&fresh(&server.url())).await;
    let lease = begin(&store, "a").await;
    let executions = vec![execution(&lease.run, "t")];
    let first = Commit { lineage: Lineage { executions }, events: "[1]".into(), ..commit(&lease, 0) };
    for _ in 0..3 {
        assert_eq!(store.commit(first.clone()).await.unwrap(), 1);
    }
    let other = Commit { events: "[2]".into(), ..first.clone() };
    assert!(matches!(store.commit(other).await, Err(Error::Fenced { .. })));
    store.commit(commit(&lease, 1)).await.unwrap();
    assert!(matches!(store.commit(first.clone()).await, Err(Error::Fenced { .. })), "no longer the last");
    store.release(lease).await.unwrap();
    let next = store.acquire(&run("a"), "next", TTL).await.unwrap();
    let again = Commit { expected_seq: 1, epoch: next.epoch, ..commit(&next, 1) };
    assert!(matches!(store.commit(again).await, Err(Error::Fenced { .. })), "another lease's");
    assert_eq!(store.journal(&run("a"), 0, 9).await.unwrap().len(), 2);
    assert_eq!(store.executions(&LineageQuery::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn texts_that_a_database_can_not_keep_are_refused_by_name() {
    let Some(server) = server() else { return };
    let store = open(&fresh(&server.url())).await;
    let lease = begin(&store, "a").await;
    let executions = vec![execution(&lease.run, "a\0b")];
    let odd = Commit { lineage: Lineage { executions }, ..commit(&lease, 0) };
    let error = store.commit(odd).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { what: "path of a task", .. }), "{error}");
    let mut spec = new_run("b");
    spec.spec = "\0".into();
    assert!(matches!(store.create_run(spec).await, Err(Error::Invalid { .. })));
    let state = Some((RunState::Failed, Some("what a program\0said".to_owned())));
    store.commit(Commit { state, ..commit(&lease, 0) }).await.unwrap();
    let found = store.run(&lease.run).await.unwrap().unwrap();
    assert_eq!(found.error.as_deref(), Some("what a program\u{fffd}said"));
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_that_passes() {
    let Ok(mut server) = PostgresServer::start() else {
        assert!(self::server().is_none());
        return;
    };
    let options = fresh(&server.url()).patience(Duration::from_millis(1500));
    let store = open(&options).await;
    let lease = begin(&store, "a").await;
    store.commit(commit(&lease, 0)).await.unwrap();
    for round in 0..3 {
        server.stop();
        let began = Instant::now();
        let error = store.commit(commit(&lease, 1 + round)).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains("commit to `postgres 127.0.0.1:"), "{error}");
        let error = PostgresMetadata::open(options.clone()).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        server.resume().unwrap();
        // Connections that died in the pool cost a try each, at most.
        let mut tries = 0;
        while let Err(error) = store.commit(commit(&lease, 1 + round)).await {
            assert!(error.is_retryable() && tries < 5, "{error}");
            tries += 1;
        }
    }
    assert_eq!(store.journal(&run("a"), 0, 9).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_more_hangs_nobody() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.port()).await.unwrap();
    let url = server.url().replace(&server.port().to_string(), &proxy.port.to_string());
    let options = fresh(&url).patience(Duration::from_secs(1)).connections(2);
    let store = open(&options).await;
    let lease = begin(&store, "a").await;
    let mut seq = 0;
    for round in 0..3 {
        proxy.freeze(true);
        let began = Instant::now();
        let mut all = tokio::task::JoinSet::new();
        for n in 0..5 {
            let (store, commit) = (Arc::clone(&store), commit(&lease, seq));
            all.spawn(async move {
                match n {
                    0 => store.commit(commit).await.map(drop),
                    _ => store.run(&run("a")).await.map(drop),
                }
            });
        }
        while let Some(done) = all.join_next().await {
            let error = done.unwrap().unwrap_err();
            assert!(error.is_retryable(), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        proxy.freeze(false);
        // Whether the commit had reached the server or not.
        seq = loop {
            match store.commit(commit(&lease, seq)).await {
                Ok(made) => break made,
                Err(error) => {
                    assert!(error.is_retryable() && began.elapsed() < Duration::from_secs(20), "{error}")
                }
            }
        };
        assert_eq!(seq, round + 1);
    }
    assert_eq!(store.journal(&run("a"), 0, 9).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_half_way_leaves_no_half() {
    let Some(server) = server() else { return };
    let store = open(&fresh(&server.url())).await;
    let lease = begin(&store, "a").await;
    let mut seq = 0;
    for round in 0..40_u64 {
        let executions = (0..50).map(|n| execution(&lease.run, &format!("{round}/{n}"))).collect();
        let work =
            Commit { lineage: Lineage { executions }, events: format!("[{round}]"), ..commit(&lease, seq) };
        let patience = Duration::from_micros(round * 150);
        if let Ok(made) = tokio::time::timeout(patience, store.commit(work.clone())).await {
            seq = made.unwrap();
            continue;
        }
        seq = store.commit(work).await.unwrap();
    }
    assert_eq!(store.journal(&run("a"), 0, 100).await.unwrap().len(), 40);
    let all = LineageQuery { limit: 10_000, ..LineageQuery::default() };
    assert_eq!(store.executions(&all).await.unwrap().items.len(), 2000);
}

#[tokio::test]
async fn a_lease_of_an_engine_that_vanished_is_free_after_its_time() {
    let Some(server) = server() else { return };
    let options = fresh(&server.url());
    let (gone, next) = (open(&options).await, open(&options).await);
    gone.create_run(new_run("a")).await.unwrap();
    let lease = gone.acquire(&run("a"), "gone", Duration::from_millis(300)).await.unwrap();
    // As though its process had been killed: no guard tells the database.
    std::mem::forget(lease.guard);
    let began = Instant::now();
    let taken = loop {
        match next.acquire(&run("a"), "next", TTL).await {
            Ok(lease) => break lease,
            Err(error) => assert!(matches!(error, Error::Held { .. }), "{error}"),
        }
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(began.elapsed() > Duration::from_millis(250), "{:?}", began.elapsed());
    let dropped: Lease = taken;
    drop(dropped);
    next.acquire(&run("a"), "again", TTL).await.unwrap();
}

/// Passes bytes on to a port, until it is frozen: then they stay where they are, and no connection is closed.
struct Proxy {
    port: u16,
    frozen: Arc<AtomicBool>,
    tasks: Arc<Mutex<tokio::task::JoinSet<()>>>,
}

impl Proxy {
    async fn start(to: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let frozen = Arc::new(AtomicBool::new(false));
        let tasks = Arc::new(Mutex::new(tokio::task::JoinSet::new()));
        let (ice, connections) = (Arc::clone(&frozen), Arc::clone(&tasks));
        tasks.lock().unwrap().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                let ((from, to), (back, out)) = (client.into_split(), server.into_split());
                let mut connections = connections.lock().unwrap();
                connections.spawn(pass(from, out, Arc::clone(&ice)));
                connections.spawn(pass(back, to, Arc::clone(&ice)));
            }
        });
        Ok(Self { port, frozen, tasks })
    }

    fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.lock().unwrap().abort_all();
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    frozen: Arc<AtomicBool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        while frozen.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
