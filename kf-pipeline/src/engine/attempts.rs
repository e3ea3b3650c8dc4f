//! The attempts of a run that are under way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use tokio::task::JoinSet;

/// Carries attempts, and gives what each of them tells at its end. Dropped, it ends them where they wait.
pub(super) struct Attempts<T> {
    /// Those that the driver carries itself, without the way to another task and back.
    here: FuturesUnordered<BoxFuture<'static, T>>,
    spawned: JoinSet<T>,
    /// Whether the spawned ones are asked first: by turns, since there may always be one ready among those here.
    spawned_first: bool,
}

impl<T: Send + 'static> Attempts<T> {
    pub(super) fn new() -> Self {
        Self { here: FuturesUnordered::new(), spawned: JoinSet::new(), spawned_first: false }
    }

    /// Carries one within the task of whoever waits for its end. It must never keep the thread for long.
    pub(super) fn carry_here(&mut self, attempt: impl Future<Output = T> + Send + 'static) {
        self.here.push(Box::pin(attempt));
    }

    /// Carries one in a task of its own. What it gives is lost where it panics.
    pub(super) fn spawn(&mut self, attempt: impl Future<Output = T> + Send + 'static) {
        self.spawned.spawn(attempt);
    }

    fn poll_here(&mut self, context: &mut Context<'_>) -> Option<T> {
        match self.here.poll_next_unpin(context) {
            Poll::Ready(told) => told,
            Poll::Pending => None,
        }
    }

    fn poll_spawned(&mut self, context: &mut Context<'_>) -> Option<T> {
        loop {
            match self.spawned.poll_join_next(context) {
                Poll::Ready(Some(Ok(told))) => return Some(told),
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) | Poll::Pending => return None,
            }
        }
    }

    /// What one tells that has ended by now.
    pub(super) async fn ready(&mut self) -> Option<T> {
        let ended = |context: &mut Context<'_>| match self.poll_next_unpin(context) {
            Poll::Pending => Poll::Ready(None),
            ended => ended,
        };
        std::future::poll_fn(ended).await
    }

    /// Ends those that are left where they wait, and waits until they have ended.
    pub(super) async fn shutdown(&mut self) {
        self.here.clear();
        self.spawned.shutdown().await;
    }
}

impl<T: Send + 'static> Stream for Attempts<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.spawned_first = !self.spawned_first;
        let told = match self.spawned_first {
            true => self.poll_spawned(context).or_else(|| self.poll_here(context)),
            false => self.poll_here(context).or_else(|| self.poll_spawned(context)),
        };
        match told {
            Some(told) => Poll::Ready(Some(told)),
            None if self.here.is_empty() && self.spawned.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
