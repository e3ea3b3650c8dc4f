//! Admission, deadlines, sizes, and the end.

use std::time::Duration;

use kf_serve::{Datatype, Error, ModelRepository, Server, ServerBuilder, ServerHandle};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    client::{Client, PATIENCE, get, post},
    models::{ECHO, Gate, NO_INPUTS, echo, gated, identity},
};

const GATED: &str = "/v2/models/gated/infer";

async fn start(gate: &Gate, limit: impl FnOnce(ServerBuilder) -> ServerBuilder) -> ServerHandle {
    let models = ModelRepository::new();
    models.insert("gated", "1", gated(gate, 7)).unwrap();
    models.insert("echo", "1", echo()).unwrap();
    limit(Server::builder(models)).bind("127.0.0.1:0").await.unwrap()
}

/// A request that waits for the gate.
async fn waiting(server: &ServerHandle) -> Client {
    let mut client = Client::connect(server.addr()).await;
    client.send("POST", GATED, &[], NO_INPUTS).await;
    client
}

/// Asks until the answer is as wanted.
async fn until(addr: std::net::SocketAddr, path: &str, status: u16) {
    let asked = async {
        while get(addr, path).await.status != status {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{path} never answered {status}"));
}

#[tokio::test]
async fn a_full_server_refuses_and_recovers() {
    let gate = Gate::default();
    let server = start(&gate, |builder| builder.max_running(2).max_waiting(1)).await;
    let mut inside = vec![waiting(&server).await, waiting(&server).await];
    gate.arrivals(2).await;
    inside.push(waiting(&server).await);
    // The third has no turn yet; once it has its place, whoever comes now is refused.
    let refusal = async {
        loop {
            let answer = post(server.addr(), "/v2/models/none/infer", NO_INPUTS).await;
            if answer.status == 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let refusal = tokio::time::timeout(PATIENCE, refusal).await.unwrap();
    assert_eq!(refusal.header("retry-after"), Some("1"));
    assert!(refusal.error().contains("2 requests may run and 1 may wait"), "{}", refusal.error());
    assert_eq!(gate.arrived(), 2);
    // Whoever only asks for health is answered all the same.
    assert_eq!(get(server.addr(), "/v2/health/ready").await.status, 200);
    gate.open();
    for client in &mut inside {
        assert_eq!(client.answer().await.json()["outputs"][0]["data"], json!([7]));
    }
    assert_eq!(post(server.addr(), GATED, NO_INPUTS).await.status, 200);
}

#[tokio::test]
async fn never_more_run_than_allowed() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use kf_serve::{FnRuntime, ModelMetadata, Tensor};
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let model = FnRuntime::new(ModelMetadata::new("rust").output("OUT", Datatype::Int32, [1]), move |_| {
        peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(3));
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(vec![Tensor::from_vec("OUT", [1], vec![1_i32])?])
    });
    let models = ModelRepository::new();
    models.insert("m", "1", model).unwrap();
    let server = Server::builder(models).max_running(3).max_waiting(100).bind("127.0.0.1:0").await.unwrap();
    let addr = server.addr();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                for _ in 0..5 {
                    assert_eq!(client.post("/v2/models/m/infer", NO_INPUTS).await.status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(now.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_past_its_deadline_is_answered_and_its_model_still_counts() {
    let gate = Gate::default();
    let limit = Duration::from_secs(2);
    let server = start(&gate, |builder| builder.max_running(1).deadline(limit)).await;
    let mut slow = waiting(&server).await;
    gate.arrivals(1).await;
    // The second never gets its turn, as the first still holds it.
    let mut queued = waiting(&server).await;
    for client in [&mut slow, &mut queued] {
        let answer = client.answer().await;
        assert_eq!(answer.status, 504);
        assert!(answer.error().contains("2s"), "{}", answer.error());
    }
    assert_eq!(gate.arrived(), 1);
    gate.open();
    let recovered = async { while post(server.addr(), GATED, NO_INPUTS).await.status != 200 {} };
    tokio::time::timeout(PATIENCE, recovered).await.unwrap();
}

#[tokio::test]
async fn a_caller_who_leaves_gives_the_place_back() {
    let gate = Gate::default();
    let server = start(&gate, |builder| builder.max_running(1).max_waiting(1)).await;
    let running = waiting(&server).await;
    gate.arrivals(1).await;
    drop(waiting(&server).await);
    drop(running);
    // Both places are free again though the model still runs, so a request for another model gets in.
    until(server.addr(), "/v2/health/ready", 200).await;
    let asked = async {
        while post(server.addr(), "/v2/models/none/infer", NO_INPUTS).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
    gate.open();
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let server = start(&Gate::default(), |builder| builder.body_limit(1000)).await;
    let padded = |length: usize| format!("{ECHO}{}", " ".repeat(length - ECHO.len()));
    let mut client = Client::connect(server.addr()).await;
    assert_eq!(client.post("/v2/models/echo/infer", padded(1000)).await.status, 200);
    let answer = client.post("/v2/models/echo/infer", padded(1001)).await;
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("1000 bytes"), "{}", answer.error());
    // Far over the limit, and the answer still reaches a client that sends everything first; the connection goes on.
    let answer = client.post("/v2/models/echo/infer", padded(5_000_000)).await;
    assert_eq!(answer.status, 413);
    // Without a length beforehand.
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send_raw(format!("{head}{:x}\r\n{}\r\n0\r\n\r\n", 1001, padded(1001)).as_bytes()).await;
    assert_eq!(client.answer().await.status, 413);
    // A client that asks first is answered before it sends.
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 2000\r\n\r\n";
    client.send_raw(head.as_bytes()).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_408() {
    let server = start(&Gate::default(), |builder| builder.deadline(Duration::from_millis(50))).await;
    let mut client = Client::connect(server.addr()).await;
    client
        .send_raw(b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408);
    answer.error();
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = start(&Gate::default(), |builder| builder.idle_timeout(Duration::from_millis(50))).await;
    let mut client = Client::connect(server.addr()).await;
    client.send_raw(b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: te").await;
    assert!(client.try_answer().await.is_none_or(|answer| answer.status == 408));
}

#[tokio::test]
async fn a_caller_that_reads_slowly_gets_the_whole_answer() {
    const PIECES: usize = 26;
    let models = ModelRepository::new();
    models.insert("echo", "1", echo()).unwrap();
    let idle = Duration::from_secs(1);
    let server = Server::builder(models).idle_timeout(idle).bind("127.0.0.1:0").await.unwrap();
    let rows = 650_000;
    let data = vec!["1.5"; rows * 4].join(",");
    let body =
        format!(r#"{{"inputs":[{{"name":"IN","shape":[{rows},4],"datatype":"FP32","data":[{data}]}}]}}"#);
    // A small buffer, so that what the caller has not read holds the server up.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut stream = socket.connect(server.addr()).await.unwrap();
    let head = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    for _ in 0..PIECES {
        tokio::time::sleep(idle / 10).await;
        (&mut stream).take(300_000).read_to_end(&mut answer).await.unwrap();
    }
    stream.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(answer.len() - head - 4, length.parse::<usize>().unwrap());
}

#[tokio::test]
async fn limits_may_be_as_large_as_one_likes() {
    let limit = |builder: ServerBuilder| {
        builder.idle_timeout(Duration::MAX).deadline(Duration::MAX).drain_deadline(Duration::MAX)
    };
    let server = start(&Gate::default(), limit).await;
    let mut client = Client::connect(server.addr()).await;
    assert_eq!(client.get("/v2/health/live").await.status, 200);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn connections_over_the_limit_are_told_so() {
    let server = start(&Gate::default(), |builder| builder.max_connections(1)).await;
    let mut first = Client::connect(server.addr()).await;
    assert_eq!(first.get("/v2/health/live").await.status, 200);
    let mut second = Client::connect(server.addr()).await;
    let answer = second.answer().await;
    assert_eq!(answer.status, 503);
    answer.error();
    drop(first);
    let asked = async {
        loop {
            let mut client = Client::connect(server.addr()).await;
            client.send("GET", "/v2/health/live", &[], "").await;
            if client.try_answer().await.is_some_and(|answer| answer.status == 200) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_requests_finish() {
    let gate = Gate::default();
    let server = start(&gate, |builder| builder).await;
    let addr = server.addr();
    let mut running = waiting(&server).await;
    gate.arrivals(1).await;
    let mut idle = Client::connect(addr).await;
    assert_eq!(idle.get("/v2/health/ready").await.status, 200);
    let shutdown = tokio::spawn(server.shutdown());
    until(addr, "/v2/health/ready", 503).await;
    // Meanwhile it lives, and says why it takes nothing new.
    assert_eq!(get(addr, "/v2/health/live").await.status, 200);
    let refused = post(addr, GATED, NO_INPUTS).await;
    assert_eq!(refused.status, 503);
    assert!(refused.error().contains("shutting down"));
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(!shutdown.is_finished());
    gate.open();
    assert_eq!(running.answer().await.status, 200);
    tokio::time::timeout(PATIENCE, shutdown).await.unwrap().unwrap().unwrap();
    assert!(idle.try_answer().await.is_none());
    assert!(TcpStream::connect(addr).await.is_err());
    assert_eq!(gate.arrived(), 1);
}

#[tokio::test]
async fn a_shutdown_waits_for_slow_readers_but_for_no_silent_caller() {
    let models = ModelRepository::new();
    models.insert("bytes", "1", identity(Datatype::Uint8, &[-1])).unwrap();
    let server = Server::builder(models).drain_deadline(2 * PATIENCE).bind("127.0.0.1:0").await.unwrap();
    let addr = server.addr();
    let _silent = Client::connect(addr).await;
    let mut half_a_head = Client::connect(addr).await;
    half_a_head.send_raw(b"GET /v2 HTTP/1.1\r\nhost: te").await;
    let mut slow = Client::connect(addr).await;
    let body = vec![7; 32 << 20];
    slow.send("POST", "/v2/models/bytes/infer", &[("inference-header-content-length", "0")], &body).await;
    until(addr, "/v2/health/ready", 200).await;
    let shutdown = tokio::spawn(server.shutdown());
    tokio::time::sleep(Duration::from_millis(2200)).await;
    assert!(!shutdown.is_finished());
    assert!(slow.answer().await.binary().1 == body);
    tokio::time::timeout(PATIENCE, shutdown).await.expect("somebody keeps it open").unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_has_an_end() {
    let gate = Gate::default();
    let server = start(&gate, |builder| builder.drain_deadline(Duration::from_millis(50))).await;
    let addr = server.addr();
    let mut running = waiting(&server).await;
    gate.arrivals(1).await;
    let mut idle = Client::connect(addr).await;
    let error = tokio::time::timeout(PATIENCE, server.shutdown()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::DrainDeadline { unfinished: 1, .. }), "{error}");
    assert!(running.try_answer().await.is_none());
    assert!(idle.try_answer().await.is_none());
    assert!(TcpStream::connect(addr).await.is_err());
    gate.open();
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let server = start(&Gate::default(), |builder| builder).await;
    let addr = server.addr();
    let mut client = Client::connect(addr).await;
    assert_eq!(client.get("/v2/health/live").await.status, 200);
    drop(server);
    assert!(client.try_answer().await.is_none());
    let closed = async { while TcpStream::connect(addr).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let server = start(&Gate::default(), |builder| builder).await;
    let error = Server::builder(ModelRepository::new()).bind(server.addr()).await.unwrap_err();
    assert!(matches!(error, Error::Bind { .. }));
    let message = error.to_string();
    assert!(message.contains(&server.addr().to_string()) && message.contains("port 0"), "{message}");
    assert!(Server::builder(ModelRepository::new()).bind("203.0.113.1:0").await.is_err());
    assert!(Server::builder(ModelRepository::new()).bind("no address").await.is_err());
}
