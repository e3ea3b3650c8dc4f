//! What is told of a job, for any number of readers, and the status that follows from it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::stream::BoxStream;
use kf_core::Timestamp;
use tokio::sync::{broadcast, watch};

use super::reader::Reader;
use super::{JobEnd, JobEvent, JobStatus};

/// How many events a reader may be behind.
const EVENTS: usize = 1024;

/// What is told of a job: [`tell`](Self::tell) it what happens, and it does what [`Launcher`](super::Launcher) says of
/// events and status.
#[derive(Debug)]
pub struct JobFeed {
    events: broadcast::Sender<JobEvent>,
    /// Changed with each event, before it is told.
    status: Mutex<JobStatus>,
    /// Holds what happened before anybody listened.
    first_listener: Mutex<Option<broadcast::Receiver<JobEvent>>>,
    end: watch::Sender<Option<JobEnd>>,
}

impl JobFeed {
    /// Of a job of so many ranks that was just taken on.
    pub fn new(world_size: usize) -> Self {
        let (events, first_listener) = broadcast::channel(EVENTS);
        Self {
            events,
            status: Mutex::new(JobStatus::new(Timestamp::now(), world_size)),
            first_listener: Mutex::new(Some(first_listener)),
            end: watch::Sender::new(None),
        }
    }

    /// Tells what happened; the end is told by [`end`](Self::end).
    pub fn tell(&self, event: JobEvent) {
        let mut status = locked(&self.status);
        status.apply(Timestamp::now(), &event);
        // In the order in which the status changes. Nobody listening is no error.
        let _ = self.events.send(event);
    }

    /// Tells the job's end, after which nothing else is told.
    pub fn end(&self, end: JobEnd) {
        locked(&self.status).apply(Timestamp::now(), &JobEvent::Ended(end.clone()));
        self.end.send_replace(Some(end));
    }

    /// How the job ended; none where it has not.
    pub fn ended(&self) -> Option<JobEnd> {
        self.end.borrow().clone()
    }

    /// Tells this end where none was told: that nobody watches the job any more.
    pub fn abandon(&self, end: JobEnd) {
        if self.ended().is_none() {
            self.end(end);
        }
    }

    /// The events for one reader; for the first, from the beginning on.
    pub fn events(&self) -> BoxStream<'static, JobEvent> {
        let first = locked(&self.first_listener).take();
        let events = first.unwrap_or_else(|| self.events.subscribe());
        Reader::new(events, self.end.subscribe()).stream()
    }

    /// How the job fares, with all that was told taken into account.
    pub fn status(&self) -> JobStatus {
        locked(&self.status).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
