//! Handles of backfills.

use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt, stream};
use kf_core::RunId;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged;

use super::{PartitionStatus, PartitionTable};
use crate::mutex::locked;
use crate::{Error, Result};

/// How many events a listener may be behind before it misses some.
const EVENT_BUFFER: usize = 1024;

/// Something that happened in a backfill. What happens inside of a run, its [`RunHandle`](crate::RunHandle) tells:
/// [`Engine::handle`](crate::Engine::handle).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BackfillEvent {
    /// It is known how the partitions stand.
    Planned {
        /// How many partitions there are.
        partitions: usize,
        /// How many of them are to be run.
        to_run: usize,
    },
    /// A partition's run starts, or is gone on with.
    Started {
        /// The partition's key.
        key: String,
        /// The run.
        run: RunId,
        /// Which of the partition's runs it is, from 1.
        attempt: u32,
    },
    /// A partition's run failed, and another follows.
    Retried {
        /// The partition's key.
        key: String,
        /// The run that failed.
        run: RunId,
        /// Why.
        error: Option<String>,
    },
    /// Nothing further is done for a partition that was to be run.
    Ended {
        /// How it stands.
        status: PartitionStatus,
        /// How many partitions have ended now.
        ended: usize,
        /// How many were to be run.
        of: usize,
    },
    /// This listener was slower than the backfill and missed so many events.
    Missed(u64),
}

type Ending = std::result::Result<Arc<PartitionTable>, String>;

/// A backfill under way. Clones are handles of the same; dropping them all changes nothing for it.
#[derive(Clone, Debug)]
pub struct BackfillHandle {
    pipeline: Arc<str>,
    events: broadcast::WeakSender<BackfillEvent>,
    /// Listens from the beginning, for whoever asks first.
    first: Arc<Mutex<Option<broadcast::Receiver<BackfillEvent>>>>,
    cancel: Arc<watch::Sender<Option<String>>>,
    ending: watch::Receiver<Option<Ending>>,
}

/// The driver's end of a [`BackfillHandle`].
pub(super) struct DriverEnd {
    pub(super) events: broadcast::Sender<BackfillEvent>,
    /// The reason of each call of `cancel`, whose newest is seen.
    pub(super) cancel: Arc<watch::Sender<Option<String>>>,
    pub(super) ending: watch::Sender<Option<Ending>>,
}

impl BackfillHandle {
    pub(super) fn new(pipeline: &str) -> (Self, DriverEnd) {
        let (events, first) = broadcast::channel(EVENT_BUFFER);
        let cancel = Arc::new(watch::Sender::new(None));
        let (ending_sender, ending) = watch::channel(None);
        let handle = Self {
            pipeline: pipeline.into(),
            events: events.downgrade(),
            first: Arc::new(Mutex::new(Some(first))),
            cancel: Arc::clone(&cancel),
            ending,
        };
        (handle, DriverEnd { events, cancel, ending: ending_sender })
    }

    /// What happens. The first listener hears it from the beginning, others from now on. Ends with the backfill; a
    /// listener that is more than 1,024 events behind is told how many it missed.
    pub fn events(&self) -> impl Stream<Item = BackfillEvent> + Send + Unpin + use<> {
        let first = locked(&self.first).take();
        let receiver = first.or_else(|| Some(self.events.upgrade()?.subscribe()));
        let events = stream::iter(receiver).flat_map(BroadcastStream::new);
        events.map(|event| event.unwrap_or_else(|Lagged(missed)| BackfillEvent::Missed(missed)))
    }

    /// Begins no further partitions and cancels the runs under way. Asked for a second time, their exit handlers are
    /// ended too.
    pub fn cancel(&self, reason: impl Into<String>) {
        self.cancel.send_replace(Some(reason.into()));
    }

    /// Waits for the end, and tells how the partitions stand then: those that failed, and those that a cancelled
    /// backfill did not get to, are no error here.
    ///
    /// # Errors
    /// [`Error::Backfill`] where the engine stopped before; the same call goes on where it was.
    pub async fn wait(&self) -> Result<PartitionTable> {
        let stopped = |problem: String| Error::Backfill { pipeline: self.pipeline.to_string(), problem };
        let mut ending = self.ending.clone();
        let ending = match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone(),
            Err(_) => None,
        };
        match ending {
            Some(Ok(table)) => Ok(table.as_ref().clone()),
            Some(Err(problem)) => Err(stopped(problem)),
            None => Err(stopped("its engine is gone; ask for it again to go on where it was".to_owned())),
        }
    }
}
