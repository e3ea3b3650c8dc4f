//! A port that nobody else takes before rank 0 listens on it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

/// A loopback port, bound but not listening, with address reuse: the system gives it to nobody who asks for any
/// port, while rank 0, which asks for this one and reuses addresses (as libuv and Rust's `TcpListener` do), gets it.
#[derive(Debug)]
pub(super) struct ReservedPort {
    port: u16,
    _socket: OwnedFd,
}

impl ReservedPort {
    pub(super) fn new() -> io::Result<Self> {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::CLOEXEC)?;
        sockopt::set_socket_reuseaddr(&held, true)?;
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddrV4::try_from(getsockname(&held)?)?;
        Ok(Self { port: address.port(), _socket: held })
    }

    pub(super) fn port(&self) -> u16 {
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
    fn the_port_is_taken_for_one_who_asks_for_any() {
        let reserved: Vec<_> = (0..200).map(|_| ReservedPort::new().unwrap()).collect();
        let ports: HashSet<_> = reserved.iter().map(ReservedPort::port).collect();
        assert_eq!(ports.len(), reserved.len());
        let others: Vec<_> = (0..200).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        assert!(others.iter().all(|other| !ports.contains(&other.local_addr().unwrap().port())));
    }
}
