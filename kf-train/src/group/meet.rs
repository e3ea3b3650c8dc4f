//! How the ranks of a job come together.

use std::collections::BTreeMap;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use c10d_sys::{Group, Store};
use serde::{Deserialize, Serialize};

use super::meeting::{Meeting, Server};
use super::{failed, store};
use crate::{Error, Result};

/// Waits for all ranks at the store of rank 0, or at the launcher's or agent's.
///
/// Every meeting has a round of its own there, which rank 0 names: ranks that tried in vain, however often, meet in rank
/// 0's next one, also where the store has outlived the round.
pub(super) fn meet(meeting: &Meeting, given: Duration) -> Result<Met> {
    come_together(meeting, given).map_err(|error| match (error, meeting.server) {
        (Error::Collective { message, .. }, Server::Agent(_)) => {
            own_message(meeting, format!("{}: {message}", meeting.store_name()))
        }
        (error, _) => error,
    })
}

/// Where ranks have met.
pub(super) struct Met {
    pub(super) store: Store,
    /// What its keys begin with in the whole store.
    pub(super) scope: String,
}

impl Met {
    fn at(store: Store, meeting: &Meeting, round: &str) -> Self {
        Self { store, scope: format!("{}/{round}", meeting.scope) }
    }
}

fn come_together(meeting: &Meeting, given: Duration) -> Result<Met> {
    let deadline = Instant::now() + given;
    if meeting.rank == 0 {
        let store = match meeting.server != Server::Rank0 {
            true => reach(meeting, deadline, given)?,
            false => serve(meeting, deadline, given)?,
        };
        let store = own_part(store, meeting, given)?;
        let round = unlike_any();
        let own = |error: c10d_sys::Error| failed(meeting.rank, "join", given, &error);
        let here = store.prefixed(&round).map_err(own)?;
        store.set(ROUND, round.as_bytes()).map_err(own)?;
        count(&here, meeting, deadline, given)?;
        return Ok(Met::at(here, meeting, &round));
    }
    loop {
        match attend(meeting, deadline, given) {
            Ok(Some(met)) => return Ok(met),
            // A round is over when its store is gone.
            Err(error @ Error::Collective { .. }) if matches!(meeting.server, Server::Agent(_)) => {
                return Err(error);
            }
            // Rank 0 has yet to leave the group before, or left it just now and took its store with it.
            Ok(None) | Err(Error::Collective { .. }) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            Ok(None) => return Err(not_joined(&[0], meeting.world_size, given)),
            Err(error) => return Err(error),
        }
    }
}

/// Where rank 0 writes the round's name.
const ROUND: &str = "round";
/// Where rank 0 writes its answer.
const ANSWER: &str = "answer";
/// How often a rank that waits for the answer looks whether the round is still the present one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long rank 0's answer may take once its time is over.
const GRACE: Duration = Duration::from_secs(5);
/// How long rank 0 waits until its own name is known: resolvers remember for half a minute that it was not.
const NAMED_BY: Duration = Duration::from_secs(60);

/// What rank 0 says when the ranks are there, or its time is over.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    missing: Vec<usize>,
    /// What each of the others said: only to those is this an answer.
    came: BTreeMap<usize, String>,
}

/// A name unlike any before it, in this process or in another.
fn unlike_any() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}-{}", std::process::id(), time.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The part of a store that belongs to this start of this job, or to this round.
fn own_part(store: Store, meeting: &Meeting, given: Duration) -> Result<Store> {
    store.prefixed(&meeting.scope).map_err(|error| failed(meeting.rank, "join", given, &error))
}

/// Connects to a store that another process serves.
fn reach(meeting: &Meeting, deadline: Instant, given: Duration) -> Result<Store> {
    // At the very end of the time, too, a store that is there is found to be there.
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
    let (host, port) = (&meeting.store_host, meeting.store_port);
    let connected = match meeting.server {
        // An agent serves a round's store before it tells of it: where it is not there, it is there no more.
        Server::Agent(_) => store::connect_once(host, port, left),
        Server::Rank0 | Server::Launcher => store::connect(host, port, left),
    };
    connected.map_err(|error| {
        let unreached = || format!("can't be reached within {given:?}: {error}");
        match (&error, meeting.server) {
            (Error::Store { .. }, Server::Rank0) => not_joined(&[0], meeting.world_size, given),
            (Error::Store { .. }, Server::Launcher) => {
                own_message(meeting, format!("{} {}", meeting.store_name(), unreached()))
            }
            (Error::Store { .. }, Server::Agent(_)) => {
                own_message(meeting, format!("can't be reached: {error}"))
            }
            _ => error,
        }
    })
}

/// Comes to rank 0's present round; none where that is over, as far as this rank is concerned.
fn attend(meeting: &Meeting, deadline: Instant, given: Duration) -> Result<Option<Met>> {
    let own = |error: c10d_sys::Error| failed(meeting.rank, "join", given, &error);
    let left = || deadline.saturating_duration_since(Instant::now());
    let store = own_part(reach(meeting, deadline, given)?, meeting, given)?;
    let round = match store.get(ROUND, left()) {
        Err(error) if error.timed_out() => return Err(not_joined(&[0], meeting.world_size, given)),
        round => round.map_err(own)?,
    };
    let name = String::from_utf8_lossy(&round);
    let here = store.prefixed(&name).map_err(own)?;
    let said = unlike_any();
    here.set(&format!("here/{}", meeting.rank), said.as_bytes()).map_err(own)?;
    let answer = loop {
        match here.get(ANSWER, LOOK_EVERY.min(left() + GRACE)) {
            Err(error) if error.timed_out() => {
                if Instant::now() >= deadline + GRACE || store.get(ROUND, LOOK_EVERY).map_err(own)? != round {
                    return Ok(None);
                }
            }
            answer => break answer.map_err(own)?,
        }
    };
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|error| own_message(meeting, format!("rank 0 says rubbish: {error}")))?;
    if answer.came.get(&meeting.rank) != Some(&said) {
        return Ok(None);
    }
    match answer.missing.is_empty() {
        true => Ok(Some(Met::at(here, meeting, &name))),
        false => Err(not_joined(&answer.missing, meeting.world_size, given)),
    }
}

/// Connects the ranks that have met, and names those that met and then did not connect.
pub(super) fn connect(
    store: &Store,
    own: usize,
    world_size: usize,
    given: Duration,
    connect: impl FnOnce(&Store) -> c10d_sys::Result<Group>,
) -> Result<Group> {
    let refused = |error: c10d_sys::Error| failed(own, "join", given, &error);
    let key = |rank: usize| format!("connecting/{rank}");
    store.set(&key(own), b"").map_err(refused)?;
    let connected = store.prefixed("connection").and_then(|store| connect(&store));
    connected.map_err(|error| {
        // Where the store is gone, too, nothing more is known.
        let absent = |other: &usize| matches!(store.check(&key(*other)), Ok(false));
        let missing: Vec<_> = (0..world_size).filter(absent).collect();
        match error.timed_out() && !missing.is_empty() {
            true => not_joined(&missing, world_size, given),
            false => refused(error),
        }
    })
}

/// The store of rank 0, by itself.
fn serve(meeting: &Meeting, deadline: Instant, given: Duration) -> Result<Store> {
    let refused = |message: String| Error::collective("join", 0, message);
    let named = || (meeting.store_host.as_str(), meeting.store_port).to_socket_addrs().ok()?.next();
    let address = awaited(named, deadline.min(Instant::now() + NAMED_BY))
        .ok_or_else(|| refused(format!("MASTER_ADDR `{}` names no address", meeting.store_host)))?;
    // On the given address alone: c10d by itself would listen on all.
    let listener = TcpListener::bind(address).map_err(|error| {
        refused(format!("can't listen on {address}: {error}; set MASTER_PORT to a port that is free"))
    })?;
    store::serve(listener, given)
}

/// What comes by asking again until this time; the name of a pod is known only some time after it runs.
fn awaited<T>(mut ask: impl FnMut() -> Option<T>, until: Instant) -> Option<T> {
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= until {
            return answer;
        }
        thread::sleep(Duration::from_millis(200).min(until.saturating_duration_since(Instant::now())));
    }
}

/// Waits until all ranks are there, and tells them whether they are.
fn count(store: &Store, meeting: &Meeting, deadline: Instant, given: Duration) -> Result<()> {
    let own = |error: c10d_sys::Error| failed(meeting.rank, "join", given, &error);
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut answer = Answer { missing: Vec::new(), came: BTreeMap::new() };
    for other in 1..meeting.world_size {
        match store.get(&format!("here/{other}"), left()) {
            Ok(said) => {
                answer.came.insert(other, String::from_utf8_lossy(&said).into_owned());
            }
            Err(error) if error.timed_out() => answer.missing.push(other),
            Err(error) => return Err(own(error)),
        }
    }
    let told = serde_json::to_vec(&answer).map_err(|error| own_message(meeting, error.to_string()))?;
    store.set(ANSWER, &told).map_err(own)?;
    match answer.missing.is_empty() {
        true => Ok(()),
        false => Err(not_joined(&answer.missing, meeting.world_size, given)),
    }
}

fn own_message(meeting: &Meeting, message: String) -> Error {
    Error::collective("join", meeting.rank, message)
}

fn not_joined(missing: &[usize], world_size: usize, after: Duration) -> Error {
    Error::NotJoined { missing: missing.to_vec(), world_size, after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_is_waited_for() {
        let mut asked = 0;
        let third = || {
            asked += 1;
            (asked == 3).then_some("here")
        };
        assert_eq!(awaited(third, Instant::now() + Duration::from_secs(60)), Some("here"));
        assert_eq!(asked, 3);
        let began = Instant::now();
        assert_eq!(awaited(|| None::<()>, began + Duration::from_millis(300)), None);
        assert!(began.elapsed() >= Duration::from_millis(300));
        // Once, also where the time is over.
        assert_eq!(awaited(|| Some(1), began), Some(1));
    }
}
