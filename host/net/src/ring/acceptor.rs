//! One listening socket of the ring: the accept that the kernel has in hand and the connections nobody took yet.
//!
//! ```text
//! Armed ──(queue full)──> Cancelling ──> Paused ──(taken)──> Armed
//!   └──(out of descriptors)──> BackingOff ──(time)──> Armed         any ──(drop)──> Closing
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Instant;

use super::connection::Kit;
use super::operation::{Key, Operation, Submission};
use crate::listener::{AcceptFailure, Backoff};

pub(super) struct Acceptor {
    pub(super) key: Key,
    pub(super) socket: TcpListener,
    state: Accepting,
    queue: VecDeque<OwnedFd>,
    queue_max: usize,
    backoff: Backoff,
    waker: Option<std::task::Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Armed,
    /// A cancel is on its way, but connections may come before it works.
    Cancelling,
    Paused,
    BackingOff {
        until: Instant,
    },
    /// An errno that made the listener useless.
    Failed(i32),
    /// The listener was dropped.
    Closing(InKernel),
}

/// Whether the kernel still has the accept in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InKernel {
    Yes,
    No,
}

/// What there is for a listener's task.
pub(super) enum Accepted {
    Connection(TcpStream),
    /// Nothing before this moment; then ask again.
    NotBefore(Instant),
}

impl Acceptor {
    pub(super) fn new(key: Key, socket: TcpListener, queue_max: usize) -> Self {
        Self {
            key,
            socket,
            state: Accepting::Paused,
            queue: VecDeque::new(),
            queue_max,
            backoff: Backoff::default(),
            waker: None,
        }
    }

    // The listener's side.

    pub(super) fn poll_accept(&mut self, context: &Context<'_>, kit: &mut Kit) -> Poll<io::Result<Accepted>> {
        if let Some(socket) = self.queue.pop_front() {
            self.resume(kit);
            return Poll::Ready(Ok(Accepted::Connection(TcpStream::from(socket))));
        }
        match self.state {
            Accepting::Failed(errno) => {
                return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
            }
            Accepting::BackingOff { until } if until > Instant::now() => {
                return Poll::Ready(Ok(Accepted::NotBefore(until)));
            }
            Accepting::BackingOff { .. } => {
                self.state = Accepting::Paused;
                self.resume(kit);
            }
            _ => {}
        }
        kit.retired.extend(self.waker.replace(context.waker().clone()));
        Poll::Pending
    }

    /// Arms the accept if it is not and half of the queue is free.
    pub(super) fn resume(&mut self, kit: &mut Kit) {
        if self.state == Accepting::Paused && self.queue.len() <= self.queue_max / 2 {
            self.state = Accepting::Armed;
            kit.queue.push(Submission::accept(self.socket.as_raw_fd(), self.key));
        }
    }

    /// The listener is gone: the connections that nobody took are closed.
    pub(super) fn release(&mut self, kit: &mut Kit) {
        self.queue.clear();
        kit.retired.extend(self.waker.take());
        let in_kernel = match self.state {
            Accepting::Armed => {
                kit.queue.push(Submission::cancel(Operation::Accept(self.key)));
                InKernel::Yes
            }
            Accepting::Cancelling | Accepting::Closing(InKernel::Yes) => InKernel::Yes,
            _ => InKernel::No,
        };
        self.state = Accepting::Closing(in_kernel);
    }

    /// Whether it can leave the slab, which closes the socket.
    pub(super) fn is_over(&self) -> bool {
        self.state == Accepting::Closing(InKernel::No)
    }

    // The kernel's side.

    /// Takes what an accept completed with. True if accepting has to pause.
    pub(super) fn accepted(&mut self, result: i32, more: bool, kit: &mut Kit) -> bool {
        let failure = match result {
            0.. => {
                // SAFETY: the kernel made this descriptor for us just now and told nobody else.
                let socket = unsafe { OwnedFd::from_raw_fd(result) };
                self.keep_or_close(socket, kit);
                None
            }
            error if -error == libc::ECANCELED => Some(AcceptFailure::Connection),
            error => Some(AcceptFailure::of(-error)),
        };
        if !more {
            self.ended(failure, -result);
        }
        self.resume(kit);
        kit.wakers.extend(self.waker.take());
        matches!(self.state, Accepting::BackingOff { .. }) && !more
    }

    fn keep_or_close(&mut self, socket: OwnedFd, kit: &mut Kit) {
        self.backoff.reset();
        if let Accepting::Closing(_) = self.state {
            return;
        }
        self.queue.push_back(socket);
        if self.state == Accepting::Armed && self.queue.len() >= self.queue_max {
            self.state = Accepting::Cancelling;
            kit.queue.push(Submission::cancel(Operation::Accept(self.key)));
        }
    }

    fn ended(&mut self, failure: Option<AcceptFailure>, errno: i32) {
        self.state = match (self.state, failure) {
            (Accepting::Closing(_), _) => Accepting::Closing(InKernel::No),
            (_, None | Some(AcceptFailure::Connection)) => Accepting::Paused,
            (_, Some(AcceptFailure::Exhausted)) => {
                let pause = self.backoff.next();
                let error = io::Error::from_raw_os_error(errno);
                tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "accepting pauses");
                Accepting::BackingOff { until: Instant::now() + pause }
            }
            (_, Some(AcceptFailure::Listener)) => Accepting::Failed(errno),
        };
    }
}
