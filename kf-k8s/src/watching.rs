//! Watches that go on, over all that breaks them.

use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Error, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// What is told of objects. An error is told, too, and tried again later and later.
pub(crate) fn watched<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = stream::unfold(None, move |there| {
        let mut events = there.unwrap_or_else(|| watcher(api.clone(), config.clone()).boxed());
        async move {
            let event = events.next().await?;
            // It would ask the same for ever.
            let goes_on = !event.as_ref().is_err_and(is_too_old);
            Some((event, goes_on.then_some(events)))
        }
    });
    events.backoff(Soon::default())
}

/// Whether a watch can't begin where it was to go on: all must be listed anew.
fn is_too_old(error: &Error) -> bool {
    matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// Waits of 200 milliseconds to 10 seconds between tries, each twice as long as the one before.
#[derive(Debug, Default)]
struct Soon {
    tries: u32,
    last: Option<Instant>,
}

impl Soon {
    const MOST: Duration = Duration::from_secs(10);
}

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // So long a watch went well.
        if self.last.is_some_and(|last| last.elapsed() > 3 * Self::MOST) {
            self.tries = 0;
        }
        let wait = Duration::from_millis(200) * 2_u32.pow(self.tries.min(10));
        (self.tries, self.last) = (self.tries + 1, Some(Instant::now()));
        Some(wait.min(Self::MOST))
    }
}

impl Backoff for Soon {
    /// Called for the beginning of each list, too, before that fails: what has gone well is seen by the time between.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_tried_again_later_and_later_until_it_goes_well() {
        let mut soon = Soon::default();
        let waits: Vec<_> = soon.by_ref().take(8).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        soon.reset();
        assert_eq!(soon.next(), Some(Soon::MOST));
        tokio::time::advance(Soon::MOST * 4).await;
        assert_eq!(soon.next(), Some(Duration::from_millis(200)));
    }
}
