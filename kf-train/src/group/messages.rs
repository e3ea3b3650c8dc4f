//! Messages from one rank to another.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use c10d_sys::Messenger;
use futures::channel::oneshot;
use tch::{Device, Tensor};

use super::ProcessGroup;
use super::calls::Call;
use super::verify::{described, packed, unpacked};
use super::work::Work;
use crate::{Error, Result};

/// Messages from one rank to another, which no other rank takes part in. A description of the tensor goes first, and then
/// the tensor, each in the group's time, which runs from when its turn comes. Those from one rank to another arrive in the
/// order in which they were sent, and have no tags; what goes to different ranks, or comes from different ones, waits for
/// nothing. Ranks are named by their numbers in this group, as everywhere ([`members`](Self::members) has those in the job).
///
/// Once a message has failed, those behind it on the same way fail as well, at once. Where a rank is gone or time runs out,
/// Gloo closes that rank's connections, and shared memory ends the whole group.
impl ProcessGroup {
    /// Sends a tensor to one other rank, which [receives](Self::recv) it. That it was sent does not mean that it was taken: a
    /// receiver that expects another shape or type refuses it without a word to the sender.
    ///
    /// Over Gloo and shared memory it may return before it is received, over NCCL it waits for the other: ranks in a ring that all send first wait
    /// until time runs out.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn send(&self, tensor: &Tensor, to: usize) -> Result<()> {
        self.carry(self.to_send(tensor, to)?)?.wait()
    }

    /// [`send`](Self::send), begun: on a thread for each rank that is sent to, which the group keeps. The tensor is shared, not
    /// copied: it must not be changed before the work is done.
    ///
    /// Over NCCL it is done when this returns: ranks in a ring that all send first wait there, too.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`].
    pub fn send_async(&self, tensor: &Tensor, to: usize) -> Result<Work<()>> {
        self.begin(self.to_send(tensor, to)?)
    }

    /// Fills a tensor with what one other rank [sends](Self::send): of this shape and type.
    ///
    /// # Errors
    /// [`Error::Tensor`]; [`Error::Collective`] also where another shape or type is sent, which leaves the tensor as it
    /// was, and the sender to its own time; [`Error::CollectiveTimedOut`].
    pub fn recv(&self, tensor: &mut Tensor, from: usize) -> Result<()> {
        self.carry(self.to_receive(tensor.shallow_clone(), from)?)?.wait().map(drop)
    }

    /// [`recv`](Self::recv), begun: on a thread for each rank that is received from, which the group keeps. One for what may
    /// not come for long wants a group of its own, with a longer time: the time of a message that does not come runs out, and
    /// over Gloo and shared memory the group with it.
    ///
    /// Over NCCL it is done when this returns.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`].
    pub fn recv_async(&self, tensor: Tensor, from: usize) -> Result<Work> {
        self.begin(self.to_receive(tensor, from)?)
    }

    fn to_send(&self, tensor: &Tensor, to: usize) -> Result<Message<()>> {
        self.check("send", tensor)?;
        self.check_other("send's rank", to)?;
        self.message("send", tensor.shallow_clone(), to, Message::send)
    }

    fn to_receive(&self, tensor: Tensor, from: usize) -> Result<Message<Tensor>> {
        self.check("recv", &tensor)?;
        self.check_other("recv's rank", from)?;
        self.message("recv", tensor, from, Message::receive)
    }

    fn message<T>(
        &self,
        operation: &'static str,
        tensor: Tensor,
        other: usize,
        way: fn(Message<T>) -> Result<T>,
    ) -> Result<Message<T>> {
        let round = self.round.borrow();
        let call = Call::with(&round.calls, round.reporter.as_ref(), operation, other);
        let messenger = call.done(self.raw().messenger())?;
        Ok(Message { call, messenger, tensor, rank: round.calls.rank, other, way })
    }

    /// Carries it here and now where nothing goes before it, which saves the change of threads.
    fn carry<T: Send + 'static>(&self, message: Message<T>) -> Result<Work<T>> {
        let lanes = self.lanes.borrow();
        let way = lanes.way(&message);
        match way.is_idle() {
            true => Ok(Work::ended(way.carry(message))),
            false => lanes.add(message),
        }
    }

    fn begin<T: Send + 'static>(&self, message: Message<T>) -> Result<Work<T>> {
        match self.device() {
            Device::Cpu => self.lanes.borrow().add(message),
            _ => Ok(Work::ended(self.lanes.borrow().way(&message).carry(message))),
        }
    }
}

/// A message that is yet to go.
struct Message<T> {
    call: Call,
    messenger: Messenger,
    tensor: Tensor,
    rank: usize,
    other: usize,
    way: fn(Self) -> Result<T>,
}

impl Message<()> {
    fn send(mut self) -> Result<()> {
        let mut told = packed(&described(&self.tensor), self.tensor.device());
        self.call.done(self.messenger.send(&mut told, self.other))?;
        self.call.done(self.messenger.send(&mut self.tensor, self.other))
    }
}

impl Message<Tensor> {
    fn receive(mut self) -> Result<Tensor> {
        let mut told = packed("", self.tensor.device());
        self.call.done(self.messenger.recv(&mut told, self.other))?;
        let (found, expected) = (unpacked(&told.to_device(Device::Cpu)), described(&self.tensor));
        if found != expected {
            let message = format!("rank {} sends {found}, and {expected} is to be received", self.other);
            return Err(Error::collective(self.call.operation(), self.rank, message));
        }
        self.call.done(self.messenger.recv(&mut self.tensor, self.other))?;
        Ok(self.tensor)
    }
}

impl<T> Message<T> {
    fn key(&self) -> (&'static str, usize) {
        (self.call.operation(), self.other)
    }
}

/// The ways of messages: one for each rank and direction. Dropping waits for the messages under way.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<(&'static str, usize), Lane>>);

/// A way that messages go one after another.
#[derive(Debug, Default)]
struct Lane {
    way: Arc<Way>,
    /// From the first message that does not go at once.
    thread: Option<Carrier>,
}

#[derive(Debug, Default)]
struct Way {
    /// Messages that have not ended.
    under_way: AtomicUsize,
    /// Why the first failed that did: what is left of it would be taken for the next.
    failed: OnceLock<String>,
}

impl Way {
    fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }

    /// Carries a message, unless one before it has failed.
    fn carry<T>(&self, message: Message<T>) -> Result<T> {
        let (operation, rank) = (message.call.operation(), message.rank);
        if let Some(failed) = self.failed.get() {
            let told = format!("a message before it on the same way has failed ({failed})");
            return Err(Error::collective(operation, rank, told));
        }
        let carried = catch_unwind(AssertUnwindSafe(|| (message.way)(message)));
        let result = carried.unwrap_or_else(|_| Err(Error::collective(operation, rank, "it panicked")));
        if let Err(error) = &result {
            let _ = self.failed.set(error.to_string());
        }
        result
    }
}

impl Lanes {
    fn way<T>(&self, message: &Message<T>) -> Arc<Way> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(message.key()).or_default().way.clone()
    }

    fn add<T: Send + 'static>(&self, message: Message<T>) -> Result<Work<T>> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(message.key()).or_default();
        let carrier = match &mut lane.thread {
            Some(carrier) => carrier,
            none => {
                let started = Carrier::start(message.call.operation());
                none.insert(started.map_err(Error::io("can't start a thread to carry messages of", "send"))?)
            }
        };
        let (tell, told) = oneshot::channel();
        let ended = Arc::new(AtomicBool::new(false));
        lane.way.under_way.fetch_add(1, Ordering::AcqRel);
        let (way, has_ended) = (Arc::clone(&lane.way), Arc::clone(&ended));
        carrier.add(Box::new(move || {
            let result = way.carry(message);
            // Before anyone can know of the end.
            way.under_way.fetch_sub(1, Ordering::AcqRel);
            let _ = tell.send(result);
            has_ended.store(true, Ordering::Release);
        }));
        Ok(Work::carried(told, ended))
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that carries messages.
#[derive(Debug)]
struct Carrier {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Carrier {
    fn start(operation: &'static str) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let name = format!("kf-{operation}");
        let thread =
            thread::Builder::new().name(name).spawn(move || queue.into_iter().for_each(|job| job()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn add(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread ends with this alone.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
