//! The event loop of one thread. It starts no thread and handles no signal.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::config::{Backend, Config, Io};
use crate::stats::Stats;
use crate::{epoll, ring};

/// One thread's event loop: a tokio runtime of that thread and, on [`Backend::Uring`], a ring that it drives.
///
/// Everything of tokio works inside: timers, `spawn_local`, sockets on epoll (QUIC uses them). Dropping it drops the
/// tasks, sends what dropped streams still have to send, and ends all operations in the kernel, within
/// [`Config::shutdown_max`].
pub struct Reactor {
    /// `None` only while dropping.
    runtime: Option<LocalRuntime>,
    context: Context,
    fallback: Option<ring::Unavailable>,
}

impl Reactor {
    /// Makes the event loop of the calling thread.
    ///
    /// # Errors
    /// [`SetupError::Ring`] if [`Io::Uring`] was asked for and does not work here. With [`Io::Auto`] that is no
    /// error: the loop then runs on epoll, and [`Self::fallback_reason`] says why.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        config.check().map_err(SetupError::Config)?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .event_interval(config.event_interval)
            .on_thread_park(before_park)
            .build_local(LocalOptions::default())
            .map_err(SetupError::Runtime)?;
        let (context, fallback) = match config.io {
            Io::Epoll => (Context::Epoll(epoll::Poller::new(config)), None),
            Io::Uring | Io::Auto => match open_ring(config, &runtime) {
                Ok(ring) => (Context::Ring(ring), None),
                Err(reason) if config.io == Io::Uring => return Err(SetupError::Ring(reason)),
                Err(reason) => (Context::Epoll(epoll::Poller::new(config)), Some(reason)),
            },
        };
        Ok(Self { runtime: Some(runtime), context, fallback })
    }

    /// The backend in use.
    pub fn backend(&self) -> Backend {
        match self.context {
            Context::Ring(_) => Backend::Uring,
            Context::Epoll(_) => Backend::Epoll,
        }
    }

    /// Why [`Io::Auto`] fell back to epoll, if it did: for the host's log.
    pub fn fallback_reason(&self) -> Option<&ring::Unavailable> {
        self.fallback.as_ref()
    }

    /// Runs the loop until `future` is done. Tasks that it spawned stay, and go on with the next call.
    ///
    /// # Panics
    /// When it is called inside another runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _entered = self.context.enter();
        let runtime = self.runtime.as_ref().expect("the runtime is only taken on drop");
        runtime.block_on(future)
    }

    /// The counters of this loop.
    pub fn stats(&self) -> Stats {
        self.context.stats()
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // First the tasks, and with them nearly all streams and listeners: each hands its rest to the driver.
        drop(self.runtime.take());
        if let Context::Ring(ring) = &self.context {
            ring.shutdown();
        }
    }
}

/// Why there is no event loop.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting makes no sense.
    #[error("network settings: {0}")]
    Config(&'static str),
    /// The tokio runtime could not be made.
    #[error("cannot start the event loop")]
    Runtime(#[source] io::Error),
    /// io_uring was asked for and does not work here.
    #[error("io_uring cannot be used here")]
    Ring(#[source] ring::Unavailable),
}

/// What the thread that runs a reactor has at hand, for the listeners made inside and for the park hook.
#[derive(Clone)]
pub(crate) enum Context {
    Ring(Rc<ring::Ring>),
    Epoll(Rc<epoll::Poller>),
}

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

impl Context {
    /// That of the reactor which this thread is running.
    pub(crate) fn current() -> Option<Self> {
        // During the thread's own end the slot may be gone already; then no reactor runs either.
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    pub(crate) fn stats(&self) -> Stats {
        match self {
            Self::Ring(ring) => ring.stats(),
            Self::Epoll(poller) => poller.stats(),
        }
    }

    fn enter(&self) -> Entered {
        Entered { outer: CURRENT.replace(Some(self.clone())) }
    }
}

/// Puts back the context that was there before, also when the future panics.
struct Entered {
    outer: Option<Context>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let inner = CURRENT.replace(self.outer.take());
        drop(inner);
    }
}

/// tokio calls this when no task is ready, before it waits in epoll: the moment to submit what the tasks queued, in
/// one system call for all of them, and to take what has completed. Tasks woken here keep tokio from waiting.
fn before_park() {
    if let Some(Context::Ring(ring)) = Context::current() {
        ring.turn();
    }
}

fn open_ring(config: &Config, runtime: &LocalRuntime) -> Result<Rc<ring::Ring>, ring::Unavailable> {
    let ring = ring::Ring::new(config)?;
    let _inside = runtime.enter();
    let driver = ring.drive().map_err(ring::Unavailable::Watch)?;
    runtime.spawn_local(driver);
    Ok(ring)
}
