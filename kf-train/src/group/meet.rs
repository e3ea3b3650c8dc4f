//! How the ranks of a job come together.

use std::net::{TcpListener, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use c10d_sys::{Group, Store};

use super::{GroupOptions, failed};
use crate::{Error, Rank, Result};

/// Waits for all ranks at the store of rank 0.
///
/// Every meeting has a store of its own, and there a round that rank 0 names: ranks that tried in vain, however often,
/// meet in rank 0's next one.
pub(super) fn meet(rank: &Rank, given: Duration) -> Result<Store> {
    let deadline = Instant::now() + given;
    if rank.is_main() {
        let store = job_store(serve(rank, given)?, rank, given)?;
        let round = round_name();
        let own = |error: c10d_sys::Error| failed(rank.rank(), "join", given, &error);
        let here = store.prefixed(&round).map_err(own)?;
        store.set(ROUND, round.as_bytes()).map_err(own)?;
        count(&here, rank, deadline, given)?;
        return Ok(here);
    }
    loop {
        match attend(rank, deadline, given) {
            Ok(Some(store)) => return Ok(store),
            // Rank 0 has yet to leave the group before, or left it just now and took its store with it.
            Ok(None) | Err(Error::Collective { .. }) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            Ok(None) => return Err(not_joined(&[0], rank, given)),
            Err(error) => return Err(error),
        }
    }
}

/// Where rank 0 writes the round's name.
const ROUND: &str = "round";

/// Unlike any before it, in this process or in an earlier one.
fn round_name() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), time.as_nanos())
}

/// The part of a store that belongs to this start of this job.
fn job_store(store: Store, rank: &Rank, given: Duration) -> Result<Store> {
    let name = format!("kf/{}/{}", rank.run_id(), rank.restart_count());
    store.prefixed(&name).map_err(|error| failed(rank.rank(), "join", given, &error))
}

/// Comes to rank 0's present round; none where that is over, as far as this rank is concerned.
fn attend(rank: &Rank, deadline: Instant, given: Duration) -> Result<Option<Store>> {
    let own = |error: c10d_sys::Error| failed(rank.rank(), "join", given, &error);
    let left = || deadline.saturating_duration_since(Instant::now());
    let store =
        Store::connect(rank.master_addr(), rank.master_port(), left()).map_err(|error| {
            match error.timed_out() {
                true => not_joined(&[0], rank, given),
                false => own(error),
            }
        })?;
    let store = job_store(store, rank, given)?;
    let round = store.get(ROUND, left()).map_err(own)?;
    let round = String::from_utf8_lossy(&round);
    if rank.last_round().as_deref() == Some(&*round) {
        return Ok(None);
    }
    let here = store.prefixed(&round).map_err(own)?;
    here.set(&format!("here/{}", rank.rank()), b"").map_err(own)?;
    // Rank 0 may take until the deadline, and its answer a little longer.
    let missing = here.get("missing", left() + Duration::from_secs(5)).map_err(own)?;
    rank.note_round(&round);
    match serde_json::from_slice::<Vec<usize>>(&missing) {
        Ok(missing) if missing.is_empty() => Ok(Some(here)),
        Ok(missing) => Err(not_joined(&missing, rank, given)),
        Err(error) => Err(own_message(rank, format!("rank 0 says rubbish: {error}"))),
    }
}

/// Connects the ranks that have met, and names those that met and then did not connect.
pub(super) fn connect(
    store: &Store,
    rank: &Rank,
    options: GroupOptions,
    connect: impl FnOnce(&Store) -> c10d_sys::Result<Group>,
) -> Result<Group> {
    let own = |error: c10d_sys::Error| failed(rank.rank(), "join", options.join_timeout, &error);
    let key = |rank: usize| format!("connecting/{rank}");
    store.set(&key(rank.rank()), b"").map_err(own)?;
    let connected = store.prefixed("connection").and_then(|store| connect(&store));
    connected.map_err(|error| {
        // Where the store is gone, too, nothing more is known.
        let absent = |other: &usize| matches!(store.check(&key(*other)), Ok(false));
        let missing: Vec<_> = (0..rank.world_size()).filter(absent).collect();
        match error.timed_out() && !missing.is_empty() {
            true => not_joined(&missing, rank, options.join_timeout),
            false => own(error),
        }
    })
}

/// The store of rank 0, by itself.
fn serve(rank: &Rank, given: Duration) -> Result<Store> {
    let refused = |message: String| Error::Collective { operation: "join", rank: 0, message };
    let address = (rank.master_addr(), rank.master_port())
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| refused(format!("MASTER_ADDR `{}` names no address", rank.master_addr())))?;
    // On the given address alone: c10d by itself would listen on all.
    let listener = TcpListener::bind(address).map_err(|error| {
        refused(format!("can't listen on {address}: {error}; set MASTER_PORT to a port that is free"))
    })?;
    Store::serve(listener, given).map_err(|error| failed(0, "join", given, &error))
}

/// Waits until all ranks are there, and tells them whether they are.
fn count(store: &Store, rank: &Rank, deadline: Instant, given: Duration) -> Result<()> {
    let own = |error: c10d_sys::Error| failed(rank.rank(), "join", given, &error);
    let left = || deadline.saturating_duration_since(Instant::now());
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
pub(super) fn own_address(rank: &Rank) -> String {
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
