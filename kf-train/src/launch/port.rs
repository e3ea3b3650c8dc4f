//! Ports that nobody else takes before the ranks listen on them.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

use crate::contract::Framework;

/// The ports of one start of a job's ranks.
#[derive(Debug)]
pub(super) struct Ports {
    /// Rank 0's, or that of whatever the framework has in its stead.
    pub(super) master: u16,
    /// One for each rank, where the framework has every rank listen.
    pub(super) ranks: Vec<u16>,
    /// Held until the ranks have ended.
    _held: Vec<ReservedPort>,
}

impl Ports {
    pub(super) fn reserve(framework: Framework, ranks: usize) -> io::Result<Self> {
        let listening = if every_rank_listens(framework) { ranks } else { 0 };
        let mut held = (0..=listening).map(|_| ReservedPort::new()).collect::<io::Result<Vec<_>>>()?;
        let mut ports = held.iter().map(ReservedPort::port);
        let (master, ranks) = (ports.next().unwrap_or_default(), ports.collect());
        if framework == Framework::XgBoost {
            // Its tracker does not reuse addresses, so that a port that is held is not free for it.
            held.clear();
        }
        Ok(Self { master, ranks, _held: held })
    }

    /// For a look whether the job's framework goes along with it: none is reserved. The error says why there can't be as many.
    pub(super) fn made_up(framework: Framework, ranks: usize) -> Result<Self, String> {
        let listening = if every_rank_listens(framework) { ranks } else { 0 };
        let most = usize::from(u16::MAX) - 1;
        if listening > most {
            return Err(format!(
                "each of its {ranks} ranks is to listen at a port of its own, as {framework} has it, and this machine has \
                 ports for {most} at most"
            ));
        }
        Ok(Self { master: 1, ranks: (2..=u16::MAX).take(listening).collect(), _held: Vec::new() })
    }
}

fn every_rank_listens(framework: Framework) -> bool {
    matches!(framework, Framework::TensorFlow | Framework::Paddle)
}

/// A loopback port, bound but not listening, with address reuse: the system gives it to nobody who asks for any
/// port, while rank 0, which asks for this one and reuses addresses (as libuv and Rust's `TcpListener` do), gets it.
#[derive(Debug)]
struct ReservedPort {
    port: u16,
    _socket: OwnedFd,
}

impl ReservedPort {
    fn new() -> io::Result<Self> {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::CLOEXEC)?;
        sockopt::set_socket_reuseaddr(&held, true)?;
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddrV4::try_from(getsockname(&held)?)?;
        Ok(Self { port: address.port(), _socket: held })
    }

    fn port(&self) -> u16 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_port_is_free_for_one_who_asks_for_it() {
        let reserved = ReservedPort::new().unwrap();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, reserved.port())).is_err(), "nobody listens yet");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, reserved.port())).unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    }

    #[test]
    fn each_rank_has_a_port_where_all_listen() {
        for (framework, ranks) in
            [(Framework::Torchrun, 0), (Framework::TensorFlow, 3), (Framework::Paddle, 3)]
        {
            let ports = Ports::reserve(framework, 3).unwrap();
            let all: HashSet<_> = ports.ranks.iter().chain([&ports.master]).collect();
            assert_eq!((all.len(), ports.ranks.len()), (ranks + 1, ranks), "{framework}");
        }
        for (framework, ranks) in [(Framework::Torchrun, 1 << 20), (Framework::Paddle, 65_534)] {
            assert!(Ports::made_up(framework, ranks).is_ok(), "{framework}");
        }
        let error = Ports::made_up(Framework::TensorFlow, 65_535).unwrap_err();
        assert!(error.contains("each of its 65535 ranks") && error.contains("65534 at most"), "{error}");
        let ports = Ports::reserve(Framework::XgBoost, 3).unwrap();
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, ports.master)).unwrap();
    }

    #[test]
    fn the_port_is_taken_for_one_who_asks_for_any() {
        let reserved: Vec<_> = (0..200).map(|_| ReservedPort::new().unwrap()).collect();
        let ports: HashSet<_> = reserved.iter().map(ReservedPort::port).collect();
        assert_eq!(ports.len(), reserved.len());
        let others: Vec<_> = (0..200).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        assert!(others.iter().all(|other| !ports.contains(&other.local_addr().unwrap().port())));
    }
}
