//! The ranks of a job as one group that communicates.

mod collectives;
mod meet;
mod replace;
mod verify;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use c10d_sys::{Group, Store};
use tch::Device;

use crate::{Error, Rank, Result};

pub use self::collectives::ReduceOp;
pub use self::replace::Aborter;

/// What carries a group's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// TCP, for tensors in the machine's memory.
    Gloo,
    /// NVIDIA's, for tensors on GPUs, one GPU a rank.
    #[cfg(feature = "nccl")]
    Nccl,
}

/// How long a group waits, and where its tensors are. Times of more than ten years are ten years.
#[derive(Debug, Clone, Copy)]
pub struct GroupOptions {
    /// For all ranks to come together, and then once more for them to connect.
    pub join_timeout: Duration,
    /// For each call.
    pub timeout: Duration,
    /// This rank's GPU, for NCCL: a number below that of the GPUs that the process sees. None is the local rank.
    pub gpu: Option<usize>,
    /// Compare the ranks' calls before each collective, so that calls or tensors that do not fit are an error on every
    /// rank; costs a small exchange each. The same on all ranks.
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
    fn bounded(self) -> Self {
        let longest = Duration::from_secs(10 * 365 * 24 * 3600);
        Self { join_timeout: self.join_timeout.min(longest), timeout: self.timeout.min(longest), ..self }
    }
}

/// The ranks of a job, connected.
///
/// All ranks must make the same calls in the same order, with tensors of the same shape and type, contiguous and on
/// the group's [`device`](Self::device). Where they don't, [`GroupOptions::verify`] makes it an error; without it, the
/// values are wrong, time runs out, or, over Gloo, the process is ended from within.
///
/// A call returns when it is done on this rank, on the GPU too. It fails when it takes longer than the group's timeout;
/// over NCCL only once the GPU has done what it was at before, which CUDA and NCCL wait for. When another rank is gone,
/// Gloo tells at once; NCCL on one machine does not, and the call fails when its time is over. After a failure the group
/// is of no more use: end the rank, or drop the group and, on every rank alike, join another.
///
/// Over NCCL, dropping a group waits some seconds for the other ranks to drop theirs.
pub struct ProcessGroup {
    // Before the store, which it uses while it ends.
    group: Group,
    store: RefCell<Store>,
    place: Cell<Place>,
    device: Device,
    /// Where the other ranks reach this one.
    host: String,
    exchanges: Cell<u64>,
}

/// A rank's place among others, and how it is with them.
#[derive(Debug, Clone, Copy)]
struct Place {
    rank: usize,
    world_size: usize,
    timeout: Duration,
    verify: bool,
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
        let options = options.bounded();
        let device = device(rank, backend, options.gpu)?;
        let host = meet::own_address(rank);
        let store = meet::meet(rank, options.join_timeout)?;
        let group = meet::connect(&store, rank, options, |store| match device {
            #[cfg(feature = "nccl")]
            Device::Cuda(gpu) => {
                Group::nccl(store, rank.rank(), rank.world_size(), gpu, options.join_timeout, options.timeout)
            }
            _ => Group::gloo(
                store,
                rank.rank(),
                rank.world_size(),
                &host,
                options.join_timeout,
                options.timeout,
            ),
        })?;
        Ok(Self {
            group,
            store: RefCell::new(store),
            place: Cell::new(Place {
                rank: rank.rank(),
                world_size: rank.world_size(),
                timeout: options.timeout,
                verify: options.verify,
            }),
            device,
            host,
            exchanges: Cell::new(0),
        })
    }

    /// This process's rank.
    pub fn rank(&self) -> usize {
        self.place.get().rank
    }

    /// How many ranks there are.
    pub fn world_size(&self) -> usize {
        self.place.get().world_size
    }

    /// Where the tensors of its calls have to be.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Every rank's bytes on every rank, through the store.
    pub(crate) fn exchange(&self, what: &'static str, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let round = self.exchanges.get();
        self.exchanges.set(round + 1);
        let key = |rank: usize| format!("{what}/{round}/{rank}");
        let store = self.store.borrow();
        self.done(what, store.set(&key(self.rank()), bytes))?;
        (0..self.world_size()).map(|rank| self.done(what, store.get(&key(rank), self.timeout()))).collect()
    }

    pub(crate) fn raw(&self) -> &Group {
        &self.group
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.place.get().timeout
    }

    pub(crate) fn done<T>(&self, operation: &'static str, result: c10d_sys::Result<T>) -> Result<T> {
        result.map_err(|error| failed(self.rank(), operation, self.timeout(), &error))
    }
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessGroup")
            .field("rank", &self.rank())
            .field("world_size", &self.world_size())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

fn failed(rank: usize, operation: &'static str, after: Duration, error: &c10d_sys::Error) -> Error {
    let message = error.message().to_owned();
    match error.timed_out() {
        true => Error::CollectiveTimedOut { operation, rank, after, message },
        false => Error::Collective { operation, rank, message },
    }
}

/// Where a rank's tensors are.
fn device(rank: &Rank, backend: Backend, gpu: Option<usize>) -> Result<Device> {
    match backend {
        Backend::Gloo => {
            let _ = (rank, gpu);
            Ok(Device::Cpu)
        }
        #[cfg(feature = "nccl")]
        Backend::Nccl => {
            let gpu = gpu.unwrap_or(rank.local_rank());
            let refused = |reason| Error::Gpu { rank: rank.rank(), gpu, reason };
            match c10d_sys::gpus() {
                Ok(count) if gpu < count => Ok(Device::Cuda(gpu)),
                Ok(1) => Err(refused("this process sees GPU 0 alone".into())),
                Ok(count) => Err(refused(format!("this process sees GPUs 0 to {}", count - 1))),
                Err(error) => Err(refused(error.message().to_owned())),
            }
        }
    }
}
