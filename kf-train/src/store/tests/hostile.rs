//! Peers that mean no good, or just stop.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::wire::{MAGIC, Request};
use super::*;

async fn raw(server: &StoreServer, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

fn encoded(requests: &[Request]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    requests.iter().for_each(|request| request.encode(&mut out));
    out.to_vec()
}

fn validated(rest: &[u8]) -> Vec<u8> {
    [&encoded(&[Request::Validate(MAGIC)]), rest].concat()
}

/// Reads until the server ends the connection.
async fn ended(mut stream: TcpStream) {
    let mut read = Vec::new();
    // A reset is an end, too.
    let _ = timeout(LONG / 4, stream.read_to_end(&mut read)).await.expect("the server ends the connection");
}

#[tokio::test]
async fn what_is_no_request_ends_its_own_connection() {
    let server = served().await;
    let good = client(&server).await;
    let huge = u64::MAX.to_ne_bytes();
    let mut bad = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0, 1, 2, 3, 4],
        vec![255; 100],
        encoded(&[Request::Ping(1)]),
        validated(&[18]),
        validated(&encoded(&[Request::Validate(MAGIC)])),
        validated(&[3, 1, 0, 0, 0, 0, 0, 0, 0, 0xff]),
    ];
    bad.extend([1u8, 3, 5, 6, 10, 11].map(|query| validated(&[&[query][..], &huge].concat())));
    for bytes in &bad {
        ended(raw(&server, bytes).await).await;
    }
    good.set("a", "1").await.unwrap();
    // Whole and truncated requests, and no end of them.
    let set = encoded(&[Request::Set { key: "/b".into(), value: "x".into() }]);
    for length in 0..set.len() {
        drop(raw(&server, &validated(&set[..length])).await);
    }
    assert_eq!(good.list_keys().await.unwrap(), ["a"]);
    let _open: Vec<_> = futures::future::join_all((0..200).map(|_| raw(&server, &[]))).await;
    assert_eq!(client(&server).await.get("a", LONG).await.unwrap(), b"1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_no_answers_holds_nobody_up() {
    let server = served().await;
    let good = client(&server).await;
    good.set("large", vec![1; 32 << 20]).await.unwrap();
    // 64 TiB of answers.
    let ask = Request::MultiGet { keys: vec!["/large".into(); 100_000] };
    let asks = validated(&encoded(&vec![ask; 2]));
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(raw(&server, &asks[..asks.len() / 2 + 100]).await);
    }
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(good.get("large", LONG).await.unwrap().len(), 32 << 20);
        if began.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident < 4 << 20, "{resident} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_large_requests_are_taken_in_at_once() {
    let server = served().await;
    let mut whole =
        validated(&encoded(&[Request::Set { key: "/a".into(), value: vec![1; 24 << 20].into() }]));
    whole.pop();
    let whole = std::sync::Arc::new(whole);
    let address = server.local_addr();
    let sends = (0..24).map(|_| {
        let whole = whole.clone();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            timeout(Duration::from_secs(2), stream.write_all(&whole)).await.is_ok().then_some(stream)
        }
    });
    let taken: Vec<_> = futures::future::join_all(sends).await.into_iter().flatten().collect();
    assert!(!taken.is_empty() && taken.len() <= 8, "{}", taken.len());
    let small = client(&server).await;
    small.set("b", "1").await.unwrap();
    // Whoever goes makes room.
    drop(taken);
    small.set("large", vec![1; 24 << 20]).await.unwrap();
}

/// Without sockets, so that the minute passes at once.
#[tokio::test(start_paused = true)]
async fn who_does_not_go_on_is_ended() {
    let server = served().await;
    let set = validated(&encoded(&[Request::Set { key: "/b".into(), value: "x".into() }]));
    for bytes in [&[][..], &set[..3], &set[..9]] {
        let (mut here, there) = tokio::io::duplex(1 << 10);
        server.shared().spawn(there, "test".into(), ());
        here.write_all(bytes).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
        assert!((50..100).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
    // A byte now and then is not enough; saying nothing between requests is fine.
    let (mut here, there) = tokio::io::duplex(1 << 10);
    server.shared().spawn(there, "test".into(), ());
    here.write_all(&set).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    here.write_all(&encoded(&[Request::Ping(7)])).await.unwrap();
    assert_eq!(here.read_u32_le().await.unwrap().to_le_bytes(), 7u32.to_ne_bytes());
    let began = tokio::time::Instant::now();
    for byte in encoded(&[Request::Set { key: "/long".into(), value: "x".into() }]) {
        if here.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(100));
    assert!(server.snapshot("long").is_empty());
}

/// Servers that answer nonsense, too little or nothing.
#[tokio::test]
async fn a_client_bears_any_server() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let pong = std::process::id().to_ne_bytes();
    let serve = async |answer: &[u8]| {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&pong).await.unwrap();
        stream.read_exact(&mut [0; 10]).await.unwrap();
        // Not before something is asked.
        stream.read_exact(&mut [0; 1]).await.unwrap();
        stream.write_all(answer).await.unwrap();
        stream
    };
    for answer in [&[2][..], &[255; 40], &[0; 3]] {
        let (client, _stream) = tokio::join!(
            async {
                let client = StoreClient::connect(address, LONG).await.unwrap();
                let error = client.get("a", 2 * SHORT).await.unwrap_err();
                assert!(matches!(error, Error::Store { .. } | Error::StoreTimedOut { .. }), "{error}");
                client
            },
            serve(answer)
        );
        let _ = client.with_timeout(SHORT).add("a", 1).await.unwrap_err();
    }
    // One that accepts and says nothing.
    let error = StoreClient::connect(address, SHORT).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }) && error.is_retryable(), "{error}");
    // One that is no store.
    let (error, ()) =
        tokio::join!(async { StoreClient::connect(address, 2 * SHORT).await.unwrap_err() }, async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").await;
            }
        });
    assert!(matches!(error, Error::Store { .. }), "{error}");
    assert!(StoreClient::connect("no port", SHORT).await.is_err());
}
