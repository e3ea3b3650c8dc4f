//! The server.

mod connection;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::client::StoreClient;
use super::table::{Connection, Effects, Table};
use super::wire::{Answer, Refused, Request};
use crate::{Error, Result};
pub(super) use connection::Stream;
use watch::Watches;
pub use watch::{StoreEntry, StoreWatch};

/// The most connections at once.
const CONNECTIONS: usize = 4096;

/// Serves a store that clients of c10d's TCPStore can use: PyTorch's, libtorch's and [`StoreClient`].
///
/// When this value is dropped, its runtime ends the server at once, and all connections with it. Anyone who reaches the address can read and write
/// everything, so it belongs on loopback or a network of one's own.
#[derive(Debug)]
pub struct StoreServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    next: AtomicU64,
    end: CancellationToken,
    /// Where the connections' tasks run.
    runtime: Handle,
    /// So many connections may be amid a large request.
    large: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    wakes: HashMap<Connection, Arc<Notify>>,
    watches: Watches,
}

impl StoreServer {
    /// Serves on an address; port 0 takes any free one.
    ///
    /// # Errors
    /// [`Error::Store`], when the address can't be listened on.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let refused = |source| Error::store("listen", address, source);
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        Self::serve(listener).map_err(refused)
    }

    /// Serves on a socket that listens already. Call it within a tokio runtime, which then does the work.
    ///
    /// # Errors
    /// [`Error::Store`], when tokio can't take the socket over, or outside of a runtime.
    pub fn from_listener(listener: std::net::TcpListener) -> Result<Self> {
        let address =
            listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string());
        Self::take_over(listener).map_err(|source| Error::store("listen", address, source))
    }

    fn take_over(listener: std::net::TcpListener) -> std::io::Result<Self> {
        Handle::try_current().map_err(std::io::Error::other)?;
        listener.set_nonblocking(true)?;
        Self::serve(TcpListener::from_std(listener)?)
    }

    fn serve(listener: TcpListener) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            next: AtomicU64::new(1),
            end: CancellationToken::new(),
            runtime: Handle::current(),
            large: Semaphore::new(connection::LARGE_REQUESTS),
        });
        tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { shared, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A client within this process, without a socket. Each call gives a connection of its own; its calls wait at most
    /// `timeout`.
    pub fn client(&self, timeout: Duration) -> StoreClient {
        StoreClient::within(Arc::downgrade(&self.shared), self.address, timeout)
    }

    /// What is under a prefix just now, by key: that of [`StoreClient::set`], with its prefixes.
    pub fn snapshot(&self, prefix: &str) -> BTreeMap<String, StoreEntry> {
        self.shared.snapshot(prefix)
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Tells of changes under a prefix from now on.
    pub fn watch(&self, prefix: &str) -> StoreWatch {
        self.shared.state().watches.add(&self.shared, prefix)
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.shared.end.cancel();
        self.shared.state().watches = Watches::default();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self, prefix: &str) -> BTreeMap<String, StoreEntry> {
        let state = self.state();
        let prefix = format!("/{prefix}");
        let entries = state.table.under(&prefix);
        entries.map(|(key, entry)| (key[1..].to_owned(), StoreEntry::of(entry, &state.table))).collect()
    }

    /// Gives a stream to a task of its own. The task ends with the stream or with the server.
    pub(super) fn spawn(self: &Arc<Self>, stream: impl Stream, peer: String, held: impl Send + 'static) {
        let shared = self.clone();
        self.runtime.spawn(async move {
            let _held = held;
            let end = shared.end.clone();
            tokio::select! {
                () = end.cancelled() => {}
                ended = connection::serve(&shared, stream) => if let Err(reason) = ended {
                    warn!(%peer, %reason, "connection to the store ended");
                }
            }
        });
    }

    /// Runs a task where the connections' tasks run.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_cancelled()
    }

    fn connect(&self) -> (Connection, Arc<Notify>) {
        let connection = self.next.fetch_add(1, Ordering::Relaxed);
        let wake = Arc::new(Notify::new());
        let mut state = self.state();
        state.table.connect(connection);
        state.wakes.insert(connection, wake.clone());
        (connection, wake)
    }

    fn disconnect(&self, connection: Connection) {
        let mut state = self.state();
        state.wakes.remove(&connection);
        let effects = state.table.disconnect(connection);
        state.tell(effects);
    }

    fn apply(&self, connection: Connection, request: Request) -> Result<Option<Answer>, Refused> {
        let mut state = self.state();
        let mut effects = state.table.apply(connection, request, Instant::now())?;
        let answer = effects.answer.take();
        state.tell(effects);
        Ok(answer)
    }

    fn take_stop(&self, connection: Connection) -> bool {
        self.state().table.take_stop(connection)
    }
}

impl State {
    fn tell(&mut self, effects: Effects) {
        effects
            .woken
            .iter()
            .filter_map(|connection| self.wakes.get(connection))
            .for_each(|wake| wake.notify_one());
        self.watches.tell(&effects.changed, self.table.revision());
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let end = shared.end.clone();
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match (accepted, free.clone().try_acquire_owned()) {
            (Ok((stream, peer)), Ok(permit)) => {
                if let Err(error) = prepare(&stream) {
                    warn!(%peer, %error, "a connection to the store can't be set up");
                }
                shared.spawn(stream, peer.to_string(), permit);
            }
            (Ok((_, peer)), Err(_)) => {
                warn!(%peer, "the store refused a connection: {CONNECTIONS} are open");
            }
            (Err(error), _) => {
                warn!(%error, "the store can't accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Answers are small and awaited; a peer whose machine is gone is found out within half a minute.
pub(super) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}
