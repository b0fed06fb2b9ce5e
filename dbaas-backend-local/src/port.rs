//! Ports of nodes: chosen so that no other program has them, and held.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// A port that other backends on this machine do not choose for as long as this lives, also while the node is
/// off or still being prepared: a socket that has the address and does not listen. It does not keep
/// PostgreSQL, or anybody else who says `SO_REUSEADDR`, from listening there.
#[derive(Debug)]
pub(crate) struct HeldPort(#[expect(dead_code, reason = "its life is what counts")] OwnedFd);

impl HeldPort {
    /// An error where somebody has the port, or had it a moment ago.
    pub(crate) fn take(address: IpAddr, port: u16) -> io::Result<HeldPort> {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddr::new(address, port))?;
        // Only now: with it, the port of another one that is held would have been given to us, too.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        Ok(HeldPort(socket))
    }
}

/// Whether a server could listen there now.
pub(crate) fn is_free(address: IpAddr, port: u16) -> bool {
    TcpListener::bind(SocketAddr::new(address, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn who_listens_has_the_port() {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((localhost, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(localhost, port));
        assert!(HeldPort::take(localhost, port).is_err());
        drop(listener);
        assert!(is_free(localhost, port));
    }

    #[test]
    fn a_port_that_is_held_is_its_servers_alone() {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = TcpListener::bind((localhost, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let held = HeldPort::take(localhost, port).unwrap();
        assert!(
            HeldPort::take(localhost, port).is_err(),
            "another backend's choice"
        );
        assert!(is_free(localhost, port), "its own server may listen");
        let server = TcpListener::bind((localhost, port)).unwrap();
        assert!(std::net::TcpStream::connect((localhost, port)).is_ok());
        drop((server, held));
    }
}
