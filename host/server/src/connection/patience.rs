//! How long a connection may keep the host waiting: idle, in the middle of a request's head, with a full send buffer, or
//! with a stream of HTTP/2 whose window is closed.
//!
//! hyper has one time for the first two. Here it is a wrapper round the stream that notes what happens and costs a
//! request no timer: the one timer of a connection is only moved when a deadline comes nearer.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use slab::Slab;

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::options::ConnectionLimits;

/// The state of a connection as far as waiting goes. Shared by its stream and its requests.
pub(crate) struct Patience {
    limits: ConnectionLimits,
    reading: Cell<Reading>,
    /// Since when the client has taken nothing although there is something to send.
    blocked: Cell<Option<Instant>>,
    /// Whether one request follows the other, so that bytes between them are those of a head.
    in_turn: bool,
    /// For each body on its way: since when nothing more of it was asked for.
    bodies: RefCell<Slab<Option<Instant>>>,
    /// Not later than the earliest of `bodies`.
    stalled: Cell<Option<Instant>>,
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
    pub(super) fn of_http1(limits: &ConnectionLimits) -> Rc<Self> {
        Self::new(limits, true)
    }

    /// Here bytes may come at any time, pings for example, so that only what is asked for counts. And a body can wait
    /// for its client while the connection as a whole goes on.
    pub(super) fn of_http2(limits: &ConnectionLimits) -> Rc<Self> {
        Self::new(limits, false)
    }

    fn new(limits: &ConnectionLimits, in_turn: bool) -> Rc<Self> {
        Rc::new(Self {
            limits: limits.clone(),
            reading: Cell::new(Reading::Idle(Instant::now())),
            blocked: Cell::default(),
            in_turn,
            bodies: RefCell::default(),
            stalled: Cell::default(),
        })
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
        if self.in_turn && matches!(self.reading.get(), Reading::Idle(_)) {
            self.reading.set(Reading::Head(Instant::now()));
        }
    }

    /// Notes whether the connection could take what was written to it.
    fn wrote(&self, is_blocked: bool) {
        self.blocked.set(is_blocked.then(|| self.blocked.get().unwrap_or_else(Instant::now)));
        if !is_blocked && matches!(self.reading.get(), Reading::Idle(_)) {
            // The rest of a long answer is still being taken.
            self.reading.set(Reading::Idle(Instant::now()));
        }
    }

    /// When the client will have been too slow, and in what; none while the host owes it an answer.
    fn deadline(&self) -> Option<(Instant, Slow)> {
        let reading = match self.reading.get() {
            Reading::Idle(since) => Some((since + self.limits.idle_timeout, Slow::Idle)),
            Reading::Head(since) => Some((since + self.limits.head_timeout, Slow::Head)),
            Reading::Busy(_) => None,
        };
        let write = [self.blocked.get(), self.stalled.get()].into_iter().flatten().min();
        let write = write.map(|since| (since + self.limits.write_timeout, Slow::Write));
        [reading, write].into_iter().flatten().min_by_key(|(deadline, _)| *deadline)
    }

    /// Looks at every body, which is too much for every poll of a connection: to be called when a deadline has passed.
    fn settle(&self) {
        self.stalled.set(self.bodies.borrow().iter().filter_map(|(_, since)| *since).min());
    }
}

/// A request whose response has not been handed to the connection yet.
pub(crate) struct Busy(Rc<Patience>);

impl Busy {
    /// For the body of the response, where the connection cannot tell that nobody takes it.
    pub(crate) fn pace(&self) -> Option<Pace> {
        (!self.0.in_turn).then(|| Pace { key: self.0.bodies.borrow_mut().insert(None), patience: self.0.clone() })
    }
}

/// Notes whether a body is asked for more.
pub(crate) struct Pace {
    patience: Rc<Patience>,
    key: usize,
}

impl Pace {
    /// The connection has room for more: from here on it is the guest that is waited for.
    pub(crate) fn asked(&self) {
        self.patience.bodies.borrow_mut()[self.key] = None;
    }

    /// Something was handed over.
    pub(crate) fn handed(&self) {
        let now = Instant::now();
        self.patience.bodies.borrow_mut()[self.key] = Some(now);
        self.patience.stalled.set(Some(self.patience.stalled.get().unwrap_or(now)));
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.patience.bodies.borrow_mut().remove(self.key);
    }
}

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
            if deadline > tokio::time::Instant::now() {
                sleep.as_mut().reset(deadline);
                continue;
            }
            patience.settle();
            if patience.deadline().is_some_and(|(deadline, _)| deadline <= Instant::now()) {
                return Poll::Ready(slow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    fn patience() -> Rc<Patience> {
        Patience::of_http1(&ConnectionLimits::default())
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

    #[test]
    fn what_of_a_long_answer_is_taken_after_its_end_keeps_the_connection() {
        let patience = patience();
        let (idle, _) = patience.deadline().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        patience.wrote(false);
        assert!(patience.deadline().unwrap().0 > idle);
    }

    #[test]
    fn a_body_that_nobody_takes_makes_its_client_slow_though_the_connection_goes_on() {
        let patience = Patience::of_http2(&ConnectionLimits::default());
        patience.read();
        assert_eq!(patience.deadline().unwrap().1, Slow::Idle, "bytes are no head here");
        let busy = patience.request_began();
        let (first, second) = (busy.pace().unwrap(), busy.pace().unwrap());
        first.asked();
        assert!(patience.deadline().is_none());
        first.handed();
        let (deadline, slow) = patience.deadline().unwrap();
        assert_eq!(slow, Slow::Write);
        std::thread::sleep(Duration::from_millis(2));
        second.handed();
        patience.wrote(false);
        assert_eq!(patience.deadline().unwrap().0, deadline);
        first.asked();
        patience.settle();
        assert!(patience.deadline().unwrap().0 > deadline, "the second waits for a shorter time");
        drop(second);
        patience.settle();
        assert!(patience.deadline().is_none());
    }
}
