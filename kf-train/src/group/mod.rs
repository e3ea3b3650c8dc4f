//! The ranks of a job as one group that communicates.

mod begin;
mod calls;
mod checks;
mod coalesced;
mod collectives;
mod meet;
mod meeting;
mod messages;
mod missing;
mod replace;
mod reporter;
mod store;
mod subgroup;
mod verify;
mod work;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use c10d_sys::{Group, Store};
use tch::Device;

pub(crate) use self::calls::Call;
use self::calls::{Calls, Seen};
use self::meeting::{Meeting, Reach};
use self::messages::Lanes;
use self::reporter::Reporter;
use crate::{Error, LONGEST, Rank, Result};

pub use self::checks::ReduceOp;
pub use self::meeting::RoundPlace;
pub use self::replace::Aborter;
pub use self::work::Work;

/// What carries a group's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// TCP, for tensors in the machine's memory. Collectives whose names end with `async` are under way when their calls
    /// return.
    Gloo,
    /// Memory that the ranks share, for tensors in the machine's memory, where all ranks are on one Linux machine and in
    /// one network namespace. Several times as fast as Gloo: see [`Backend::cpu`].
    SharedMemory,
    /// NVIDIA's, for tensors on GPUs, one GPU a rank. Every collective is done when its call returns.
    #[cfg(feature = "nccl")]
    Nccl,
}

impl Backend {
    /// What is fastest for tensors in the machine's memory: [`SharedMemory`](Self::SharedMemory) where all of the job's
    /// ranks are on one Linux machine, and [`Gloo`](Self::Gloo) where they are not.
    ///
    /// Each of a machine's ranks in a container of its own, with a network of its own, have to name Gloo.
    pub fn cpu(rank: &Rank) -> Self {
        match cfg!(target_os = "linux") && rank.local_world_size() == rank.world_size() {
            true => Self::SharedMemory,
            false => Self::Gloo,
        }
    }
}

/// How long a group waits, and where its tensors are. Times of more than ten years are ten years.
#[derive(Debug, Clone, Copy)]
pub struct GroupOptions {
    /// For all ranks to come together, and then once more for them to connect. For a subgroup, to connect.
    pub join_timeout: Duration,
    /// For each call; for one that is begun, from when its turn comes.
    pub timeout: Duration,
    /// This rank's GPU, for NCCL: a number below that of the GPUs that the process sees. None is the local rank.
    pub gpu: Option<usize>,
    /// Compare the ranks' calls before each collective, so that calls or tensors that do not fit are an error on every
    /// rank; costs a small exchange each, for which one that is to be begun waits, too. The same on all ranks.
    pub verify: bool,
}

impl Default for GroupOptions {
    /// 2 and 5 minutes; the GPU of the local rank's number; calls compared where debug assertions are on.
    fn default() -> Self {
        Self {
            join_timeout: Duration::from_secs(120),
            timeout: Duration::from_secs(300),
            gpu: None,
            verify: cfg!(debug_assertions),
        }
    }
}

impl GroupOptions {
    /// With times that clocks bear to be added to them.
    pub(crate) fn bounded(self) -> Self {
        Self { join_timeout: self.join_timeout.min(LONGEST), timeout: self.timeout.min(LONGEST), ..self }
    }
}

/// The ranks of a job, or [some of them](Self::subgroup), connected.
///
/// All ranks must make the same collective calls in the same order, with tensors of the same shape and type, contiguous and
/// on the group's [`device`](Self::device); messages ([`send`](Self::send), [`recv`](Self::recv)) are between two ranks alone.
/// One thread at a time makes the calls, and the [`Work`]s may go to any. Where they don't, [`GroupOptions::verify`] makes it an error; without it, the
/// values are wrong, time runs out, or, over Gloo, the process is ended from within. Over shared memory it is an error
/// either way.
///
/// A call returns when it is done on this rank, on the GPU too; those whose names end with `async` return a [`Work`]
/// that is a future of that. It fails when it takes longer than the group's timeout; over NCCL only once the GPU has done
/// what it was at before, which CUDA and NCCL wait for. When another rank is gone, Gloo tells at once, and shared memory
/// within some 10 ms; NCCL on one machine does not, and the call fails when its time is over. After a failure the group is
/// of no more use: end the rank, or drop the group and, on every rank alike, join another.
///
/// Calls have numbers, and each rank has a thread that writes the number of its last to the store, once a second where it
/// has changed. A call that fails looks there for up to 1.3 s, and its error tells which ranks were missing and what they
/// were last seen at.
///
/// Over NCCL, dropping a group waits some seconds for the other ranks to drop theirs.
pub struct ProcessGroup {
    // They wait for messages under way, which use what follows.
    lanes: RefCell<Lanes>,
    // Before the store, which it uses while it ends.
    group: Group,
    round: RefCell<Arc<Round>>,
    exchanges: Cell<u64>,
    subgroups: Cell<u64>,
}

/// What a group is made of until it is replaced.
#[derive(Debug)]
struct Round {
    // Before the store, which it uses while it ends.
    reporter: Option<Arc<Reporter>>,
    calls: Arc<Calls>,
    store: Arc<Store>,
    /// The ranks' numbers in the job.
    members: Vec<usize>,
    place: Place,
    options: GroupOptions,
}

/// What a rank communicates by.
#[derive(Debug, Clone)]
struct Place {
    backend: Backend,
    device: Device,
    reach: Reach,
}

impl ProcessGroup {
    /// Waits for all ranks of the job, and connects them.
    ///
    /// # Errors
    /// [`Error::NotJoined`] naming the ranks that did not come, [`Error::Collective`] and
    /// [`Error::CollectiveTimedOut`] where connecting fails, [`Error::Gpu`] where NCCL finds no GPU for this rank.
    pub fn join(rank: &Rank, backend: Backend) -> Result<Self> {
        Self::join_with(rank, backend, GroupOptions::default())
    }

    /// Like [`join`](Self::join), with other times.
    ///
    /// # Errors
    /// Those of [`join`](Self::join).
    pub fn join_with(rank: &Rank, backend: Backend, options: GroupOptions) -> Result<Self> {
        Self::join_at(&Meeting::of(rank), rank.local_rank(), backend, options)
    }

    /// Waits for the other ranks of a round, and connects them, as an agent tells. Takes some milliseconds once all ranks
    /// are there.
    ///
    /// The ranks' numbers in the job are those in the round.
    ///
    /// # Errors
    /// Those of [`join`](Self::join); [`Error::Collective`] also, and at once, where the round's store goes away.
    pub fn join_round(
        rank: &Rank,
        round: &RoundPlace,
        backend: Backend,
        options: GroupOptions,
    ) -> Result<Self> {
        Self::join_place(rank.local_rank(), round, backend, options)
    }

    pub(crate) fn join_place(
        local_rank: usize,
        round: &RoundPlace,
        backend: Backend,
        options: GroupOptions,
    ) -> Result<Self> {
        Self::join_at(&Meeting::of_round(round)?, local_rank, backend, options)
    }

    fn join_at(
        meeting: &Meeting,
        local_rank: usize,
        backend: Backend,
        options: GroupOptions,
    ) -> Result<Self> {
        let options = options.bounded();
        let device = device(meeting.rank, local_rank, backend, options.gpu)?;
        let place = Place { backend, device, reach: meeting.reach.clone() };
        let met = meet::meet(meeting, options.join_timeout)?;
        let calls = Calls::new(String::new(), meeting.rank, meeting.world_size, options.timeout);
        let reporter = match meeting.world_size {
            1 => None,
            _ => Some(reporter(meeting, &met.scope)?),
        };
        let members = (0..meeting.world_size).collect();
        let connect = options.join_timeout.min(meeting.connect_timeout());
        Self::connect(Arc::new(met.store), calls, members, reporter, place, connect, options)
    }

    /// Connects ranks that know of one another.
    fn connect(
        store: Arc<Store>,
        calls: Calls,
        members: Vec<usize>,
        reporter: Option<Arc<Reporter>>,
        place: Place,
        connect: Duration,
        options: GroupOptions,
    ) -> Result<Self> {
        let (rank, world_size) = (calls.rank, calls.world_size);
        let scoped = match calls.scope.as_str() {
            "" => None,
            scope => Some(store.prefixed(scope.trim_end_matches('/'))),
        };
        let own = |error| failed(rank, "join", connect, &error);
        let scoped = scoped.transpose().map_err(own)?;
        calls.publish(&store, &Seen::default()).map_err(own)?;
        let here = scoped.as_ref().unwrap_or(store.as_ref());
        let group = meet::connect(here, rank, world_size, connect, |store| match place.device {
            #[cfg(feature = "nccl")]
            Device::Cuda(gpu) => Group::nccl(store, rank, world_size, gpu, connect, options.timeout),
            _ if place.backend == Backend::SharedMemory => {
                Group::shared_memory(store, rank, world_size, connect, options.timeout)
            }
            _ => Group::gloo(store, rank, world_size, place.reach.address(), connect, options.timeout),
        })?;
        let calls = Arc::new(calls);
        if let Some(reporter) = &reporter {
            reporter.tell(&calls);
        }
        let round = Arc::new(Round { reporter, calls, store, members, place, options });
        let lanes = RefCell::default();
        Ok(Self {
            lanes,
            group,
            round: RefCell::new(round),
            exchanges: Cell::new(0),
            subgroups: Cell::new(0),
        })
    }

    /// This process's rank in this group.
    pub fn rank(&self) -> usize {
        self.round.borrow().calls.rank
    }

    /// How many ranks there are.
    pub fn world_size(&self) -> usize {
        self.round.borrow().calls.world_size
    }

    /// The numbers in the job of this group's ranks, in their order.
    pub fn members(&self) -> Vec<usize> {
        self.round.borrow().members.clone()
    }

    /// Where the tensors of its calls have to be.
    pub fn device(&self) -> Device {
        self.round.borrow().place.device
    }

    /// Every rank's bytes on every rank, through the store.
    pub(crate) fn exchange(&self, what: &'static str, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.exchange_in(&self.call(what), bytes)
    }

    fn exchange_in(&self, call: &Call, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let number = self.exchanges.get();
        self.exchanges.set(number + 1);
        let round = self.round();
        let key = |rank: usize| format!("{}{}/{number}/{rank}", round.calls.scope, call.operation());
        call.done(round.store.set(&key(round.calls.rank), bytes))?;
        let from = |rank| call.done(round.store.get(&key(rank), round.options.timeout));
        (0..round.calls.world_size).map(from).collect()
    }

    /// Begins the group's next call, which all ranks make.
    pub(crate) fn call(&self, operation: &'static str) -> Call {
        let round = self.round.borrow();
        Call::of_all(&round.calls, round.reporter.as_ref(), operation)
    }

    fn round(&self) -> Arc<Round> {
        Arc::clone(&self.round.borrow())
    }

    pub(crate) fn raw(&self) -> &Group {
        &self.group
    }

    fn options(&self) -> GroupOptions {
        self.round.borrow().options
    }

    /// The result of a call of all ranks that is over already.
    pub(crate) fn done<T>(&self, operation: &'static str, result: c10d_sys::Result<T>) -> Result<T> {
        self.call(operation).done(result)
    }
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessGroup")
            .field("rank", &self.rank())
            .field("members", &self.members())
            .field("backend", &self.round().place.backend)
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}

fn failed(rank: usize, operation: &'static str, after: Duration, error: &c10d_sys::Error) -> Error {
    let message = error.message().to_owned();
    match error.timed_out() {
        true => {
            Error::CollectiveTimedOut { operation, call: None, rank, after, missing: Vec::new(), message }
        }
        false => Error::collective(operation, rank, message),
    }
}

fn reporter(meeting: &Meeting, scope: &str) -> Result<Arc<Reporter>> {
    Reporter::start(meeting, scope).map_err(|error| {
        Error::collective("join", meeting.rank, format!("can't start the group's thread: {error}"))
    })
}

/// Where a rank's tensors are.
fn device(rank: usize, local_rank: usize, backend: Backend, gpu: Option<usize>) -> Result<Device> {
    match backend {
        Backend::Gloo | Backend::SharedMemory => {
            let _ = (rank, local_rank, gpu);
            Ok(Device::Cpu)
        }
        #[cfg(feature = "nccl")]
        Backend::Nccl => {
            let gpu = gpu.unwrap_or(local_rank);
            let refused = |reason| Error::Gpu { rank, gpu, reason };
            match c10d_sys::gpus() {
                Ok(count) if gpu < count => Ok(Device::Cuda(gpu)),
                Ok(1) => Err(refused("this process sees GPU 0 alone".into())),
                Ok(count) => Err(refused(format!("this process sees GPUs 0 to {}", count - 1))),
                Err(error) => Err(refused(error.message().to_owned())),
            }
        }
    }
}
