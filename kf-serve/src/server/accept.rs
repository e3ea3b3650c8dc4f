use std::{
    io, mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tokio_util::{io::InspectWriter, sync::CancellationToken};

use super::limits::Limits;

/// How long to wait when the system can't open more connections, as when no file descriptor is left.
const EXHAUSTED: Duration = Duration::from_millis(50);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 59\r\n\r\n{\"error\":\"the server has as many connections as it allows\"}";

/// Takes connections until `stop`, then waits for those that are open. They end with this future.
pub(super) async fn accept(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if connections.len() >= limits.connections => {
                // A new socket's buffer is empty and takes these few bytes at once.
                let _ = stream.try_write(FULL);
            }
            Ok((stream, _)) => {
                connections.spawn(serve(stream, router.clone(), limits.idle, stop.clone()));
            }
            Err(error) if is_callers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "can't take connections now");
                time::sleep(EXHAUSTED).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, router: Router, idle: Duration, stop: CancellationToken) {
    // Answers go out in one piece; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::default());
    let router = TowerToHyperService::new(router);
    let noted = service_fn(|request| {
        let activity = Arc::clone(&activity);
        activity.busy.store(true, Ordering::Relaxed);
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            activity.answers.fetch_add(1, Ordering::Relaxed);
            activity.busy.store(false, Ordering::Relaxed);
            answer
        }
    });
    let writes = Arc::clone(&activity);
    // A caller that reads slowly is no idle one.
    let stream = InspectWriter::new(stream, move |bytes: &[u8]| {
        writes.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), noted));
    // One timer a connection that seldom fires; hyper's own would be set anew for each request, which costs far more.
    let mut look = time::interval_at(time::Instant::now() + idle, idle);
    let mut seen = (0, 0);
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = stop.cancelled() => {
                // hyper waits for the first request of a connection that never had one.
                if activity.answers.load(Ordering::Relaxed) == 0 && !activity.busy.load(Ordering::Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
            _ = look.tick() => {
                let now = (activity.answers.load(Ordering::Relaxed), activity.written.load(Ordering::Relaxed));
                if mem::replace(&mut seen, now) == now && !activity.busy.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// What goes on on a connection.
#[derive(Default)]
struct Activity {
    busy: AtomicBool,
    answers: AtomicU64,
    /// Bytes that the system has taken.
    written: AtomicU64,
}

/// Whether only the one connection failed.
fn is_callers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_canned_answer_states_its_length() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
