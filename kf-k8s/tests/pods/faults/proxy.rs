//! What stands between an engine and the API server, and spoils what goes through it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::super::asked::right;

type Broken = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Broken>>>>;

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// It is not carried out, and answered so; 429 and 503 ask to come again a second later.
    Refused(u16),
    /// It is carried out later.
    Slow(Duration),
    /// It is carried out, and there is no answer.
    Lost,
    /// Its answer breaks off in the middle; that of a watch or a log after a while.
    Broken,
    /// A watch tells that it is too old to go on.
    Expired,
}

/// Which requests it befalls.
struct Rule {
    fault: Fault,
    /// In the words of rights, such as `create /pods`.
    of: Vec<&'static str>,
    every: usize,
    left: usize,
    seen: usize,
}

/// Plain HTTP on loopback, by which an account's requests go to the cluster.
pub(super) struct Proxy {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

struct Shared {
    to: Client,
    rules: Mutex<Vec<Rule>>,
    done: Mutex<Vec<String>>,
    refuses: AtomicBool,
    /// Changes when all connections break.
    cut: watch::Sender<()>,
}

impl Proxy {
    /// One that has the rights of this client, and does no harm yet.
    pub(super) async fn start(to: Client) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            rules: Mutex::default(),
            done: Mutex::default(),
            refuses: AtomicBool::new(false),
            cut: watch::Sender::new(()),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { shared, address, _serving: AbortOnDropHandle::new(serving) }
    }

    /// A client that asks by way of it.
    pub(super) fn client(&self) -> Client {
        let uri = format!("http://{}", self.address).parse().unwrap();
        Client::try_from(Config::new(uri)).unwrap()
    }

    /// From now on this befalls every so many-th of these requests, of all where none is named.
    pub(super) fn spoil(&self, fault: Fault, of: &[&'static str], every: usize) {
        self.spoil_some(fault, of, every, usize::MAX);
    }

    /// The same, and no more often than that.
    pub(super) fn spoil_some(&self, fault: Fault, of: &[&'static str], every: usize, times: usize) {
        let rule = Rule { fault, of: of.to_vec(), every, left: times, seen: 0 };
        self.shared.rules.lock().unwrap().push(rule);
    }

    /// Nothing befalls these requests any more.
    pub(super) fn pardon(&self, right: &str) {
        let mut rules = self.shared.rules.lock().unwrap();
        rules.iter_mut().for_each(|rule| rule.of.retain(|of| *of != right));
        rules.retain(|rule| !rule.of.is_empty());
    }

    /// No more harm is done.
    pub(super) fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
        self.shared.refuses.store(false, Ordering::SeqCst);
    }

    /// All connections break, and none is taken until it heals.
    pub(super) fn cut_off(&self) {
        self.shared.refuses.store(true, Ordering::SeqCst);
        self.shared.cut.send_replace(());
    }

    /// All connections break.
    pub(super) fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// The requests that something has befallen.
    pub(super) fn spoiled(&self) -> Vec<String> {
        self.shared.done.lock().unwrap().clone()
    }
}

impl Shared {
    fn fault_of(&self, right: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        for rule in rules.iter_mut().filter(|rule| rule.of.is_empty() || rule.of.contains(&right)) {
            rule.seen += 1;
            if rule.seen % rule.every == 0 && rule.left > 0 {
                rule.left -= 1;
                self.done.lock().unwrap().push(right.to_owned());
                return Some(rule.fault);
            }
        }
        None
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if !shared.refuses.load(Ordering::SeqCst) {
            connections.spawn(connection(stream, Arc::clone(&shared)));
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    let answers = service_fn(move |request| answer(Arc::clone(&shared), request));
    tokio::select! {
        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answers) => {}
        _ = cut.changed() => {}
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Broken> {
    let right = right(request.method(), request.uri()).unwrap_or_else(|| request.uri().path().to_owned());
    let follows =
        right.starts_with("watch ") || request.uri().query().is_some_and(|it| it.contains("follow=true"));
    let fault = shared.fault_of(&right);
    match fault {
        Some(Fault::Refused(code)) => return Ok(refused(code)),
        Some(Fault::Expired) => {
            let event = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "too old resource version", "reason": "Expired", "code": 410}});
            return Ok(told(200, format!("{event}\n")));
        }
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::Lost | Fault::Broken) | None => {}
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let answer = shared.to.clone().send(Request::from_parts(head, Body::from(body.to_vec()))).await?;
    let (head, body) = answer.into_parts();
    let data = body.into_data_stream();
    let body = match fault {
        Some(Fault::Lost) => return Err("its answer is lost".into()),
        Some(Fault::Broken) if follows => {
            let some = data.map(|part| part.map(Frame::data).map_err(Broken::from));
            some.take_until(tokio::time::sleep(Duration::from_millis(1500))).chain(broken()).boxed()
        }
        Some(Fault::Broken) => {
            let whole = data.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
            let half = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
            stream::iter([Ok(Frame::data(half))]).chain(broken()).boxed()
        }
        _ => data.map(|part| part.map(Frame::data).map_err(Broken::from)).boxed(),
    };
    Ok(Response::from_parts(head, StreamBody::new(body)))
}

fn broken() -> BoxStream<'static, Result<Frame<Bytes>, Broken>> {
    let later = async {
        // What was told before is to be on its way.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err("it breaks off".into())
    };
    stream::once(later).boxed()
}

fn refused(code: u16) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": "the proxy says so", "reason": if code == 410 { "Expired" } else { "Spoiled" }});
    told(code, status.to_string())
}

fn told(code: u16, text: String) -> Answer {
    let part = Ok::<_, Infallible>(Frame::data(Bytes::from(text)));
    let body = StreamBody::new(stream::iter([part.map_err(Broken::from)]).boxed());
    let answer = Response::builder().status(code).header("content-type", "application/json");
    let answer = match code {
        429 | 503 => answer.header("retry-after", "1"),
        _ => answer,
    };
    answer.body(body).unwrap()
}
