//! A receiver of OTLP: HTTP on loopback, protobuf decoded with the protocol's own types.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A span that was received, and the service that sent it.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) service: String,
    pub(super) span: Span,
}

pub(super) struct Receiver {
    pub(super) address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub(super) async fn begin() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let all = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&all)));
            }
        });
        Ok(Self { address, received })
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, all: Arc<Mutex<Vec<Received>>>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        assert!(text.starts_with("post /v1/traces "), "{text}");
        assert!(text.contains("content-type: application/x-protobuf"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length: usize = length.trim().parse().unwrap();
        while bytes.len() < head + length {
            assert_ne!(stream.read_buf(&mut bytes).await?, 0, "a request was cut");
        }
        let rest = bytes.split_off(head + length);
        take(&bytes[head..], &all);
        bytes = rest;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}

fn take(body: &[u8], all: &Mutex<Vec<Received>>) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for from in request.resource_spans {
        let attributes = from.resource.unwrap().attributes;
        let service = attributes.iter().find(|attribute| attribute.key == "service.name");
        let service = service.and_then(|service| service.value.clone()?.value);
        let Some(Value::StringValue(service)) = service else { panic!("no service: {attributes:?}") };
        let spans = from.scope_spans.into_iter().flat_map(|scope| scope.spans);
        let received = spans.map(|span| Received { service: service.clone(), span });
        all.lock().unwrap().extend(received);
    }
}
