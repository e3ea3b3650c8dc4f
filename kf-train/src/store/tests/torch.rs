//! libtorch's own client against our server, and our client against libtorch's own server.

use std::net::TcpListener;

use c10d_sys::Store;

use super::*;

/// libtorch's calls block, and so have threads of their own.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_at_libtorchs_server() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let theirs = on_thread(move || Store::serve(listener, LONG).unwrap()).await;
    let client = StoreClient::connect(address, LONG).await.unwrap();
    exercise(&client, &client.connect_again().await.unwrap()).await;
    let theirs = on_thread(move || {
        assert_eq!(theirs.get("a", LONG).unwrap(), b"one\0two");
        theirs.prefixed("deep").unwrap().prefixed("er").unwrap().set("b", b"theirs").unwrap();
        theirs
    })
    .await;
    let view = client.prefixed("deep").prefixed("er");
    assert_eq!(view.get("b", LONG).await.unwrap(), b"theirs");
    assert_eq!(view.list_keys().await.unwrap(), ["b"]);
    // It can't add to text, and ends the connection as ours does.
    let other = client.connect_again().await.unwrap();
    assert!(matches!(other.add("x/y", 1).await, Ok(1)));
    assert!(matches!(other.add("a", 1).await, Err(Error::Store { .. })));
    let waiting = client.connect_again().await.unwrap();
    let began = Instant::now();
    let (waited, ()) = tokio::join!(
        waiting.get("never", LONG),
        on_thread(move || {
            std::thread::sleep(SHORT);
            drop(theirs);
        })
    );
    assert!(matches!(waited, Err(Error::Store { .. })));
    assert!(matches!(client.set("a", "").await, Err(Error::Store { .. })));
    assert!(began.elapsed() < LONG / 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libtorchs_client_at_our_server() {
    let server = served().await;
    let port = server.local_addr().port();
    let ours = client(&server).await;
    let mut watch = server.watch("p/q/");
    let theirs = on_thread(move || {
        let store = Store::connect("127.0.0.1", port, LONG).unwrap();
        let other = Store::connect("127.0.0.1", port, LONG).unwrap();
        store.set("a", b"one\0two").unwrap();
        store.set("empty", b"").unwrap();
        assert_eq!(other.get("a", LONG).unwrap(), b"one\0two");
        assert_eq!(other.get("empty", LONG).unwrap(), b"");
        assert_eq!((store.add("n", 2).unwrap(), other.add("n", -5).unwrap()), (2, -3));
        assert!(store.check("a").unwrap() && !store.check("none").unwrap());
        let began = Instant::now();
        for _ in 0..3 {
            let error = other.get("never", SHORT).unwrap_err();
            assert!(error.timed_out(), "{error}");
        }
        assert!(began.elapsed() >= 3 * SHORT && began.elapsed() < LONG / 4);
        let big: Vec<u8> = (0..30_000_000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        store.set("big", &big).unwrap();
        assert!(other.get("big", LONG).unwrap() == big);
        store.prefixed("p").unwrap().prefixed("q").unwrap().set("k", b"deep").unwrap();
        let waiting = std::thread::spawn(move || other.get("late", LONG).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        store.set("late", b"come").unwrap();
        assert_eq!(waiting.join().unwrap(), b"come");
        store
    })
    .await;
    assert_eq!(ours.prefixed("p").get("q/k", LONG).await.unwrap(), b"deep");
    assert_eq!(ours.get("n", LONG).await.unwrap(), b"-3");
    assert!(watch.snapshot()["p/q/k"].connected);
    on_thread(move || drop(theirs)).await;
    while watch.snapshot()["p/q/k"].connected {
        watch.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libtorchs_client_learns_that_our_server_died() {
    let server = served().await;
    let port = server.local_addr().port();
    let store = on_thread(move || Store::connect("127.0.0.1", port, LONG).unwrap()).await;
    let began = Instant::now();
    let waiting = on_thread(move || {
        let error = store.get("never", LONG).unwrap_err();
        assert!(!error.timed_out(), "{error}");
        assert!(store.add("a", 1).is_err());
        let error = Store::connect("127.0.0.1", port, SHORT).unwrap_err();
        assert!(error.timed_out(), "{error}");
    });
    let dies = async {
        tokio::time::sleep(SHORT).await;
        drop(server);
    };
    tokio::join!(waiting, dies);
    assert!(began.elapsed() < LONG / 2);
}

/// Half of them libtorch's, half ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_both_kinds_meet() {
    const EACH: i64 = 32;
    let server = served().await;
    let address = server.local_addr();
    let ours = (0..EACH).map(|_| {
        tokio::spawn(async move {
            let client = StoreClient::connect(address, LONG).await.unwrap();
            for round in 0..3 {
                let here = client.prefixed(&format!("round/{round}"));
                if here.add("here", 1).await.unwrap() == 2 * EACH {
                    here.set("all", "").await.unwrap();
                }
                here.get("all", LONG).await.unwrap();
            }
        })
    });
    let theirs = (0..EACH).map(|_| {
        tokio::task::spawn_blocking(move || {
            let store = Store::connect("127.0.0.1", address.port(), LONG).unwrap();
            for round in 0..3 {
                let here = store.prefixed(&format!("round/{round}")).unwrap();
                if here.add("here", 1).unwrap() == 2 * EACH {
                    here.set("all", b"").unwrap();
                }
                here.get("all", LONG).unwrap();
            }
        })
    });
    for met in ours.chain(theirs).collect::<Vec<_>>() {
        met.await.unwrap();
    }
}
