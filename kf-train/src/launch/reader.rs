//! How a job's events are read.

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{broadcast, watch};

use super::{JobEnd, JobEvent};

/// One reader of a job's events.
pub(super) struct Reader {
    events: broadcast::Receiver<JobEvent>,
    end: watch::Receiver<Option<JobEnd>>,
    over: bool,
}

impl Reader {
    pub(super) fn new(events: broadcast::Receiver<JobEvent>, end: watch::Receiver<Option<JobEnd>>) -> Self {
        Self { events, end, over: false }
    }

    pub(super) fn stream(self) -> BoxStream<'static, JobEvent> {
        futures::stream::unfold(self, |mut reader| async { Some((reader.next().await?, reader)) }).boxed()
    }

    async fn next(&mut self) -> Option<JobEvent> {
        use broadcast::error::TryRecvError::{Closed, Empty, Lagged};
        while !self.over {
            // Looked at before the events: all of them are sent before it.
            let end = self.end.borrow_and_update().clone();
            match self.events.try_recv() {
                Ok(event) => return Some(event),
                Err(Lagged(_)) => continue,
                Err(Empty | Closed) => {}
            }
            if let Some(end) = end {
                self.over = true;
                return Some(JobEvent::Ended(end));
            }
            let watched = tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => return Some(event),
                    Err(_) => true,
                },
                changed = self.end.changed() => changed.is_ok() || self.end.borrow().is_some(),
            };
            if !watched {
                self.over = true;
                return Some(JobEvent::Ended(unwatched()));
            }
        }
        None
    }
}

/// The end of a job that nobody watches any more.
pub(super) fn unwatched() -> JobEnd {
    let reason = "the runtime that watched it was shut down, which ended its ranks".into();
    JobEnd::Broken { reason, retryable: true }
}
