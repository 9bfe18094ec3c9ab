//! How long a connection may keep the host waiting: idle, in the middle of a request's head, or with a full send buffer.
//!
//! hyper has one time for the first two. Here it is a wrapper round the stream that notes what happens and costs a
//! request no timer: the one timer of a connection is only moved when a deadline comes nearer.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::options::ConnectionLimits;

/// The state of a connection as far as waiting goes. Shared by its stream and its requests.
pub(crate) struct Patience {
    limits: ConnectionLimits,
    reading: Cell<Reading>,
    /// Since when the client has taken nothing although there is something to send.
    blocked: Cell<Option<Instant>>,
}

#[derive(Clone, Copy)]
enum Reading {
    /// Nothing of the next request has come.
    Idle(Instant),
    /// A head has begun and is not complete.
    Head(Instant),
    /// So many requests are being answered.
    Busy(u32),
}

/// What a client did too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    /// Sent no request.
    Idle,
    /// Did not complete a head.
    Head,
    /// Did not take what was sent.
    Write,
}

impl Patience {
    pub(crate) fn new(limits: ConnectionLimits) -> Rc<Self> {
        let reading = Cell::new(Reading::Idle(Instant::now()));
        Rc::new(Self { limits, reading, blocked: Cell::new(None) })
    }

    /// A head is complete; the request runs until the guard is dropped.
    pub(crate) fn request_began(self: &Rc<Self>) -> Busy {
        let running = match self.reading.get() {
            Reading::Busy(running) => running,
            Reading::Idle(_) | Reading::Head(_) => 0,
        };
        self.reading.set(Reading::Busy(running + 1));
        Busy(self.clone())
    }

    fn request_ended(&self) {
        let next = match self.reading.get() {
            Reading::Busy(running) if running > 1 => Reading::Busy(running - 1),
            _ => Reading::Idle(Instant::now()),
        };
        self.reading.set(next);
    }

    fn read(&self) {
        if matches!(self.reading.get(), Reading::Idle(_)) {
            self.reading.set(Reading::Head(Instant::now()));
        }
    }

    /// Notes whether the connection could take what was written to it.
    fn wrote(&self, is_blocked: bool) {
        self.blocked.set(is_blocked.then(|| self.blocked.get().unwrap_or_else(Instant::now)));
    }

    /// When the client will have been too slow, and in what; none while the host owes it an answer.
    fn deadline(&self) -> Option<(Instant, Slow)> {
        let reading = match self.reading.get() {
            Reading::Idle(since) => Some((since + self.limits.idle_timeout, Slow::Idle)),
            Reading::Head(since) => Some((since + self.limits.head_timeout, Slow::Head)),
            Reading::Busy(_) => None,
        };
        let blocked = self.blocked.get().map(|since| (since + self.limits.write_timeout, Slow::Write));
        match (reading, blocked) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
            (one, other) => one.or(other),
        }
    }
}

/// A request whose response has not been handed to the connection yet.
pub(crate) struct Busy(Rc<Patience>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// A stream that tells its [`Patience`] what happens on it.
pub(crate) struct Patient<S> {
    pub(crate) stream: S,
    pub(crate) patience: Rc<Patience>,
}

impl<S: Read + Unpin> Read for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if poll.is_ready() {
            self.patience.read();
        }
        poll
    }
}

impl<S: Write + Unpin> Write for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patience.wrote(poll.is_pending());
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.patience.wrote(poll.is_pending());
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        // What is staged has to go out first, so a client that takes nothing blocks this as it blocks a write.
        self.patience.wrote(poll.is_pending());
        poll
    }
}

/// The one timer of a connection. To be polled after the connection has been.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Timer {
    pub(crate) fn poll_slow(&mut self, patience: &Patience, context: &mut Context<'_>) -> Poll<Slow> {
        loop {
            let Some((deadline, slow)) = patience.deadline() else { return Poll::Pending };
            let deadline = tokio::time::Instant::from_std(deadline);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if deadline <= tokio::time::Instant::now() {
                return Poll::Ready(slow);
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// How long a connection that is told to end may take to flush what it has.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Rc<Patience> {
        Patience::new(ConnectionLimits::default())
    }

    #[test]
    fn an_idle_connection_has_longer_than_one_with_half_a_head() {
        let patience = patience();
        let (idle, slow) = patience.deadline().unwrap();
        assert_eq!(slow, Slow::Idle);
        patience.read();
        let (head, slow) = patience.deadline().unwrap();
        assert_eq!(slow, Slow::Head);
        assert!(head < idle);
        std::thread::sleep(Duration::from_millis(2));
        patience.read();
        assert_eq!(patience.deadline().unwrap().0, head, "more bytes of a head do not win time");
    }

    #[test]
    fn while_a_request_is_answered_the_client_is_not_waited_for() {
        let patience = patience();
        patience.read();
        let busy = patience.request_began();
        assert!(patience.deadline().is_none());
        patience.read();
        assert!(patience.deadline().is_none(), "its body is the guest's to wait for");
        drop(busy);
        assert_eq!(patience.deadline().unwrap().1, Slow::Idle);
    }

    #[test]
    fn a_client_that_takes_nothing_is_slow_until_it_takes_something() {
        let patience = patience();
        let _busy = patience.request_began();
        patience.wrote(true);
        let (first, slow) = patience.deadline().unwrap();
        assert_eq!(slow, Slow::Write);
        std::thread::sleep(Duration::from_millis(2));
        patience.wrote(true);
        assert_eq!(patience.deadline().unwrap().0, first);
        patience.wrote(false);
        assert!(patience.deadline().is_none());
    }
}
