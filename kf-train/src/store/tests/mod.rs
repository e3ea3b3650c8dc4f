//! Server and client together, over sockets.

mod hostile;
#[cfg(feature = "torch")]
mod torch;
mod watching;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::{StoreClient, StoreServer};
use crate::Error;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

async fn served() -> StoreServer {
    StoreServer::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap()
}

async fn client(server: &StoreServer) -> StoreClient {
    StoreClient::connect(server.local_addr(), LONG).await.unwrap()
}

/// What every client of every server must see.
async fn exercise(client: &StoreClient, other: &StoreClient) {
    client.set("a", b"one\0two").await.unwrap();
    client.set("empty", b"").await.unwrap();
    assert_eq!(other.get("a", LONG).await.unwrap(), b"one\0two");
    assert_eq!(other.try_get("empty").await.unwrap(), Some(vec![]));
    assert_eq!(other.try_get("none").await.unwrap(), None);
    assert!(client.check(&["a", "empty"]).await.unwrap() && !client.check(&["a", "none"]).await.unwrap());
    assert_eq!((client.add("n", 2).await.unwrap(), other.add("n", -5).await.unwrap()), (2, -3));
    assert_eq!(client.get("n", LONG).await.unwrap(), b"-3");

    assert_eq!(client.compare_set("c", "", "1").await.unwrap(), b"1");
    assert_eq!(client.compare_set("c", "2", "3").await.unwrap(), b"1");
    assert_eq!(client.compare_set("c", "1", "3").await.unwrap(), b"3");
    assert_eq!(client.compare_set("absent", "x", "y").await.unwrap(), b"x");
    assert_eq!(client.try_get("absent").await.unwrap(), None);

    client.append("log", "a").await.unwrap();
    other.append("log", "bc").await.unwrap();
    client.multi_set(&[("x", "1"), ("y", "2")]).await.unwrap();
    assert_eq!(other.multi_get(&["y", "log", "x"], LONG).await.unwrap(), [&b"2"[..], b"abc", b"1"]);
    assert_eq!(other.multi_get(&[""; 0], LONG).await.unwrap(), Vec::<Vec<u8>>::new());

    let view = client.prefixed("deep").prefixed("er");
    view.set("a", "inner").await.unwrap();
    assert_eq!(other.get("deep/er/a", LONG).await.unwrap(), b"inner");
    assert_eq!(view.list_keys().await.unwrap(), ["a"]);
    let mut keys = client.list_keys().await.unwrap();
    keys.sort();
    assert_eq!(keys, ["a", "c", "deep/er/a", "empty", "log", "n", "x", "y"]);
    assert!(view.delete("a").await.unwrap() && !view.delete("a").await.unwrap());
    assert_eq!(client.num_keys().await.unwrap(), keys.len() as u64 - 1);

    client.queue_push("q", "first").await.unwrap();
    client.queue_push("q", "second").await.unwrap();
    assert_eq!(other.queue_len("q").await.unwrap(), 2);
    assert_eq!(other.queue_pop("q", LONG).await.unwrap(), Some(b"first".to_vec()));
    assert_eq!(other.queue_pop("q", LONG).await.unwrap(), Some(b"second".to_vec()));
    let (popped, ()) = tokio::join!(async { other.queue_pop("q", LONG).await.unwrap() }, async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.queue_push("q", "late").await.unwrap();
    });
    assert_eq!(popped, Some(b"late".to_vec()));

    // Waits end when the last key comes, and when their time is over; the connection goes on.
    let (waited, ()) = tokio::join!(other.wait(&["w1", "w2"], LONG), async {
        client.set("w1", "").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.set("w2", "").await.unwrap();
    });
    waited.unwrap();
    let began = Instant::now();
    let error = other.wait(&["w1", "never"], SHORT).await.unwrap_err();
    assert!(matches!(error, Error::StoreTimedOut { .. }) && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("`never`") && began.elapsed() < LONG / 4, "{error}");
    assert!(matches!(other.queue_pop("q", SHORT).await, Err(Error::StoreTimedOut { .. })));
    for round in 0..50 {
        // Just as it comes.
        let key = format!("race/{round}");
        let (got, set) =
            tokio::join!(other.get(&key, Duration::from_micros(200 * round)), client.set(&key, "v"));
        set.unwrap();
        assert!(got.is_err() || got.unwrap() == b"v");
        assert_eq!(other.add("races", 1).await.unwrap(), round as i64 + 1);
    }
    // Given up half-way.
    for _ in 0..20 {
        tokio::time::timeout(Duration::from_millis(2), other.get("never", LONG)).await.unwrap_err();
        let _ = tokio::time::timeout(Duration::from_micros(50), other.add("given up", 1)).await;
        assert_eq!(other.get("a", LONG).await.unwrap(), b"one\0two");
    }

    let big: Vec<u8> = (0..7_000_000u32).map(|i| (i * 7 + i / 256) as u8).collect();
    client.set("big", &big).await.unwrap();
    assert!(other.get("big", LONG).await.unwrap() == big);
    let many: Vec<_> = (0..2000).map(|i| (format!("many/{i}"), format!("{i}"))).collect();
    client.multi_set(&many).await.unwrap();
    let keys: Vec<_> = many.iter().map(|(key, _)| key).collect();
    let values = other.multi_get(&keys, LONG).await.unwrap();
    assert!(values.iter().zip(&many).all(|(value, (_, expected))| value == expected.as_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients() {
    let server = served().await;
    exercise(&client(&server).await, &client(&server).await).await;
}

#[tokio::test]
async fn without_a_socket() {
    let server = served().await;
    let within = server.client(LONG);
    exercise(&within, &client(&server).await).await;
    within.connect_again().await.unwrap().set("again", "1").await.unwrap();
    drop(server);
    let error = within.set("a", "").await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error}");
    assert!(within.connect_again().await.unwrap().check(&["a"]).await.is_err());
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let server = served().await;
    let client = client(&server).await;
    let key = "k".repeat(9000);
    let error = client.set(&key, "").await.unwrap_err();
    assert!(matches!(error, Error::StoreRefused { .. }) && !error.is_retryable(), "{error}");
    assert!(matches!(client.set("a", vec![0; (64 << 20) + 1]).await, Err(Error::StoreRefused { .. })));
    assert!(matches!(client.check(&vec!["a"; 200_000]).await, Err(Error::StoreRefused { .. })));
    client.set("a", vec![7; 64 << 20]).await.unwrap();
    assert_eq!(client.get("a", LONG).await.unwrap().len(), 64 << 20);
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_at_once() {
    let server = served().await;
    let address = server.local_addr();
    let idle = client(&server).await;
    let waits = client(&server).await;
    let began = Instant::now();
    let (waited, ()) = tokio::join!(waits.get("never", LONG), async {
        tokio::time::sleep(SHORT).await;
        drop(server);
    });
    for error in
        [waited.unwrap_err(), idle.set("a", "").await.unwrap_err(), idle.add("a", 1).await.unwrap_err()]
    {
        assert!(matches!(error, Error::Store { .. }) && error.is_retryable(), "{error}");
    }
    assert!(began.elapsed() < LONG / 4);
    let error = StoreClient::connect(address, SHORT).await.unwrap_err();
    assert!(error.to_string().contains("refused") && error.is_retryable(), "{error}");
    assert!(idle.with_timeout(SHORT).connect_again().await.is_err());
    let began = Instant::now();
    let error = StoreClient::connect_once(address, LONG).await.unwrap_err();
    assert!(error.to_string().contains("refused") && began.elapsed() < LONG / 4, "{error}");
    // The port is free again.
    StoreServer::bind(address).await.unwrap();
}

#[tokio::test]
async fn what_is_no_number_ends_the_connection_alone() {
    let server = served().await;
    let (one, other) = (client(&server).await, client(&server).await);
    one.set("text", "abc").await.unwrap();
    assert!(matches!(one.add("text", 1).await, Err(Error::Store { .. })));
    assert_eq!(other.get("text", LONG).await.unwrap(), b"abc");
    assert_eq!(one.connect_again().await.unwrap().add("n", 1).await.unwrap(), 1);
}

/// Calls behind one that waits run out of their own time, and the connection is in order afterwards.
#[tokio::test]
async fn clones_share_a_connection() {
    let server = served().await;
    let client = client(&server).await;
    let clone = client.with_timeout(SHORT);
    let (waited, behind) = tokio::join!(client.get("never", 4 * SHORT), async {
        tokio::task::yield_now().await;
        clone.set("a", "").await
    });
    assert!(matches!(waited, Err(Error::StoreTimedOut { .. })));
    assert!(matches!(behind, Err(Error::StoreTimedOut { .. })));
    client.set("b", "").await.unwrap();
    assert!(!client.check(&["a"]).await.unwrap(), "a call that was given up before it was sent is not made");
    let calls = (0..200).map(|_| client.add("n", 1));
    let mut sums: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_meet() {
    const CLIENTS: i64 = 64;
    let server = served().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(client(&server).await);
    }
    let began = Instant::now();
    let meet = |client: StoreClient| async move {
        for round in 0..5 {
            let here = client.prefixed(&format!("round/{round}"));
            if here.add("here", 1).await.unwrap() == CLIENTS {
                here.set("all", "").await.unwrap();
            }
            here.get("all", LONG).await.unwrap();
        }
    };
    let met: Vec<_> = clients.into_iter().map(|client| tokio::spawn(meet(client))).collect();
    for met in met {
        met.await.unwrap();
    }
    println!("{CLIENTS} clients met 5 times in {:?}", began.elapsed());
    let client = client(&server).await;
    let began = Instant::now();
    for _ in 0..1000 {
        client.set("a", "value").await.unwrap();
    }
    let set = began.elapsed() / 1000;
    let began = Instant::now();
    for _ in 0..1000 {
        client.get("a", LONG).await.unwrap();
    }
    println!("set {set:?}, get {:?}", began.elapsed() / 1000);
}
