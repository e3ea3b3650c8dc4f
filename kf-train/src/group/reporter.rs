//! Tells the other ranks how far this one is, from a thread: a rank that hangs can't tell when it is asked.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use c10d_sys::Store;

use super::calls::{Calls, Seen};

/// How often a rank writes how far it is, if that has changed.
const BEAT: Duration = Duration::from_secs(1);
/// How long a rank that looks gives the others to write.
const SETTLE: Duration = Duration::from_millis(1300);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long an answer of the store is waited for.
const ANSWER: Duration = Duration::from_secs(4);
/// How long the thread's end is waited for; one that hangs in the store is left to itself.
const END: Duration = Duration::from_secs(1);

/// The thread, and its own connection to the store, of a group and its subgroups.
pub(super) struct Reporter {
    asks: Option<Sender<Ask>>,
    ended: Mutex<Receiver<()>>,
    /// Whose store it is.
    place: String,
}

enum Ask {
    Tell(Weak<Calls>),
    Look(Look),
}

struct Look {
    keys: Vec<String>,
    own: usize,
    /// The call that the others may yet come to.
    number: u64,
    answer: Sender<c10d_sys::Result<Vec<Option<Seen>>>>,
}

impl Reporter {
    /// `place` names the store in errors. The thread makes its connection itself: c10d asks for the name of each address
    /// that it connects to, which may take seconds, and the group needs not wait for that.
    pub(super) fn start(store: Arc<Store>, place: String) -> std::io::Result<Arc<Self>> {
        let (asks, asked) = channel();
        let (end, ended) = channel();
        thread::Builder::new().name("kf-group".into()).spawn(move || {
            let own = store.reconnected();
            drop(store);
            match own {
                Ok(own) => run(&own, &asked),
                Err(error) => tracing::warn!(%error, "the group's thread can't connect to the store"),
            }
            drop(end);
        })?;
        Ok(Arc::new(Self { asks: Some(asks), ended: Mutex::new(ended), place }))
    }

    /// Tells of these calls from now on.
    pub(super) fn tell(&self, calls: &Arc<Calls>) {
        self.ask(Ask::Tell(Arc::downgrade(calls)));
    }

    /// What every rank of the calls' group was last seen at; waits a little for those that have not come to a call.
    pub(super) fn look(&self, calls: &Calls, number: u64) -> Result<Vec<Option<Seen>>, String> {
        let (answer, answered) = channel();
        let keys = (0..calls.world_size).map(|rank| calls.key(rank)).collect();
        self.ask(Ask::Look(Look { keys, own: calls.rank, number, answer }));
        let unknown = |why| format!("nothing is known of the other ranks, for {} {why}", self.place);
        match answered.recv_timeout(ANSWER) {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(_)) => Err(unknown("is gone")),
            Err(_) => Err(unknown("does not answer")),
        }
    }

    fn ask(&self, ask: Ask) {
        if let Some(asks) = &self.asks {
            // One that has ended answers nothing, which who waits for it notices.
            let _ = asks.send(ask);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.asks = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(END);
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("place", &self.place).finish_non_exhaustive()
    }
}

fn run(store: &Store, asked: &Receiver<Ask>) {
    let mut told: Vec<(Weak<Calls>, Seen)> = Vec::new();
    let mut looks: Vec<(Look, Instant)> = Vec::new();
    let mut gone = false;
    loop {
        let ask = asked.recv_timeout(if looks.is_empty() { BEAT } else { LOOK_EVERY });
        match ask {
            Ok(Ask::Tell(calls)) => told.push((calls, Seen::default())),
            Ok(Ask::Look(look)) => looks.push((look, Instant::now() + SETTLE)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        told.retain_mut(|(calls, last)| {
            let Some(calls) = calls.upgrade() else { return false };
            let seen = calls.seen();
            if !gone && seen != *last {
                // A store that is gone does not come back, and c10d complains of each try.
                gone = calls.publish(store, &seen).is_err();
                *last = seen;
            }
            true
        });
        looks.retain(|(look, until)| match looked(store, look) {
            Ok(seen) if !look.all_here(&seen) && Instant::now() < *until => true,
            seen => {
                // Who asked may have given up.
                let _ = look.answer.send(seen);
                false
            }
        });
    }
}

fn looked(store: &Store, look: &Look) -> c10d_sys::Result<Vec<Option<Seen>>> {
    let values = store.get_all(&look.keys)?;
    Ok(values.iter().map(|value| serde_json::from_slice(value).ok()).collect())
}

impl Look {
    /// Whether all ranks have come to the call.
    fn all_here(&self, seen: &[Option<Seen>]) -> bool {
        let here = |seen: &Option<Seen>| seen.as_ref().is_some_and(|seen| seen.call >= self.number);
        seen.iter().enumerate().all(|(rank, seen)| rank == self.own || here(seen))
    }
}
