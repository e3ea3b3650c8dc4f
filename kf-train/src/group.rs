//! The ranks of a job as one group that communicates.

use std::cell::Cell;
use std::fmt;
use std::net::{TcpListener, ToSocketAddrs};
use std::time::{Duration, Instant};

use c10d_sys::{Group, Store};
use tch::{Kind, Tensor};

use crate::{Error, Rank, Result};

/// What carries a group's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// TCP, for tensors in the machine's memory.
    Gloo,
}

/// How values of several ranks become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// Their mean; floating point only.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// How long a group waits.
#[derive(Debug, Clone, Copy)]
pub struct GroupOptions {
    /// For all ranks to come together.
    pub join_timeout: Duration,
    /// For each collective.
    pub timeout: Duration,
}

impl Default for GroupOptions {
    /// 2 and 5 minutes.
    fn default() -> Self {
        Self { join_timeout: Duration::from_secs(120), timeout: Duration::from_secs(300) }
    }
}

/// The ranks of a job, connected.
///
/// All ranks must make the same calls in the same order, with tensors of the same shape and type, contiguous and in
/// the machine's memory. A call returns when it is done on this rank; it fails when another rank is gone, and when it
/// takes longer than the group's timeout. After a failure the group is of no more use: end the rank.
pub struct ProcessGroup {
    // Before the store, which it uses while it ends.
    group: Group,
    store: Store,
    rank: usize,
    world_size: usize,
    timeout: Duration,
    exchanges: Cell<u64>,
}

impl ProcessGroup {
    /// Waits for all ranks of the job, and connects them.
    ///
    /// # Errors
    /// [`Error::NotJoined`] naming the ranks that did not come, [`Error::Collective`] where connecting fails.
    pub fn join(rank: &Rank, backend: Backend) -> Result<Self> {
        Self::join_with(rank, backend, GroupOptions::default())
    }

    /// Like [`join`](Self::join), with other times.
    ///
    /// # Errors
    /// Those of [`join`](Self::join).
    pub fn join_with(rank: &Rank, backend: Backend, options: GroupOptions) -> Result<Self> {
        let deadline = Instant::now() + options.join_timeout;
        let store = meeting_place(rank, options.join_timeout)?;
        let name = format!("kf/{}/{}", rank.run_id(), rank.restart_count());
        let store = store
            .prefixed(&name)
            .map_err(|error| failed(rank.rank(), "join", options.join_timeout, &error))?;
        gather(&store, rank, deadline, options.join_timeout)?;
        let Backend::Gloo = backend;
        let connected = store.prefixed("gloo").and_then(|store| {
            Group::gloo(&store, rank.rank(), rank.world_size(), &own_address(rank), options.timeout)
        });
        let group = connected.map_err(|error| failed(rank.rank(), "join", options.timeout, &error))?;
        Ok(Self {
            group,
            store,
            rank: rank.rank(),
            world_size: rank.world_size(),
            timeout: options.timeout,
            exchanges: Cell::new(0),
        })
    }

    /// This process's rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// Gives every rank the values of rank `root`, in place.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()> {
        self.check("broadcast", tensor)?;
        if root >= self.world_size {
            return Err(wrong("broadcast's root", root, format!("a rank below {}", self.world_size)));
        }
        self.done("broadcast", self.group.broadcast(tensor, root))
    }

    /// Reduces each element over all ranks, in place, on every rank.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<()> {
        self.check_reduced("all_reduce", tensor, op)?;
        self.done("all_reduce", self.group.all_reduce(tensor, reduction(op)))?;
        self.average(tensor, op);
        Ok(())
    }

    /// Every rank's tensor on every rank: shape `[world_size, …]` for tensors of shape `[…]`.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        self.check("all_gather", tensor)?;
        let mut shape = tensor.size();
        shape.insert(0, self.world_size as i64);
        let mut output = Tensor::empty(&shape, (tensor.kind(), tensor.device()));
        // Gloo wants the first dimension to be world_size times the input's.
        let mut input = tensor.unsqueeze(0);
        self.done("all_gather", self.group.all_gather(&mut output, &mut input))?;
        Ok(output)
    }

    /// Reduces over all ranks and leaves rank r the r-th part of the first dimension: shape `[n / world_size, …]` for
    /// tensors of shape `[n, …]`.
    ///
    /// # Errors
    /// [`Error::Tensor`] also where n is not a multiple of `world_size`; [`Error::Collective`],
    /// [`Error::CollectiveTimedOut`].
    pub fn reduce_scatter(&self, tensor: &Tensor, op: ReduceOp) -> Result<Tensor> {
        self.check_reduced("reduce_scatter", tensor, op)?;
        let mut shape = tensor.size();
        let world_size = self.world_size as i64;
        let Some(first) = shape.first_mut().filter(|first| **first % world_size == 0) else {
            let expected = format!("a first dimension that is a multiple of {world_size}");
            return Err(wrong("reduce_scatter's tensor", format!("shape {:?}", tensor.size()), expected));
        };
        *first /= world_size;
        let mut output = Tensor::empty(&shape, (tensor.kind(), tensor.device()));
        let mut input = tensor.shallow_clone();
        self.done("reduce_scatter", self.group.reduce_scatter(&mut output, &mut input, reduction(op)))?;
        self.average(&mut output, op);
        Ok(output)
    }

    /// Waits until every rank is here.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn barrier(&self) -> Result<()> {
        self.done("barrier", self.group.barrier())
    }

    /// Every rank's bytes on every rank, through the store.
    pub(crate) fn exchange(&self, what: &'static str, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let round = self.exchanges.get();
        self.exchanges.set(round + 1);
        let key = |rank: usize| format!("{what}/{round}/{rank}");
        self.done(what, self.store.set(&key(self.rank), bytes))?;
        (0..self.world_size).map(|rank| self.done(what, self.store.get(&key(rank), self.timeout))).collect()
    }

    pub(crate) fn raw(&self) -> &Group {
        &self.group
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn done<T>(&self, operation: &'static str, result: c10d_sys::Result<T>) -> Result<T> {
        result.map_err(|error| failed(self.rank, operation, self.timeout, &error))
    }

    fn check(&self, operation: &str, tensor: &Tensor) -> Result<()> {
        let tensor_of = || format!("{operation}'s tensor");
        if tensor.device() != tch::Device::Cpu {
            return Err(wrong(
                tensor_of(),
                format!("device {:?}", tensor.device()),
                "device Cpu, for Gloo".into(),
            ));
        }
        if !tensor.is_contiguous() {
            let found = format!("strides {:?}", tensor.stride());
            return Err(wrong(tensor_of(), found, "a contiguous one: call contiguous() first".into()));
        }
        Ok(())
    }

    fn check_reduced(&self, operation: &str, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        self.check(operation, tensor)?;
        let kind = tensor.kind();
        if op == ReduceOp::Avg && !matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
            let expected = "floating point for a mean".into();
            return Err(wrong(format!("{operation}'s tensor"), format!("type {kind:?}"), expected));
        }
        Ok(())
    }

    /// Gloo has no mean of its own.
    fn average(&self, tensor: &mut Tensor, op: ReduceOp) {
        if op == ReduceOp::Avg {
            let _ = tch::no_grad(|| tensor.detach().g_div_scalar_(self.world_size as f64));
        }
    }
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessGroup")
            .field("rank", &self.rank)
            .field("world_size", &self.world_size)
            .finish_non_exhaustive()
    }
}

fn reduction(op: ReduceOp) -> c10d_sys::Reduction {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => c10d_sys::Reduction::Sum,
        ReduceOp::Min => c10d_sys::Reduction::Min,
        ReduceOp::Max => c10d_sys::Reduction::Max,
    }
}

fn wrong(what: impl Into<String>, found: impl ToString, expected: String) -> Error {
    Error::Tensor { what: what.into(), found: found.to_string(), expected }
}

fn failed(rank: usize, operation: &'static str, after: Duration, error: &c10d_sys::Error) -> Error {
    let message = error.message().to_owned();
    match error.timed_out() {
        true => Error::CollectiveTimedOut { operation, rank, after, message },
        false => Error::Collective { operation, rank, message },
    }
}

/// The store that rank 0 serves.
fn meeting_place(rank: &Rank, timeout: Duration) -> Result<Store> {
    let address = (rank.master_addr(), rank.master_port());
    if !rank.is_main() {
        return Store::connect(address.0, address.1, timeout).map_err(|error| match error.timed_out() {
            true => not_joined(&[0], rank, timeout),
            false => failed(rank.rank(), "join", timeout, &error),
        });
    }
    let refused = |message: String| Error::Collective { operation: "join", rank: 0, message };
    let address = address
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| refused(format!("MASTER_ADDR `{}` names no address", rank.master_addr())))?;
    // On the given address alone: c10d by itself would listen on all.
    let listener = TcpListener::bind(address).map_err(|error| {
        refused(format!("can't listen on {address}: {error}; set MASTER_PORT to a port that is free"))
    })?;
    Store::serve(listener, timeout).map_err(|error| failed(0, "join", timeout, &error))
}

/// Waits until all ranks are there; rank 0 counts, and tells the others.
fn gather(store: &Store, rank: &Rank, deadline: Instant, given: Duration) -> Result<()> {
    let own = |error: c10d_sys::Error| failed(rank.rank(), "join", given, &error);
    let left = || deadline.saturating_duration_since(Instant::now());
    store.set(&format!("here/{}", rank.rank()), b"").map_err(own)?;
    if !rank.is_main() {
        // Rank 0 may take until the deadline, and its answer a little longer.
        return match store.get("missing", left() + Duration::from_secs(5)) {
            Ok(missing) => match serde_json::from_slice::<Vec<usize>>(&missing) {
                Ok(missing) if missing.is_empty() => Ok(()),
                Ok(missing) => Err(not_joined(&missing, rank, given)),
                Err(error) => Err(own_message(rank, format!("rank 0 says rubbish: {error}"))),
            },
            Err(error) => Err(own(error)),
        };
    }
    let mut missing = Vec::new();
    for other in 1..rank.world_size() {
        match store.get(&format!("here/{other}"), left()) {
            Ok(_) => {}
            Err(error) if error.timed_out() => missing.push(other),
            Err(error) => return Err(own(error)),
        }
    }
    let told = serde_json::to_vec(&missing).map_err(|error| own_message(rank, error.to_string()))?;
    store.set("missing", &told).map_err(own)?;
    match missing.is_empty() {
        true => Ok(()),
        false => Err(not_joined(&missing, rank, given)),
    }
}

fn own_message(rank: &Rank, message: String) -> Error {
    Error::Collective { operation: "join", rank: rank.rank(), message }
}

fn not_joined(missing: &[usize], rank: &Rank, after: Duration) -> Error {
    Error::NotJoined { missing: name_ranks(missing), world_size: rank.world_size(), after }
}

/// The name that other ranks reach this one by: where all are on one machine, that of their meeting place.
fn own_address(rank: &Rank) -> String {
    match rank.local_world_size() == rank.world_size() {
        true => rank.master_addr().to_owned(),
        false => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    }
}

/// `rank 1`, `ranks 1 and 3`, `ranks 1, 2 and 3`.
fn name_ranks(ranks: &[usize]) -> String {
    let names: Vec<_> = ranks.iter().map(usize::to_string).collect();
    match names.as_slice() {
        [] => "no rank".into(),
        [one] => format!("rank {one}"),
        [most @ .., last] => format!("ranks {} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_named() {
        assert_eq!(name_ranks(&[1]), "rank 1");
        assert_eq!(name_ranks(&[1, 3]), "ranks 1 and 3");
        assert_eq!(name_ranks(&[1, 2, 3]), "ranks 1, 2 and 3");
    }
}
