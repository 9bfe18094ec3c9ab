//! One connection's bytes, in and out. It knows no protocol.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::epoll::EpollStream;
use crate::ring::RingStream;

/// An accepted TCP connection with `TCP_NODELAY` set.
///
/// * Reading reports the peer's end, and an error, again and again once everything before it was read. The peer may
///   end its side and still be answered.
/// * `poll_write` is pending while the peer does not take what was written: on [`crate::Backend::Uring`] beyond
///   [`crate::Config::staging_bytes_max`], on `epoll` when the socket's own buffer is full.
/// * `poll_flush` is ready as soon as everything written is on its way without further help, that is handed to the
///   driver or the kernel. It does not wait for the peer. An error shows at the next write or at `poll_shutdown`.
/// * `poll_shutdown` waits until everything written was handed to the kernel, then ends this side of the connection.
/// * Dropping it without `poll_shutdown` loses nothing that was written: what is left is sent within
///   [`crate::Config::linger_max`]. If the peer is still sending then, its input is read and thrown away for as
///   long, since closing a socket with unread input makes TCP reset the connection and the peer lose the answer.
pub struct Stream(Kind);

enum Kind {
    Ring(RingStream),
    Epoll(EpollStream),
}

impl Stream {
    /// The address of the other side.
    pub fn peer_addr(&self) -> SocketAddr {
        match &self.0 {
            Kind::Ring(stream) => stream.peer_addr(),
            Kind::Epoll(stream) => stream.peer_addr(),
        }
    }

    /// The address on this side.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Kind::Ring(stream) => stream.local_addr(),
            Kind::Epoll(stream) => stream.local_addr(),
        }
    }

    /// Whether `TCP_NODELAY` is set.
    pub fn nodelay(&self) -> io::Result<bool> {
        match &self.0 {
            Kind::Ring(stream) => stream.nodelay(),
            Kind::Epoll(stream) => stream.nodelay(),
        }
    }
}

impl From<RingStream> for Stream {
    fn from(stream: RingStream) -> Self {
        Self(Kind::Ring(stream))
    }
}

impl From<EpollStream> for Stream {
    fn from(stream: EpollStream) -> Self {
        Self(Kind::Epoll(stream))
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Ring(stream) => Pin::new(stream).poll_read(context, cursor),
            Kind::Epoll(stream) => Pin::new(stream).poll_read(context, cursor),
        }
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Ring(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Epoll(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Ring(stream) => Pin::new(stream).poll_flush(context),
            Kind::Epoll(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Ring(stream) => Pin::new(stream).poll_shutdown(context),
            Kind::Epoll(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Ring(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Kind::Epoll(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }
}
