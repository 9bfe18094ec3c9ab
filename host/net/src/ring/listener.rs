//! A listener's handle on its acceptor in the driver.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::task::Poll;

use super::acceptor::Accepted;
use super::operation::Key;
use super::{Ring, RingStream};

pub(crate) struct RingListener {
    ring: Rc<Ring>,
    key: Key,
    local: SocketAddr,
}

impl RingListener {
    pub(crate) fn new(ring: Rc<Ring>, socket: TcpListener) -> io::Result<Self> {
        // io_uring waits on a blocking socket, and fails at once on another.
        socket.set_nonblocking(false)?;
        let local = socket.local_addr()?;
        let key = ring.with(|driver| driver.listen(socket));
        Ok(Self { ring, key, local })
    }

    pub(crate) async fn accept(&mut self) -> io::Result<(RingStream, SocketAddr)> {
        loop {
            match poll_fn(|context| self.poll_accepted(context)).await? {
                // A peer that has gone already has no address, and nothing to ask either.
                Accepted::Connection(socket) => {
                    if let Ok(peer) = socket.peer_addr() {
                        return Ok((self.stream(socket, peer), peer));
                    }
                }
                Accepted::NotBefore(moment) => tokio::time::sleep_until(moment.into()).await,
            }
        }
    }

    fn poll_accepted(&self, context: &std::task::Context<'_>) -> Poll<io::Result<Accepted>> {
        self.ring.with(|driver| match driver.acceptor(self.key) {
            Some((acceptor, kit)) => acceptor.poll_accept(context, kit),
            None => Poll::Ready(Err(io::Error::other("the reactor of this listener has ended"))),
        })
    }

    fn stream(&self, socket: TcpStream, peer: SocketAddr) -> RingStream {
        let key = self.ring.with(|driver| driver.connect(socket));
        RingStream::new(Rc::clone(&self.ring), key, peer)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl Drop for RingListener {
    fn drop(&mut self) {
        self.ring.with(|driver| driver.release_acceptor(self.key));
    }
}
