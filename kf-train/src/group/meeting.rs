//! Whom a rank meets and where, as the environment or an agent tells it.

use std::time::Duration;

use c10d_sys::Address;
use serde::{Deserialize, Serialize};

use crate::{Error, Rank, Result};

/// What an agent tells a rank of a round: its place among those that train together, and where they meet.
///
/// Every round has a store of its own, which the agent serves: no key of another round is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundPlace {
    /// The round's number.
    pub number: u64,
    /// This rank's number in the round, from 0.
    pub rank: usize,
    /// How many ranks the round has.
    pub world_size: usize,
    /// The name or address of the host where the round's store listens.
    pub store_host: String,
    /// The port on which it listens.
    pub store_port: u16,
    /// The name or address that the other ranks reach this one by.
    pub host: String,
}

/// Who serves the store where ranks meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Rank0,
    Launcher,
    /// For this round alone.
    Agent(u64),
}

/// A rank's part in a meeting.
#[derive(Debug, Clone)]
pub(super) struct Meeting {
    pub(super) rank: usize,
    pub(super) world_size: usize,
    pub(super) server: Server,
    pub(super) store_host: String,
    pub(super) store_port: u16,
    /// What the store's keys of this meeting begin with.
    pub(super) scope: String,
    pub(super) reach: Reach,
}

impl Meeting {
    /// Of the ranks that the environment tells of.
    pub(super) fn of(rank: &Rank) -> Self {
        Self {
            rank: rank.rank(),
            world_size: rank.world_size(),
            server: if rank.uses_agent_store() { Server::Launcher } else { Server::Rank0 },
            store_host: rank.master_addr().to_owned(),
            store_port: rank.master_port(),
            scope: format!("kf/{}/{}", rank.run_id(), rank.restart_count()),
            reach: Reach::of(rank),
        }
    }

    /// Of a round's ranks.
    pub(super) fn of_round(place: &RoundPlace) -> Result<Self> {
        let RoundPlace { number, rank, world_size, .. } = *place;
        if rank >= world_size {
            let message = format!("the agent says that round {number} has {world_size} ranks, from 0");
            return Err(Error::collective("join", rank, message));
        }
        Ok(Self {
            rank,
            world_size,
            server: Server::Agent(number),
            store_host: place.store_host.clone(),
            store_port: place.store_port,
            scope: format!("kf/round/{number}"),
            reach: Reach::Host(place.host.clone()),
        })
    }

    /// How long ranks that have met may take to connect, which is a matter of milliseconds. Where a round fails, there
    /// is another.
    pub(super) fn connect_timeout(&self) -> Duration {
        match self.server {
            Server::Rank0 | Server::Launcher => Duration::MAX,
            Server::Agent(_) => Duration::from_secs(10),
        }
    }

    /// Whose store it is, and where.
    pub(super) fn store_name(&self) -> String {
        let whose = match self.server {
            Server::Rank0 => "rank 0's store".to_owned(),
            Server::Launcher => "the launcher's store".to_owned(),
            Server::Agent(round) => format!("the store of round {round}"),
        };
        format!("{whose} at {}:{}", self.store_host, self.store_port)
    }
}

/// Where the other ranks reach this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    Host(String),
    Interface(String),
}

impl Reach {
    /// The host that the launcher names; the interface that PyTorch's variable names; where all ranks are on one machine,
    /// that of their meeting place; this machine's name.
    fn of(rank: &Rank) -> Self {
        match (rank.host(), rank.interface()) {
            (Some(host), _) => Self::Host(host.to_owned()),
            (None, Some(interface)) => Self::Interface(interface.to_owned()),
            (None, None) if rank.local_world_size() == rank.world_size() => {
                Self::Host(rank.master_addr().to_owned())
            }
            (None, None) => Self::Host(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        }
    }

    pub(super) fn address(&self) -> Address<'_> {
        match self {
            Self::Host(host) => Address::Host(host),
            Self::Interface(name) => Address::Interface(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_address_is_what_is_named_first() {
        let place = |pairs: &[(&str, &str)]| {
            let all =
                [("RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "meeting"), ("MASTER_PORT", "29500")];
            let all: BTreeMap<&str, &str> = all.iter().chain(pairs).copied().collect();
            Reach::of(&Rank::from_lookup(|name| all.get(name).map(|&value| value.to_owned())).unwrap())
        };
        let (named, interface) = (("KF_TRAIN_HOST", "node-3"), ("GLOO_SOCKET_IFNAME", "eth0,eth1"));
        assert!(matches!(place(&[named, interface]), Reach::Host(host) if host == "node-3"));
        assert!(matches!(place(&[interface]), Reach::Interface(name) if name == "eth0,eth1"));
        assert!(matches!(place(&[]), Reach::Host(host) if host == "meeting"));
        let spread = place(&[("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")]);
        assert!(matches!(spread, Reach::Host(host) if host != "meeting"));
    }

    #[test]
    fn an_agents_word_is_checked() {
        let place = RoundPlace {
            number: 7,
            rank: 2,
            world_size: 3,
            store_host: "node-0".into(),
            store_port: 4000,
            host: "node-2".into(),
        };
        let meeting = Meeting::of_round(&place).unwrap();
        assert_eq!(meeting.store_name(), "the store of round 7 at node-0:4000");
        assert_eq!(meeting.reach, Reach::Host("node-2".into()));
        for world_size in [0, 2] {
            let error = Meeting::of_round(&RoundPlace { world_size, ..place.clone() }).unwrap_err();
            let expected = format!("the agent says that round 7 has {world_size} ranks, from 0");
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
    }
}
