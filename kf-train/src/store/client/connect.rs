//! A client's connection, and how it is made.

use std::io;
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::super::server::{Shared, Stream, prepare};
use super::super::wire::{Answer, Request};
use super::exchange::{Broken, Call, Wire, carry};
use crate::{Error, LONGEST, Result};

/// How many calls may wait for those before them.
const CALLS: usize = 64;

#[derive(Debug)]
pub(super) struct Connection {
    origin: Origin,
    calls: mpsc::Sender<Call>,
    broken: Broken,
}

/// How to reach the server.
#[derive(Debug, Clone)]
enum Origin {
    Tcp(String),
    Within(Weak<Shared>, SocketAddr),
}

impl Connection {
    pub(super) async fn open(address: String, timeout: Duration) -> Result<Self> {
        let deadline = Instant::now() + timeout.min(LONGEST);
        let mut pause = Duration::from_millis(10);
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        loop {
            match timeout_at(deadline, reach(&address)).await {
                Ok(Ok(wire)) => return Ok(Self::over(wire, Origin::Tcp(address))),
                Ok(Err(error)) if Instant::now() + pause < deadline => last = error,
                Ok(Err(error)) => return Err(Error::store("connect", address, error)),
                Err(_) => return Err(Error::store("connect", address, last)),
            }
            sleep(pause).await;
            pause = (2 * pause).min(Duration::from_millis(500));
        }
    }

    /// Tries once.
    pub(super) async fn open_once(address: String, timeout: Duration) -> Result<Self> {
        match tokio::time::timeout(timeout, reach(&address)).await {
            Ok(Ok(wire)) => Ok(Self::over(wire, Origin::Tcp(address))),
            Ok(Err(error)) => Err(Error::store("connect", address, error)),
            Err(_) => Err(Error::store("connect", address, io::ErrorKind::TimedOut.into())),
        }
    }

    /// A connection within this process.
    pub(super) fn within(server: Weak<Shared>, address: SocketAddr) -> Self {
        let (here, there) = tokio::io::duplex(64 << 10);
        let origin = Origin::Within(server.clone(), address);
        let (calls, carried) = mpsc::channel(CALLS);
        let broken = Broken::default();
        if let Some(server) = server.upgrade().filter(|server| !server.has_ended()) {
            server.spawn(there, "this process".into(), ());
            let broken = broken.clone();
            server.run(async move {
                let mut wire = Wire::new(here);
                match wire.greet().await {
                    Ok(()) => carry(wire, carried, broken).await,
                    Err(error) => {
                        broken.get_or_init(|| (error.kind(), error.to_string()));
                    }
                }
            });
        }
        Self { origin, calls, broken }
    }

    pub(super) async fn again(&self, timeout: Duration) -> Result<Self> {
        match &self.origin {
            Origin::Tcp(address) => Self::open(address.clone(), timeout).await,
            Origin::Within(server, address) => Ok(Self::within(server.clone(), *address)),
        }
    }

    fn over(wire: Wire<impl Stream>, origin: Origin) -> Self {
        let (calls, carried) = mpsc::channel(CALLS);
        let broken = Broken::default();
        tokio::spawn(carry(wire, carried, broken.clone()));
        Self { origin, calls, broken }
    }

    pub(super) fn address(&self) -> String {
        match &self.origin {
            Origin::Tcp(address) => address.clone(),
            Origin::Within(_, address) => address.to_string(),
        }
    }

    /// Has the task make an exchange. Whoever drops this gives the exchange up, and leaves the connection in order.
    pub(super) async fn call(
        &self,
        what: impl Fn() -> String,
        wait: Option<Request>,
        requests: Vec<Request>,
        deadline: Instant,
        after: Duration,
    ) -> Result<Vec<Answer>> {
        let (reply, answers) = oneshot::channel();
        let call = Call { wait, requests, deadline, reply };
        let exchanged = async {
            self.calls.send(call).await.ok()?;
            answers.await.ok()
        };
        match timeout_at(deadline, exchanged).await {
            Ok(Some(answers)) => Ok(answers),
            Ok(None) if self.broken.get().is_some() || Instant::now() < deadline => {
                let (kind, reason) = self.broken.get().cloned().unwrap_or_else(|| {
                    (
                        io::ErrorKind::NotConnected,
                        "the server or the runtime of the connection has ended".into(),
                    )
                });
                Err(Error::store(what(), self.address(), io::Error::new(kind, reason)))
            }
            Ok(None) | Err(_) => Err(Error::StoreTimedOut { what: what(), address: self.address(), after }),
        }
    }
}

async fn reach(address: &str) -> io::Result<Wire<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    prepare(&stream)?;
    let mut wire = Wire::new(stream);
    wire.greet().await?;
    Ok(wire)
}
