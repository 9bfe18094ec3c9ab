//! Opens listening sockets. It accepts nothing; that is [`crate::Listener`].

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds `count` sockets to one address and lets them listen, each with a queue of `backlog` connections, so that
/// every thread accepts from its own socket and the kernel spreads the connections over them (`SO_REUSEPORT`).
///
/// Port 0 is resolved once: all sockets get the same free port, which `local_addr()` of any of them tells.
///
/// # Errors
/// The address, and why not. A port on which anybody listens already is an error even where the kernel would share
/// it.
///
/// # Panics
/// When `count` is 0.
pub fn bind(address: SocketAddr, count: usize, backlog: i32) -> Result<Vec<TcpListener>, BindError> {
    assert!(count > 0, "binding no socket at all");
    bind_all(address, count, backlog).map_err(|error| BindError::new(address, error))
}

/// `SO_REUSEPORT` would silently let a second process of the same user share the port, and each would get a part of
/// the connections. So the first socket is bound without it, which fails if the port is taken by anybody. Only then
/// is the option set on it, which lets its siblings in: the kernel compares the option of both sockets at the moment
/// when the later one binds. The port is never free in between.
fn bind_all(address: SocketAddr, count: usize, backlog: i32) -> io::Result<Vec<TcpListener>> {
    let first = open(address)?;
    first.bind(&address.into())?;
    let resolved = first.local_addr()?;
    let mut sockets = vec![first];
    if count > 1 {
        sockets[0].set_reuse_port(true)?;
        for _ in 1..count {
            let sibling = open(address)?;
            sibling.set_reuse_port(true)?;
            sibling.bind(&resolved)?;
            sockets.push(sibling);
        }
    }
    for socket in &sockets {
        socket.listen(backlog)?;
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

/// A socket that may take over a port whose earlier connections are still in TIME_WAIT, as after a restart.
fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("cannot listen on {address}: the port is in use by another listener")]
    InUse {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// This process may not listen there.
    #[error(
        "cannot listen on {address}: not permitted; a port below the system's limit (net.ipv4.ip_unprivileged_port_start, \
         usually 1024) needs CAP_NET_BIND_SERVICE"
    )]
    NotPermitted {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The machine does not have this address.
    #[error("cannot listen on {address}: no network interface of this machine has this address")]
    NotAvailable {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, source },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { address, source },
            io::ErrorKind::AddrNotAvailable => Self::NotAvailable { address, source },
            _ => Self::Other { address, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn port_zero_is_resolved_once_for_all_sockets() {
        let sockets = bind(loopback(0), 4, 16).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_ne!(address.port(), 0);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
    }

    #[test]
    fn a_port_that_is_listened_on_with_reuse_port_is_busy_all_the_same() {
        let held = bind(loopback(0), 2, 16).unwrap();
        let address = held[0].local_addr().unwrap();
        for count in [1, 2] {
            let error = bind(address, count, 16).unwrap_err();
            assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
            assert!(error.to_string().contains(&address.to_string()), "{error}");
        }
        drop(held);
        bind(address, 2, 16).unwrap();
    }

    #[test]
    fn an_address_that_the_machine_does_not_have_is_named_in_the_error() {
        // TEST-NET-1 of RFC 5737: documentation only, on no interface.
        let error = bind("192.0.2.1:8080".parse().unwrap(), 1, 16).unwrap_err();
        assert!(matches!(error, BindError::NotAvailable { .. }), "{error:?}");
        assert!(error.to_string().contains("192.0.2.1:8080"), "{error}");
    }

    #[test]
    fn the_kernel_spreads_connections_over_the_sockets() {
        let sockets = bind(loopback(0), 2, 128).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
            assert!(socket.accept().is_ok(), "one of two sockets got none of 64 connections");
        }
        drop(clients);
    }
}
