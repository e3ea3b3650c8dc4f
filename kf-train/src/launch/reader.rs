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
        use broadcast::error::RecvError;
        use broadcast::error::TryRecvError::{Closed, Empty, Lagged};
        while !self.over {
            // Looked at before the events: all of them are sent before it.
            let end = self.end.borrow_and_update().clone();
            match self.events.try_recv() {
                Ok(event) => return Some(event),
                Err(Lagged(missed)) => return Some(JobEvent::Missed(missed)),
                Err(Empty | Closed) => {}
            }
            if let Some(end) = end {
                self.over = true;
                return Some(JobEvent::Ended(end));
            }
            let watched = tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => return Some(event),
                    Err(RecvError::Lagged(missed)) => return Some(JobEvent::Missed(missed)),
                    Err(RecvError::Closed) => true,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::JobFeed;

    fn line(number: usize) -> JobEvent {
        JobEvent::Line { rank: 0, line: number.to_string(), stderr: false }
    }

    #[tokio::test]
    async fn a_slow_reader_hears_how_many_events_it_missed() {
        const TOLD: usize = 3000;
        let feed = JobFeed::new(1);
        let mut events = feed.events();
        for number in 0..TOLD {
            feed.tell(line(number));
        }
        let Some(JobEvent::Missed(missed)) = events.next().await else { panic!("nothing was missed") };
        let missed = usize::try_from(missed).unwrap();
        assert!(missed > 0 && missed < TOLD, "{missed}");
        feed.end(JobEnd::Canceled);
        let rest: Vec<_> = events.collect().await;
        assert_eq!(rest.first(), Some(&line(missed)));
        assert_eq!(rest.len() - 1, TOLD - missed);
        assert_eq!(rest.last(), Some(&JobEvent::Ended(JobEnd::Canceled)));
    }
}
