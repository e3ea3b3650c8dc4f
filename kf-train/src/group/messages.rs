//! Messages from one rank to another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
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
/// the tensor, each in the group's time. Those from one rank to another arrive in the order in which they were sent; what
/// goes to different ranks, or comes from different ones, waits for nothing.
impl ProcessGroup {
    /// Sends a tensor to one other rank, which [receives](Self::recv) it.
    ///
    /// Over Gloo it may return before that, over NCCL it waits for the other: ranks in a ring that all send first wait
    /// until time runs out.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn send(&self, tensor: &Tensor, to: usize) -> Result<()> {
        self.carry("send", self.to_send(tensor, to)?)?.wait()
    }

    /// [`send`](Self::send), begun: on a thread for each rank that is sent to. The tensor must not be changed before the
    /// work is done. Over NCCL it is done when this returns.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`].
    pub fn send_async(&self, tensor: &Tensor, to: usize) -> Result<Work<()>> {
        self.begin("send", self.to_send(tensor, to)?)
    }

    /// Fills a tensor with what one other rank [sends](Self::send): of this shape and type.
    ///
    /// # Errors
    /// [`Error::Tensor`]; [`Error::Collective`] also where another shape or type is sent, which leaves the tensor as it
    /// was, and the sender to its own time; [`Error::CollectiveTimedOut`].
    pub fn recv(&self, tensor: &mut Tensor, from: usize) -> Result<()> {
        self.carry("recv", self.to_receive(tensor.shallow_clone(), from)?)?.wait().map(drop)
    }

    /// [`recv`](Self::recv), begun: on a thread for each rank that is received from. Over NCCL it is done when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`].
    pub fn recv_async(&self, tensor: Tensor, from: usize) -> Result<Work> {
        self.begin("recv", self.to_receive(tensor, from)?)
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
    fn carry<T: Send + 'static>(&self, operation: &'static str, message: Message<T>) -> Result<Work<T>> {
        let round = self.round();
        match round.lanes.is_idle(operation, message.other) {
            true => Ok(Work::ended((message.way)(message))),
            false => round.lanes.add(operation, message),
        }
    }

    fn begin<T: Send + 'static>(&self, operation: &'static str, message: Message<T>) -> Result<Work<T>> {
        match self.device() {
            Device::Cpu => self.round().lanes.add(operation, message),
            _ => Ok(Work::ended((message.way)(message))),
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

type Job = Box<dyn FnOnce() + Send>;

/// The threads that carry messages: one for each rank and direction, from the first message that needs it. Dropping waits
/// for the messages under way.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<(&'static str, usize), Lane>>);

#[derive(Debug)]
struct Lane {
    /// Messages that have not ended.
    under_way: Arc<AtomicUsize>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Lanes {
    fn is_idle(&self, operation: &'static str, other: usize) -> bool {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(&(operation, other)).is_none_or(|lane| lane.under_way.load(Ordering::Acquire) == 0)
    }

    fn add<T: Send + 'static>(&self, operation: &'static str, message: Message<T>) -> Result<Work<T>> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = match lanes.entry((operation, message.other)) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                let started = Lane::start(operation);
                place.insert(started.map_err(Error::io("can't start a thread to carry messages of", "send"))?)
            }
        };
        let (tell, told) = oneshot::channel();
        let ended = Arc::new(AtomicBool::new(false));
        lane.under_way.fetch_add(1, Ordering::AcqRel);
        let (under_way, has_ended) = (Arc::clone(&lane.under_way), Arc::clone(&ended));
        let job: Job = Box::new(move || {
            let result = (message.way)(message);
            // Before anyone can know of the end.
            under_way.fetch_sub(1, Ordering::AcqRel);
            let _ = tell.send(result);
            has_ended.store(true, Ordering::Release);
        });
        if let Some(jobs) = &lane.jobs {
            let _ = jobs.send(job);
        }
        Ok(Work::carried(told, ended))
    }
}

impl Lane {
    fn start(operation: &'static str) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let name = format!("kf-{operation}");
        let thread =
            thread::Builder::new().name(name).spawn(move || queue.into_iter().for_each(|job| job()))?;
        Ok(Self { under_way: Arc::default(), jobs: Some(jobs), thread: Some(thread) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
