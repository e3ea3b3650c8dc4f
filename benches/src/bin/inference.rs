//! Requests per second and latency of an `FP32[1,4]` echo in JSON: this crate's server beside a bare axum handler, in one
//! process on loopback, at 1 and 16 connections, in interleaved runs.

use std::{io, net::SocketAddr, thread, time::Duration};

use axum::{Json, Router, extract::DefaultBodyLimit, routing::post};
use benches::{Measured, Table};
use kf_serve::{BoxError, Datatype, FnRuntime, ModelMetadata, ModelRepository, Server};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    time::Instant,
};

const REQUEST: &str =
    r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1.5,-2.25,3.0,0.1]}]}"#;
const PATH: &str = "/v2/models/echo/infer";

/// What one run over some connections came to.
#[derive(Debug, Clone, Copy)]
struct Sample {
    requests_per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// The same load on both servers, one after the other.
#[derive(Debug, Clone, Copy)]
struct Pair {
    connections: usize,
    bare: Sample,
    served: Sample,
}

fn main() -> Result<(), BoxError> {
    let mut pairs = Vec::new();
    compare(RUNS, DURATION, |pair| pairs.push(pair))?;
    let mut table = Table::default();
    for (connections, target) in [(1, "ratio ≥ 0.8"), (16, "ratio ≥ 0.8")] {
        let of = |figure: fn(&Pair) -> f64| -> Vec<f64> {
            pairs.iter().filter(|pair| pair.connections == connections).map(figure).collect()
        };
        let ours = of(|pair| pair.served.requests_per_second);
        let bare = of(|pair| pair.bare.requests_per_second);
        let ours = Measured::new(format!("FP32[1,4] echo, c={connections}"), "requests/s", ours);
        table.add(ours, Some(Measured::new("  bare axum handler", "requests/s", bare)), target);
        let (ours, bare) = (of(|pair| micros(pair.served.p50)), of(|pair| micros(pair.bare.p50)));
        let ours = Measured::new(format!("  p50, c={connections}"), "µs", ours);
        table.add(ours, Some(Measured::new("  bare axum handler, p50", "µs", bare)), "");
        let (ours, bare) = (of(|pair| micros(pair.served.p99)), of(|pair| micros(pair.bare.p99)));
        let ours = Measured::new(format!("  p99, c={connections}"), "µs", ours);
        table.add(ours, Some(Measured::new("  bare axum handler, p99", "µs", bare)), "< 1000");
    }
    table.note(format!(
        "kf-serve {}; axum 0.8; servers and clients on the same cores",
        env!("CARGO_PKG_VERSION")
    ));
    table.print();
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

const CONNECTIONS: [usize; 2] = [1, 16];
const RUNS: usize = 5;
const DURATION: Duration = Duration::from_secs(3);

/// Loads both servers in turn, `runs` times over, and reports each pair of measurements.
fn compare(runs: usize, duration: Duration, mut report: impl FnMut(Pair)) -> Result<(), BoxError> {
    let (bare_runtime, bare) = start_bare()?;
    let (served_runtime, served) = start_served()?;
    for addr in [bare, served] {
        measure(addr, 16, duration / 4)?;
    }
    for run in 1..=runs {
        for connections in CONNECTIONS {
            // Who goes first takes turns, so that a drift of the machine favours neither.
            let pair = if run % 2 == 1 {
                let bare = measure(bare, connections, duration)?;
                Pair { connections, bare, served: measure(served, connections, duration)? }
            } else {
                let served = measure(served, connections, duration)?;
                Pair { connections, bare: measure(bare, connections, duration)?, served }
            };
            report(pair);
        }
    }
    bare_runtime.shutdown_background();
    served_runtime.shutdown_background();
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Vec<f32>,
}

#[derive(Deserialize)]
struct Request {
    inputs: Vec<Tensor>,
}

#[derive(Serialize)]
struct Answer {
    model_name: &'static str,
    model_version: &'static str,
    outputs: Vec<Tensor>,
}

/// The least that axum and serde can do for such a request.
fn start_bare() -> io::Result<(Runtime, SocketAddr)> {
    let echo = |Json(request): Json<Request>| async {
        Json(Answer { model_name: "echo", model_version: "1", outputs: request.inputs })
    };
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let addr = listener.local_addr()?;
    let router = Router::new().route(PATH, post(echo)).layer(DefaultBodyLimit::max(64 << 20));
    runtime.spawn(async move { axum::serve(listener, router).await });
    Ok((runtime, addr))
}

fn start_served() -> Result<(Runtime, SocketAddr), BoxError> {
    let metadata =
        ModelMetadata::new("rust").input("x", Datatype::Fp32, [-1, 4]).output("x", Datatype::Fp32, [-1, 4]);
    let models = ModelRepository::new();
    models.insert("echo", "1", FnRuntime::new(metadata, |inputs| Ok(inputs.into_tensors())).inline())?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(Server::builder(models).bind("127.0.0.1:0"))?;
    let addr = server.addr();
    runtime.spawn(async move {
        let _server = server;
        std::future::pending::<()>().await;
    });
    Ok((runtime, addr))
}

/// Sends requests over kept-alive connections, one at a time on each, from a thread of its own.
fn measure(addr: SocketAddr, connections: usize, duration: Duration) -> Result<Sample, BoxError> {
    let load = thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let started = Instant::now();
        let latencies = runtime.block_on(async {
            let clients: Vec<_> = (0..connections).map(|_| tokio::spawn(client(addr, duration))).collect();
            let mut latencies = Vec::new();
            for client in clients {
                latencies.extend(client.await.map_err(io::Error::other)??);
            }
            io::Result::Ok(latencies)
        })?;
        io::Result::Ok((latencies, started.elapsed()))
    });
    let (mut latencies, elapsed) = load.join().map_err(|_| "the load generator panicked")??;
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Ok(Sample {
        requests_per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50: at(0.50),
        p99: at(0.99),
    })
}

async fn client(addr: SocketAddr, duration: Duration) -> io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{REQUEST}",
        REQUEST.len()
    );
    let mut buffer = vec![0; 4096];
    // Every answer is as long as the first, so only that one is read with care.
    stream.write_all(request.as_bytes()).await?;
    let mut length = 0;
    while !buffer[..length].ends_with(b"]}]}") {
        length += match stream.read(&mut buffer[length..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        };
    }
    if !buffer.starts_with(b"HTTP/1.1 200 OK") {
        return Err(io::Error::other(String::from_utf8_lossy(&buffer[..length]).into_owned()));
    }

    let mut latencies = Vec::with_capacity(1 << 18);
    let end = Instant::now() + duration;
    let mut now = Instant::now();
    while now < end {
        stream.write_all(request.as_bytes()).await?;
        let mut received = 0;
        while received < length {
            received += match stream.read(&mut buffer[received..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            };
        }
        let done = Instant::now();
        latencies.push(done - now);
        now = done;
    }
    if !buffer.starts_with(b"HTTP/1.1 200 OK") {
        return Err(io::Error::other(String::from_utf8_lossy(&buffer[..length]).into_owned()));
    }
    Ok(latencies)
}
