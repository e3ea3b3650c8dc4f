//! A server: its limits, its routes, its socket and its end.

mod accept;
mod admission;
mod handle;
mod limits;

use std::{fmt, io, sync::Arc, time::Duration};

use axum::Router;
use tokio::net::{TcpListener, ToSocketAddrs};

pub use self::handle::ServerHandle;
pub(crate) use self::{admission::Admission, limits::Limits};
use crate::{Error, ModelRepository, Result, http};

/// Serves the models of a repository over the Open Inference Protocol V2 (REST).
///
/// It starts no runtime of its own and handles no signals: it lives in the tokio runtime that calls it, and ends with
/// its [`ServerHandle`]. Cloning gives another handle to the same server.
#[derive(Clone)]
pub struct Server {
    state: Arc<ServerState>,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) models: ModelRepository,
    pub(crate) limits: Limits,
    pub(crate) admission: Admission,
    pub(crate) model_control: bool,
}

/// Sets a server's limits; see [`Server::builder`].
#[derive(Debug)]
#[must_use]
pub struct ServerBuilder {
    models: ModelRepository,
    limits: Limits,
    model_control: bool,
}

impl Server {
    /// A server of these models, with limits that can be changed before it starts.
    pub fn builder(models: ModelRepository) -> ServerBuilder {
        ServerBuilder { models, limits: Limits::default(), model_control: false }
    }

    /// The protocol's routes, to be merged into an application's own router. The application then owns the socket;
    /// [`drain`](Self::drain) is how it ends gracefully.
    pub fn router(&self) -> Router {
        http::routes(Arc::clone(&self.state))
    }

    /// Listens on `addr` and serves until the handle is shut down or dropped. Port 0 takes any free port.
    ///
    /// # Errors
    /// [`Error::Bind`] when the address is taken or isn't this machine's.
    pub async fn bind(&self, addr: impl ToSocketAddrs + fmt::Display) -> Result<ServerHandle> {
        let shown = addr.to_string();
        let listener = TcpListener::bind(addr).await;
        self.serve(listener.map_err(|source| Error::Bind { addr: shown.clone(), source })?)
            .map_err(|source| Error::Bind { addr: shown, source })
    }

    /// Serves on a listener that is open already.
    ///
    /// # Errors
    /// When the listener's address can't be told.
    pub fn serve(&self, listener: TcpListener) -> io::Result<ServerHandle> {
        ServerHandle::start(listener, Arc::clone(&self.state))
    }

    /// Turns readiness off, refuses new inference requests, and waits until those under way have been answered or
    /// the drain deadline has passed. Gives how many were still unanswered then.
    pub async fn drain(&self) -> usize {
        self.state.drain().await
    }
}

impl ServerState {
    pub(crate) async fn drain(&self) -> usize {
        self.admission.drain();
        match tokio::time::timeout(self.limits.drain, self.admission.idle()).await {
            Ok(()) => 0,
            Err(_) => self.admission.inside(),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("models", &self.state.models).finish_non_exhaustive()
    }
}

/// Longer than anybody waits, and short enough to add to a time.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

impl ServerBuilder {
    /// How many requests may run their model at once; by default as many as there are processor cores.
    pub fn max_running(mut self, requests: usize) -> Self {
        self.limits.running = requests;
        self
    }

    /// How many requests may wait besides, bodies still arriving included; 256 by default. Each may hold a whole
    /// body. Further ones are refused with 503.
    pub fn max_waiting(mut self, requests: usize) -> Self {
        self.limits.waiting = requests;
        self
    }

    /// The largest request body in bytes; 64 MiB by default. Larger ones are refused with 413.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.limits.body = bytes;
        self
    }

    /// The time a request may take, its body's arrival and its wait included; 60 s by default. Then it is answered
    /// with 504. A model that runs on keeps its place among the running until it returns.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline.min(LONGEST);
        self
    }

    /// How long a shutdown waits for requests under way; 30 s by default.
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.limits.drain = deadline.min(LONGEST);
        self
    }

    /// How many connections may be open at once; 8192 by default. Further ones are answered with 503 and closed.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// How long a connection may stay open without a whole request's head arriving, or with an answer of which the
    /// system takes nothing more, since the caller reads so little of what it holds already (some megabytes); 75 s by
    /// default. It is closed after that time at the earliest, after twice it at the latest.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle = timeout.clamp(Duration::from_millis(1), LONGEST);
        self
    }

    /// Whether callers may load and unload models with `v2/repository/models/{model}/load` and `…/unload`; by
    /// default they get 403.
    pub fn model_control(mut self, allowed: bool) -> Self {
        self.model_control = allowed;
        self
    }

    /// The server, not listening yet.
    pub fn build(self) -> Server {
        let admission = Admission::new(&self.limits);
        let Self { models, limits, model_control } = self;
        Server { state: Arc::new(ServerState { models, limits, admission, model_control }) }
    }

    /// Builds the server and lets it listen; see [`Server::bind`].
    ///
    /// # Errors
    /// [`Error::Bind`] when the address is taken or isn't this machine's.
    pub async fn bind(self, addr: impl ToSocketAddrs + fmt::Display) -> Result<ServerHandle> {
        self.build().bind(addr).await
    }
}
