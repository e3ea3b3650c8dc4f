//! Keeping the lease of a run for as long as it is carried.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kf_core::metadata::{Lease, MetadataStore};
use kf_core::{CancellationToken, RunId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a lease lasts where leases have an end and nothing was said, and the least that may be said.
pub(super) const LEASE: Duration = Duration::from_secs(15);
pub(super) const SHORTEST: Duration = Duration::from_millis(200);

/// Until when a lease surely holds, by this machine's clock; none where it holds as long as its process lives.
pub(super) type Until = watch::Receiver<Option<Instant>>;

/// Renews a lease beside the driver. A renewal that fails is tried again until the lease's end.
pub(super) struct Keeper {
    pub(super) run: RunId,
    pub(super) epoch: u64,
    /// The number of the run's last commit when the lease was given.
    pub(super) seq: u64,
    until: Until,
    stop: CancellationToken,
    task: JoinHandle<(Lease, Option<kf_core::Error>)>,
}

impl Keeper {
    /// Keeps a lease that was asked for at `asked`, and each renewal for `ttl`.
    pub(super) fn start(store: Arc<dyn MetadataStore>, lease: Lease, ttl: Duration, asked: Instant) -> Self {
        let end = lease.expires_at.map(|_| asked + ttl);
        let (sender, until) = watch::channel(end);
        let stop = CancellationToken::new();
        let (run, epoch, seq) = (lease.run.clone(), lease.epoch, lease.seq);
        let task = tokio::spawn(keep(store, lease, ttl, sender, stop.clone()));
        Self { run, epoch, seq, until, stop, task }
    }

    pub(super) fn until(&self) -> Until {
        self.until.clone()
    }

    /// Waits until the lease is lost.
    pub(super) async fn lost(&mut self) -> kf_core::Error {
        match (&mut self.task).await {
            Ok((_, Some(error))) => error,
            // It is stopped by nobody but `release`.
            Ok((_, None)) => kf_core::Error::Process("the lease was given back".to_owned()),
            Err(error) => kf_core::Error::Process(format!("the keeper of a lease ended: {error}")),
        }
    }

    /// Gives the lease back, where it was not lost.
    pub(super) async fn release(mut self, store: &dyn MetadataStore) -> kf_core::Result<()> {
        if self.task.is_finished() {
            return Ok(());
        }
        self.stop.cancel();
        match (&mut self.task).await {
            Ok((lease, None)) => {
                // One that is not given back ends by itself.
                let released = tokio::time::timeout(LEASE / 3, store.release(lease)).await;
                released.unwrap_or_else(|_| Err(unanswered("give a lease back to the")))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(
    store: Arc<dyn MetadataStore>,
    mut lease: Lease,
    ttl: Duration,
    sender: watch::Sender<Option<Instant>>,
    stop: CancellationToken,
) -> (Lease, Option<kf_core::Error>) {
    let Some(mut end) = *sender.borrow() else {
        stop.cancelled().await;
        return (lease, None);
    };
    let mut wait = ttl / 3;
    loop {
        let renewing = async {
            tokio::time::sleep(wait).await;
            let asked = Instant::now();
            // Who slept through the end asks all the same: nobody may have taken the run.
            let by = end.max(asked + ttl / 3);
            let renewed = tokio::time::timeout_at(by, store.renew(&mut lease, ttl)).await;
            renewed.unwrap_or_else(|_| Err(unanswered("renew a lease of the"))).map(|()| asked + ttl)
        };
        match stop.run_until_cancelled(renewing).await {
            None => return (lease, None),
            Some(Ok(renewed)) => {
                end = renewed;
                sender.send_replace(Some(end));
                wait = ttl / 3;
            }
            Some(Err(error)) if error.is_retryable() && Instant::now() < end => {
                tracing::warn!(run = %lease.run, %error, "the lease was not renewed; it is tried again");
                wait = ttl / 15;
            }
            Some(Err(error)) => return (lease, Some(error)),
        }
    }
}

/// The error of a store that does not answer; it may do so later.
pub(super) fn unanswered(tried: &'static str) -> kf_core::Error {
    let source = io::Error::new(io::ErrorKind::TimedOut, "no answer within the time of a lease");
    kf_core::Error::io(tried, "metadata store")(source)
}
