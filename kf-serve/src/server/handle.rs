use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{ServerState, accept::accept};
use crate::{Error, Result, http};

/// How long answers that are ready may take to be sent when the server closes, whatever is left of the drain deadline.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// A server that listens. Dropping it closes the server at once; [`shutdown`](Self::shutdown) does it gracefully.
#[derive(Debug)]
#[must_use = "a server ends with its handle"]
pub struct ServerHandle {
    addr: SocketAddr,
    state: Arc<ServerState>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl ServerHandle {
    pub(super) fn start(listener: TcpListener, state: Arc<ServerState>) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let router = http::routes(Arc::clone(&state)).fallback(http::unknown_path);
        let task = tokio::spawn(accept(listener, router, state.limits.clone(), stop.clone()));
        tracing::info!(%addr, "serving");
        Ok(Self { addr, state, stop, task: AbortOnDropHandle::new(task) })
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address as a URL, `http://127.0.0.1:8000`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Ends gracefully: readiness turns false and new requests are refused, those under way finish, then every
    /// connection closes. What is unfinished after the drain deadline is cut off.
    ///
    /// # Errors
    /// [`Error::DrainDeadline`] when requests were cut off; the server is closed all the same.
    pub async fn shutdown(self) -> Result<()> {
        let deadline = Instant::now() + self.state.limits.drain;
        let unfinished = self.state.drain().await;
        self.stop.cancel();
        let left = deadline.saturating_duration_since(Instant::now());
        let last_bytes = if unfinished == 0 { left.max(LAST_BYTES) } else { Duration::ZERO };
        // Past that time, dropping the task cuts off what is left.
        let _ = time::timeout(last_bytes, self.task).await;
        tracing::info!(addr = %self.addr, unfinished, "closed the server");
        match unfinished {
            0 => Ok(()),
            _ => Err(Error::DrainDeadline { addr: self.addr, after: self.state.limits.drain, unfinished }),
        }
    }
}
