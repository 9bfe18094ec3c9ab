//! A stream's handle on its connection in the driver.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::Ring;
use super::connection::{Connection, Kit};
use super::operation::Key;

pub(crate) struct RingStream {
    ring: Rc<Ring>,
    key: Key,
    peer: SocketAddr,
}

impl RingStream {
    pub(super) fn new(ring: Rc<Ring>, key: Key, peer: SocketAddr) -> Self {
        Self { ring, key, peer }
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.with(|connection, _| connection.socket.local_addr()).unwrap_or_else(|| Err(ended()))
    }

    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        self.with(|connection, _| connection.socket.nodelay()).unwrap_or_else(|| Err(ended()))
    }

    fn poll<R>(&self, f: impl FnOnce(&mut Connection, &mut Kit) -> Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        self.with(f).unwrap_or_else(|| Poll::Ready(Err(ended())))
    }

    fn with<R>(&self, f: impl FnOnce(&mut Connection, &mut Kit) -> R) -> Option<R> {
        self.ring.with(|driver| {
            let (connection, kit) = driver.connection(self.key)?;
            Some(f(connection, kit))
        })
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the reactor of this stream has ended")
}

impl Drop for RingStream {
    fn drop(&mut self) {
        self.ring.with(|driver| driver.release_connection(self.key));
    }
}

impl Read for RingStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|connection, kit| connection.poll_read(context, &mut cursor, kit))
    }
}

impl Write for RingStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Connection::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|connection, kit| connection.poll_shutdown(context, kit))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|connection, kit| connection.poll_write(context, slices, kit))
    }
}
