//! A running child and its end.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::copy::Unowned;
use super::lines::Recent;
use super::log::{LogFeed, LogWriter};
use super::output::Output;
use super::{Exit, Usage};
use crate::mutex::locked;
use crate::worker::Exchange;

/// How long the output of an ended child is waited for, where a process that left its group still holds the pipe.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A child process. Dropping it kills the child and everything in its process group.
#[derive(Debug)]
pub struct Child {
    what: String,
    group: Arc<Group>,
    recent: Arc<Mutex<Recent>>,
    log: Option<LogFeed>,
    exchange: Exchange,
    ended: watch::Receiver<Option<Ended>>,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    exit: Exit,
    at: Instant,
    used: Usage,
}

impl Child {
    /// The process id, which is also its process group's.
    pub fn pid(&self) -> u32 {
        self.group.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end; may be called again, and by many. When it returns, the log is complete.
    pub async fn wait(&self) -> Exit {
        self.ended_at().await.0
    }

    /// Like [`wait`](Self::wait), with the moment at which the end was seen.
    pub async fn ended_at(&self) -> (Exit, Instant) {
        match self.ended.clone().wait_for(Option::is_some).await.map(|ended| *ended) {
            Ok(Some(Ended { exit, at, .. })) => (exit, at),
            // The runtime that watched it was shut down, which kills it.
            _ => (Exit::Signal(Signal::KILL.as_raw()), Instant::now()),
        }
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.ended.borrow().map(|ended| ended.exit)
    }

    /// What it had used when it ended, as far as its end tells: the processor time, on Linux. A worker that wants its memory
    /// known [measures](Usage::of_this_process) it itself.
    pub fn usage(&self) -> Usage {
        self.ended.borrow().map(|ended| ended.used).unwrap_or_default()
    }

    /// Asks it and its group to end (SIGTERM), kills them when `grace` is over, and waits.
    pub async fn terminate(&self, grace: Duration) -> Exit {
        self.group.signal(Signal::TERM);
        if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
            return exit;
        }
        self.kill();
        self.wait().await
    }

    /// Kills it and its group; [`wait`](Self::wait) tells when that is done.
    pub fn kill(&self) {
        self.group.signal(Signal::KILL);
    }

    /// The last `count` lines that it printed, at most 64 KiB of them.
    pub fn tail(&self, count: usize) -> Vec<String> {
        locked(&self.recent).last(count)
    }

    /// Its log, to be followed; none where it was started without one.
    pub fn log(&self) -> Option<&LogFeed> {
        self.log.as_ref()
    }

    /// What it has [answered](crate::worker::Request::answer), as JSON; empty where it has not. Whole when it has
    /// ended, unless it was killed while it wrote.
    ///
    /// # Errors
    /// Where the answer is longer than 1 GiB, or there is no room for it.
    pub fn answer(&self) -> io::Result<Vec<u8>> {
        self.exchange.answer()
    }

    /// What was started, for messages: ``worker `greet` ``.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The child's process group, as long as its number is the child's.
#[derive(Debug)]
struct Group {
    pid: Pid,
    reaped: Mutex<bool>,
}

impl Group {
    fn reaped(&self) -> MutexGuard<'_, bool> {
        locked(&self.reaped)
    }

    fn signal(&self, signal: Signal) {
        let reaped = self.reaped();
        if !*reaped {
            // Fails only where the group has ended by itself.
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }

    /// Notes that the child is reaped, and kills what it has left behind in its group.
    fn leave(&self) {
        let mut reaped = self.reaped();
        if !std::mem::replace(&mut *reaped, true) {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }
}

/// Kills the group when the runtime drops the watching task.
struct Watched(Arc<Group>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Waits for an end and for what is kept of the output, which is told that it was enough when the end was [`LAST_WORDS`]
/// ago.
async fn until_both<E, K>(
    end: impl Future<Output = E>,
    kept: impl Future<Output = K>,
    enough: impl FnOnce(),
) -> (E, K) {
    let (mut end, mut kept) = (std::pin::pin!(end), std::pin::pin!(kept));
    let ended = tokio::select! {
        ended = &mut end => ended,
        kept = &mut kept => return (end.await, kept),
    };
    if let Ok(kept) = tokio::time::timeout(LAST_WORDS, &mut kept).await {
        return (ended, kept);
    }
    enough();
    (ended, kept.await)
}

/// Watches a process that was just started.
pub(super) fn supervise(
    what: String,
    mut process: tokio::process::Child,
    unowned: Unowned,
    (output, errors): (Output, Option<Output>),
    exchange: Exchange,
    ends: CancellationToken,
) -> io::Result<Child> {
    let pid = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the child ended before it was watched"))?;
    let group = Arc::new(Group { pid, reaped: Mutex::new(false) });
    let guarded = unowned.own();
    let recent = output.recent.clone();
    let log = output.log.as_ref().map(LogWriter::feed);
    let (tell, ended) = watch::channel(None);
    let watched = Watched(group.clone());
    let name = what.clone();
    tokio::spawn(async move {
        let enough = CancellationToken::new();
        let end = async {
            let reaped = async {
                let used = Usage::at_end(pid).await;
                (process.wait().await, used)
            };
            let mut reaped = std::pin::pin!(reaped);
            let (status, used) = tokio::select! {
                reaped = &mut reaped => reaped,
                () = ends.cancelled() => {
                    watched.0.signal(Signal::KILL);
                    reaped.await
                }
            };
            let ended = Ended { exit: status.map_or(Exit::Signal(0), Exit::from), at: Instant::now(), used };
            watched.0.leave();
            drop(guarded);
            ended
        };
        // In one task: who ends closes its output too, and one thread sees both.
        let kept = async {
            let errors = async {
                match errors {
                    Some(errors) => errors.pump(enough.cancelled()).await,
                    None => Ok(()),
                }
            };
            let (output, errors) = tokio::join!(output.pump(enough.cancelled()), errors);
            output.and(errors)
        };
        let (ended, kept) = until_both(end, kept, || enough.cancel()).await;
        if let Err(error) = kept {
            tracing::warn!(child = %name, %error, "the log is incomplete");
        }
        let _ = tell.send(Some(ended));
    });
    Ok(Child { what, group, recent, log, exchange, ended })
}
