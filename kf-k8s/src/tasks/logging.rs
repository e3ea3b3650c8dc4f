//! The log of an attempt, kept while it comes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kf_core::CancellationToken;
use kf_core::process::LogWriter;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::attempt::Carrying;
use super::pod::CONTAINER;
use crate::log::{Followed, Kept};

/// How long the rest of a log is waited for of which nothing comes.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long it is waited for while some of it comes.
const ALL_WORDS: Duration = Duration::from_secs(60);
/// How many of the last lines are told.
const TAIL_LINES: usize = 20;
/// How many lines may wait to be written.
const LINES: usize = 1024;

/// The log of an attempt, kept while it comes.
#[derive(Default)]
pub(super) struct Logging {
    following: Option<AbortOnDropHandle<Kept>>,
    /// How many lines were read.
    read: Arc<AtomicU64>,
    /// Fires when the container has ended.
    over: CancellationToken,
    /// What is read by then is all that is kept.
    enough: CancellationToken,
}

impl Logging {
    /// Follows the log from here on, where there is room for one more.
    pub(super) fn follow(&mut self, carrying: &Carrying, uid: &str) {
        if self.following.is_some() || !carrying.shared.options.keep_logs {
            return;
        }
        let Ok(room) = Arc::clone(&carrying.shared.logs).try_acquire_owned() else { return };
        self.start(carrying, uid, Some(room));
    }

    fn start(&mut self, carrying: &Carrying, uid: &str, room: Option<OwnedSemaphorePermit>) {
        let (told, mut lines) = mpsc::channel(LINES);
        let followed = Followed {
            pods: carrying.shared.pods.clone(),
            pod: carrying.name.clone(),
            container: CONTAINER.into(),
            uid: uid.to_owned(),
            turn: 0,
            rank: 0,
            told,
            over: self.over.clone(),
        };
        let writer = carrying.log.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (enough, counted) = (self.enough.clone(), Arc::clone(&self.read));
        let reading = async move {
            let (mut writer, mut kept) = (writer, Kept::default());
            let read = async {
                while let Some(read) = lines.recv().await {
                    let Some(line) = read.line else { break };
                    if let Some(writer) = &mut writer {
                        writer.write([&line, "\n"].concat().as_bytes());
                    }
                    counted.fetch_add(1, Ordering::Relaxed);
                    kept.add(&line);
                }
            };
            let _ = enough.run_until_cancelled(async { tokio::join!(followed.read(), read) }).await;
            if let Some(Err(error)) = writer.map(LogWriter::finish) {
                tracing::warn!(%error, "a log is incomplete");
            }
            drop(room);
            kept
        };
        self.following = Some(AbortOnDropHandle::new(tokio::spawn(reading)));
    }

    /// The last lines, once all of it is kept that comes in time.
    pub(super) async fn end(mut self, carrying: &Carrying, uid: &str) -> Vec<String> {
        if !carrying.shared.options.keep_logs {
            return Vec::new();
        }
        self.over.cancel();
        if self.following.is_none() {
            let room = Arc::clone(&carrying.shared.last_logs).acquire_owned().await.ok();
            self.start(carrying, uid, room);
        }
        let Some(mut following) = self.following.take() else { return Vec::new() };
        let until = Instant::now() + ALL_WORDS;
        let mut before = 0;
        let kept = loop {
            match timeout(LAST_WORDS, &mut following).await {
                Ok(kept) => break kept,
                Err(_) => {
                    let read = self.read.load(Ordering::Relaxed);
                    if read == before || Instant::now() >= until {
                        tracing::warn!(pod = %carrying.name, "the rest of its log does not come");
                        self.enough.cancel();
                        break following.await;
                    }
                    before = read;
                }
            }
        };
        kept.map_or_else(|_| Vec::new(), |kept| kept.last(TAIL_LINES))
    }
}
