//! A listening socket on an event loop. It does not open the socket; that is [`crate::bind()`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::reactor::Context;
use crate::stream::Stream;
use crate::{epoll, ring};

/// Accepts connections on the event loop of the thread that made it.
///
/// Dropping it stops accepting. On [`crate::Backend::Uring`] the kernel may have accepted connections already that
/// nobody took with [`Self::accept`]: they are closed, as the kernel closes those that wait in a socket's backlog.
/// A host that must not lose them stops new ones first by other means and accepts until none comes.
pub struct Listener(Kind);

enum Kind {
    Ring(ring::RingListener),
    Epoll(epoll::EpollListener),
}

impl Listener {
    /// Puts a listening socket on the event loop that this thread is running. Its connections get `TCP_NODELAY`.
    ///
    /// # Errors
    /// When called outside [`crate::Reactor::block_on`], or when the socket cannot be set up.
    pub fn new(socket: TcpListener) -> io::Result<Self> {
        // Linux hands this option down to the accepted sockets, which saves a system call on each.
        socket2::SockRef::from(&socket).set_tcp_nodelay(true)?;
        let kind = match Context::current() {
            Some(Context::Ring(ring)) => Kind::Ring(ring::RingListener::new(ring, socket)?),
            Some(Context::Epoll(poller)) => Kind::Epoll(epoll::EpollListener::new(poller, socket)?),
            None => {
                return Err(io::Error::other("a listener can only be made inside Reactor::block_on"));
            }
        };
        Ok(Self(kind))
    }

    /// The next connection and the peer's address. Dropping the future loses no connection.
    ///
    /// Running out of file descriptors or kernel memory is not an error but a pause, after which it tries again
    /// (10 ms, doubling up to 500 ms); [`crate::Stats::accept_pauses`] counts them. A connection that failed before
    /// it was accepted is skipped.
    ///
    /// # Errors
    /// Only such as make the listener useless.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match &mut self.0 {
            Kind::Ring(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::from(stream), peer))
            }
            Kind::Epoll(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::from(stream), peer))
            }
        }
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Kind::Ring(listener) => listener.local_addr(),
            Kind::Epoll(listener) => listener.local_addr(),
        }
    }
}

/// What a failed accept means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptFailure {
    /// This one connection is lost; the next may be well.
    Connection,
    /// Descriptors or memory have run out: trying again at once would spin, since the connection stays in the
    /// backlog and keeps the socket readable.
    Exhausted,
    /// The listener itself is broken.
    Listener,
}

impl AcceptFailure {
    pub(crate) fn of(errno: i32) -> Self {
        match errno {
            // accept(2): "treat them like EAGAIN by retrying"; EPERM is a firewall's doing.
            libc::ECONNABORTED
            | libc::ECONNRESET
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENONET
            | libc::EPERM
            | libc::EINTR
            | libc::EAGAIN => Self::Connection,
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => Self::Exhausted,
            _ => Self::Listener,
        }
    }
}

/// How long to pause when accepting cannot go on: longer each time in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let pause = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures += 1;
        pause
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Short enough that a burst which used up the descriptors is hardly noticed.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Short enough that a host with free descriptors again accepts within half a second.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_maximum_and_starts_again_after_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.next(), BACKOFF_MIN);
    }

    #[test]
    fn a_listener_outside_a_reactor_is_an_error() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(Listener::new(socket).is_err());
    }
}
