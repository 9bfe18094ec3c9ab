//! The io_uring backend. It knows no protocol; hyper and others meet it as [`RingStream`].
//!
//! # How it works
//! All connections of a thread share one ring. Each has one *multishot receive* in the kernel, which yields a
//! completion for every buffer that it filled from the shared pool, and at most one *send*, from a staging buffer of
//! its own. Each listener has one *multishot accept*. So in the steady state a request costs one submission, that of
//! its answer.
//!
//! Tasks only queue submissions and look at what completions left behind. The driver's *turn* does the rest:
//!
//! ```text
//! tasks run: poll_read takes received bytes, poll_write stages, poll_flush queues a send
//!   └─> the first submission wakes the driver's task, which comes up behind the tasks that are ready
//!         └─> turn: one io_uring_enter for all; completions wake tasks ─> tasks run ...
//! no task is ready: tokio calls the park hook ─> turn; nothing to do ─> tokio sleeps in epoll
//! a completion arrives: the ring's descriptor becomes readable ─> epoll wakes the driver's task ─> turn
//! ```
//!
//! # What keeps it sound
//! * The kernel owns a buffer from the submission until its completion was taken ([`connection`], [`buffers`]).
//! * Connections leave their slab only when the kernel has nothing of them in hand; keys carry a generation.
//! * At the end everything is cancelled and reaped before memory is freed, or the memory is leaked ([`driver`]).
//! * The driver is borrowed for short stretches that call no foreign code: wakers are called, and dropped, after.
//!
//! # What keeps it going
//! * A receive that found no buffer goes on without the pool, and no connection holds more than its share of it.
//!   Arming the same receive again at once would livelock: two uploads of 20 MB did it ([`connection`]).
//! * Submissions that find no room, or that the kernel refuses, wait in a queue ([`queue`]).
//! * Accepting backs off when descriptors run out ([`acceptor`]).

mod acceptor;
mod buffers;
mod connection;
mod driver;
mod listener;
mod operation;
mod queue;
mod setup;
mod staging;
mod stream;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::driver::Driver;
use crate::config::Config;
use crate::stats::Stats;

pub(crate) use self::listener::RingListener;
pub use self::setup::Unavailable;
pub(crate) use self::stream::RingStream;

/// The ring of one thread, shared by its reactor, its listeners and its streams.
pub(crate) struct Ring {
    driver: RefCell<Driver>,
    /// Room for the wakers of one turn, kept from turn to turn.
    wakers: Cell<(Vec<Waker>, Vec<Waker>)>,
}

impl Ring {
    pub(crate) fn new(config: &Config) -> Result<Rc<Self>, Unavailable> {
        let driver = RefCell::new(Driver::new(config)?);
        Ok(Rc::new(Self { driver, wakers: Cell::default() }))
    }

    /// Submits, takes completions and wakes the tasks that can go on.
    pub(crate) fn turn(&self) {
        self.with(Driver::turn);
        self.wake();
    }

    /// The driver's task: it turns when the ring's descriptor is readable, when something was submitted, and when
    /// something is due. To be called inside the runtime that will run it.
    pub(crate) fn drive(self: &Rc<Self>) -> io::Result<impl Future<Output = ()> + use<>> {
        let fd = RingFd { fd: self.with(|driver| driver.ring_fd()), _ring: Rc::clone(self) };
        // SAFETY: the descriptor is the ring's, which stays open as long as `RingFd` keeps the ring alive.
        let watch = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)?;
        let ring = Rc::clone(self);
        Ok(async move {
            let mut sleep = pin!(tokio::time::sleep(FAR));
            let mut sleeps_until = None;
            poll_fn(|context| {
                ring.with(|driver| driver.set_alarm(context.waker()));
                // Cleared before the turn: what completes from here on makes the descriptor readable anew.
                while let Poll::Ready(readable) = watch.poll_read_ready(context) {
                    match readable {
                        Ok(mut guard) => guard.clear_ready(),
                        Err(_) => return Poll::Ready(()), // the runtime ends
                    }
                }
                ring.turn();
                loop {
                    let due = ring.with(|driver| driver.next_due());
                    if due != sleeps_until {
                        sleeps_until = due;
                        sleep.as_mut().reset(due.unwrap_or_else(|| Instant::now() + FAR).into());
                    }
                    if sleep.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    sleeps_until = None;
                    ring.with(|driver| driver.expire(Instant::now()));
                    ring.turn();
                }
            })
            .await;
        })
    }

    pub(crate) fn shutdown(&self) {
        self.with(Driver::shutdown);
        self.wake();
    }

    pub(crate) fn stats(&self) -> Stats {
        self.with(|driver| driver.stats())
    }

    fn with<R>(&self, f: impl FnOnce(&mut Driver) -> R) -> R {
        f(&mut self.driver.borrow_mut())
    }

    fn wake(&self) {
        let (mut wakers, mut retired) = self.wakers.take();
        self.with(|driver| driver.take_wakers(&mut wakers, &mut retired));
        for waker in wakers.drain(..) {
            waker.wake();
        }
        retired.clear();
        self.wakers.set((wakers, retired));
    }
}

/// The ring's descriptor, for the runtime to watch, and the ring, so that it stays open.
struct RingFd {
    fd: RawFd,
    _ring: Rc<Ring>,
}

impl AsRawFd for RingFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

/// When nothing is due.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);
