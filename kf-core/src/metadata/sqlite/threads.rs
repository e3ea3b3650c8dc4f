//! Threads of a store's own. Those of tokio for blocking work may all be busy with what its user runs there.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::mutex::locked;
use crate::{Error, Result};

type Job = Box<dyn FnOnce() + Send>;

/// A few threads that take jobs in turn, and end when this is dropped and all jobs are done.
#[derive(Debug)]
pub(super) struct Threads(Sender<Job>);

impl Threads {
    pub(super) fn start(name: &str, count: usize) -> Result<Self> {
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..count {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&receiver))
                .map_err(|error| Error::Process(format!("start a thread for the metadata store: {error}")))?;
        }
        Ok(Self(sender))
    }

    /// Does something on one of the threads, later, also where nobody waits for it.
    pub(super) fn post(&self, job: impl FnOnce() + Send + 'static) {
        // The threads live as long as this.
        let _ = self.0.send(Box::new(job));
    }

    /// Does something on one of the threads. It is done, too, where the caller goes away once it has asked.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.post(move || {
            let _ = reply.send(job());
        });
        answer.await.map_err(|_| Error::Process("a job of the metadata store panicked".to_owned()))
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = locked(jobs).recv();
        let Ok(job) = job else { return };
        // Who asked hears of a panic by getting no answer; the thread goes on.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}
