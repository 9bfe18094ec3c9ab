//! The backend on tokio's epoll: the same types for kernels and sandboxes without io_uring. No `unsafe`, no staging:
//! the kernel's socket buffers do that.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::config::Config;
use crate::listener::{AcceptFailure, Backoff};
use crate::reactor;
use crate::stats::Stats;

/// What the listeners and streams of one loop share: counters and limits.
pub(crate) struct Poller {
    connections: Cell<u64>,
    accept_pauses: Cell<u64>,
    linger_max: Duration,
}

impl Poller {
    pub(crate) fn new(config: &Config) -> Rc<Self> {
        Rc::new(Self { connections: Cell::new(0), accept_pauses: Cell::new(0), linger_max: config.linger_max })
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { connections: self.connections.get(), accept_pauses: self.accept_pauses.get(), ..Stats::default() }
    }
}

pub(crate) struct EpollListener {
    poller: Rc<Poller>,
    socket: TcpListener,
    backoff: Backoff,
    /// Kept here and not in the future, so that dropping the future does not cut a pause short.
    paused_until: Option<Instant>,
}

impl EpollListener {
    pub(crate) fn new(poller: Rc<Poller>, socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        Ok(Self { poller, socket, backoff: Backoff::default(), paused_until: None })
    }

    pub(crate) async fn accept(&mut self) -> io::Result<(EpollStream, SocketAddr)> {
        loop {
            if let Some(until) = self.paused_until {
                tokio::time::sleep_until(until).await;
                self.paused_until = None;
            }
            let error = match self.socket.accept().await {
                Ok((socket, peer)) => {
                    self.backoff.reset();
                    return Ok((EpollStream::new(Rc::clone(&self.poller), socket, peer), peer));
                }
                Err(error) => error,
            };
            match error.raw_os_error().map_or(AcceptFailure::Listener, AcceptFailure::of) {
                AcceptFailure::Connection => {}
                AcceptFailure::Exhausted => {
                    let pause = self.backoff.next();
                    self.poller.accept_pauses.set(self.poller.accept_pauses.get() + 1);
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "accepting pauses");
                    self.paused_until = Some(Instant::now() + pause);
                }
                AcceptFailure::Listener => return Err(error),
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

pub(crate) struct EpollStream {
    poller: Rc<Poller>,
    /// `None` only while dropping.
    socket: Option<TcpStream>,
    peer: SocketAddr,
}

impl EpollStream {
    fn new(poller: Rc<Poller>, socket: TcpStream, peer: SocketAddr) -> Self {
        poller.connections.set(poller.connections.get() + 1);
        Self { poller, socket: Some(socket), peer }
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        self.socket().nodelay()
    }

    fn socket(&self) -> &TcpStream {
        self.socket.as_ref().expect(SOCKET_IS_THERE)
    }

    fn pinned(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.socket.as_mut().expect(SOCKET_IS_THERE))
    }
}

const SOCKET_IS_THERE: &str = "the socket is only taken on drop";

impl Drop for EpollStream {
    fn drop(&mut self) {
        self.poller.connections.set(self.poller.connections.get() - 1);
        // Closing a socket with unread input resets the connection, and the peer may lose what was written to it.
        // A task can only be left behind while the loop runs; at its end a reset is as good as anything.
        let socket = self.socket.take().expect(SOCKET_IS_THERE);
        let unread = matches!(socket.try_read(&mut [0]), Ok(1..));
        if unread && matches!(reactor::Context::current(), Some(reactor::Context::Epoll(_))) {
            tokio::task::spawn_local(tokio::time::timeout(self.poller.linger_max, drain(socket)));
        }
    }
}

/// Ends this side, then reads and throws away what the peer still sends.
async fn drain(mut socket: TcpStream) -> io::Result<()> {
    std::future::poll_fn(|context| Pin::new(&mut socket).poll_shutdown(context)).await?;
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        socket.readable().await?;
        match socket.try_read(&mut scratch) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

impl Read for EpollStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // hyper's buffer is not initialised and tokio's is another type. Reading into scratch memory and copying
        // costs less than clearing the buffer first and needs no `unsafe`: requests are small.
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(SCRATCH_BYTES, 0);
            let limit = cursor.remaining().min(SCRATCH_BYTES);
            let mut buffer = ReadBuf::new(&mut scratch[..limit]);
            ready!(self.pinned().poll_read(context, &mut buffer))?;
            cursor.put_slice(buffer.filled());
            Poll::Ready(Ok(()))
        })
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

const SCRATCH_BYTES: usize = 64 * 1024;

impl Write for EpollStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(context, slices)
    }
}
