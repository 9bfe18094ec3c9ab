//! The instances of one application on one thread: who gets one, how many there are, and what becomes of a used one.
//!
//! A request leases an instance; the lease ends when the response's body has ended and nothing of the request is left.
//! Making and dropping instances (0.5 and 0.2 ms for a Python application) is done by a housekeeper between requests.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, spawn_local, yield_now},
};

use crate::{
    app::App,
    call::{self, CallError, Ended, Reply},
    chain::Chain,
    instance::{Instance, StartError},
    request::Request,
    response::{Response, ResponseBody},
};

/// What of earlier requests a request can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: each request starts from the state after start-up, in an instance of its own.
    Fresh,
    /// What the instance's earlier requests left; one request at a time.
    Reuse,
}

/// The size of a pool, per application and thread.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Whether instances are used again.
    pub isolation: Isolation,
    /// Instances that serve requests at the same time.
    pub live_max: usize,
    /// Instances kept ready in `fresh`.
    pub stock: usize,
    /// Requests that wait for an instance; one more is refused.
    pub queue_max: usize,
    /// How long a request waits for an instance.
    pub queue_wait: Duration,
    /// Requests after which a reused instance is replaced, give or take a quarter, so that not all are replaced at once.
    pub requests_max: u64,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            isolation: Isolation::Fresh,
            live_max: 64,
            stock: 8,
            queue_max: 256,
            queue_wait: Duration::from_secs(5),
            requests_max: 10_000,
        }
    }
}

impl PoolOptions {
    /// The instances that a pool of this size can hold at any one moment.
    pub fn slots(&self) -> usize {
        // One more is being made by the housekeeper while a request takes the last of the stock.
        self.live_max + self.stock.max(1) + DISCARDED_MAX + 1
    }
}

/// Polls after which a call whose response is complete is mostly over.
const POLLS_TO_END: usize = 2;

/// Used instances that wait to be dropped; beyond it they are dropped at once.
const DISCARDED_MAX: usize = 8;

/// The pool. It belongs to one thread and needs a tokio `LocalRuntime` there.
pub struct Pool {
    app: Arc<App>,
    options: PoolOptions,
    permits: Arc<Semaphore>,
    waiting: Cell<usize>,
    /// Instances that nobody uses, the last one hot: in `fresh` started and never used, in `reuse` perhaps used.
    ready: RefCell<Vec<Instance>>,
    discarded: RefCell<Vec<Instance>>,
    /// Tells the housekeeper that one of the two lists has changed.
    changed: Notify,
    housekeeper: RefCell<Option<JoinHandle<()>>>,
}

impl Pool {
    /// Makes the pool and its housekeeper, which fills the stock.
    pub fn start(app: Arc<App>, options: PoolOptions) -> Rc<Self> {
        let pool = Rc::new(Self {
            app,
            permits: Arc::new(Semaphore::new(options.live_max)),
            options,
            waiting: Cell::new(0),
            ready: RefCell::default(),
            discarded: RefCell::default(),
            changed: Notify::new(),
            housekeeper: RefCell::default(),
        });
        let housekeeper = spawn_local(keep_house(pool.clone()));
        *pool.housekeeper.borrow_mut() = Some(housekeeper);
        pool.changed.notify_one();
        pool
    }

    /// The application that the pool serves.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Hands a request to an instance and waits for the head of its response. The body, and whatever else the guest does
    /// afterwards, goes on by itself. Dropping the future before it is done stops the guest.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(self: &Rc<Self>, request: Request) -> Result<Response, CallError> {
        let lease = self.acquire().await?;
        let reply = Rc::new(Reply::default());
        let mut call: Pin<Box<dyn Future<Output = ()>>> = {
            let reply = reply.clone();
            Box::pin(lease.run(request, reply))
        };
        let mut over = false;
        let answer = poll_fn(|context| {
            over = call.as_mut().poll(context).is_ready();
            let answer = match reply.take() {
                Some(answer) => answer,
                None if over => Err(CallError::Trap {
                    source: wasmtime::format_err!("the call ended without an answer"),
                    memory_refused: false,
                }),
                None => return Poll::Pending,
            };
            if let Ok(Response { body: ResponseBody::Full(_), .. }) = &answer {
                // Nothing is left to do for most guests but to yield once and return. If that happens here, the next
                // request finds this instance, which is hot, and not a cold one.
                for _ in 0..POLLS_TO_END {
                    over = over || call.as_mut().poll(context).is_ready();
                }
            }
            Poll::Ready(answer)
        })
        .await;
        if !over {
            // What is left when the head is there becomes a task.
            spawn_local(call);
        }
        answer
    }

    /// Waits for a place, and takes an instance for it.
    async fn acquire(self: &Rc<Self>) -> Result<Lease, CallError> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.queue().await?,
        };
        let ready = self.ready.borrow_mut().pop();
        let instance = match ready {
            Some(instance) => instance,
            None => Instance::start(&self.app).await.map_err(|error| CallError::Instantiate(error.into()))?,
        };
        if self.options.isolation == Isolation::Fresh {
            self.changed.notify_one();
        }
        self.app.usage.in_flight.fetch_add(1, Relaxed);
        Ok(Lease { instance: Some(instance), pool: self.clone(), _permit: permit })
    }

    async fn queue(&self) -> Result<OwnedSemaphorePermit, CallError> {
        if self.waiting.get() >= self.options.queue_max {
            return Err(CallError::Overloaded);
        }
        let _place = Place::take(&self.waiting);
        match tokio::time::timeout(self.options.queue_wait, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(CallError::Overloaded),
        }
    }

    /// Decides what becomes of an instance after a request.
    fn release(&self, instance: Instance, ended: Ended) {
        let again =
            self.options.isolation == Isolation::Reuse && matches!(ended, Ended::Clean) && self.is_fit(&instance);
        if again {
            self.ready.borrow_mut().push(instance);
        } else if self.discarded.borrow().len() < DISCARDED_MAX {
            self.discarded.borrow_mut().push(instance);
            self.changed.notify_one();
        }
    }

    /// Whether a used instance may serve another request: young enough, and not grown to most of its memory, since
    /// componentize-py leaks some bytes per call.
    fn is_fit(&self, instance: &Instance) -> bool {
        let memory_max = self.app.limits.memory_bytes_max / 4 * 3;
        instance.served < instance.spread(self.options.requests_max) && instance.memory_bytes() <= memory_max
    }

    /// How many instances are to be ready.
    fn ready_target(&self) -> usize {
        match self.options.isolation {
            Isolation::Fresh => self.options.stock,
            // The first request finds one; more are made as they are needed, and kept.
            Isolation::Reuse => usize::from(self.permits.available_permits() == self.options.live_max),
        }
    }

    /// Runs shutdown handlers when the host drains: in each kept instance in `reuse`; in `fresh` in one instance, on the
    /// thread that `is_first` names, since an application shuts down once.
    pub async fn shutdown(&self, is_first: bool) {
        if let Some(housekeeper) = self.housekeeper.borrow_mut().take() {
            housekeeper.abort();
        }
        let ready = std::mem::take(&mut *self.ready.borrow_mut());
        let count = match self.options.isolation {
            Isolation::Fresh => usize::from(is_first),
            Isolation::Reuse => ready.len(),
        };
        let mut instances = ready.into_iter();
        for _ in 0..count {
            let instance = match instances.next() {
                Some(instance) => Ok(instance),
                None => Instance::start(&self.app).await,
            };
            let result: Result<(), StartError> = match instance {
                Ok(instance) => instance.shutdown().await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                tracing::error!(app = self.app.name(), error = %Chain(&error), "shutdown failed");
            }
        }
    }
}

/// Drops what was used and fills the stock, one instance per turn of the event loop, and only while no request waits.
/// It keeps the pool alive until [`Pool::shutdown`] ends it, or the runtime does.
async fn keep_house(pool: Rc<Pool>) {
    loop {
        pool.changed.notified().await;
        loop {
            let discarded = pool.discarded.borrow_mut().pop();
            if let Some(instance) = discarded {
                drop(instance);
            } else if pool.waiting.get() == 0 && pool.ready.borrow().len() < pool.ready_target() {
                match Instance::start(&pool.app).await {
                    Ok(instance) => pool.ready.borrow_mut().push(instance),
                    Err(error) => {
                        tracing::error!(app = pool.app.name(), error = %Chain(&error), "cannot fill the stock of instances");
                        // The next request tries again and gets the error.
                        break;
                    }
                }
            } else {
                break;
            }
            yield_now().await;
        }
    }
}

/// An instance in use, and the place that it takes.
struct Lease {
    instance: Option<Instance>,
    pool: Rc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Runs a request to its end and gives the instance back. If the future is dropped before, the instance goes too.
    async fn run(mut self, request: Request, reply: Rc<Reply>) {
        if let Some(instance) = &mut self.instance {
            let ended = call::run(instance, request, self.pool.app.limits(), &reply).await;
            if let Some(instance) = self.instance.take() {
                self.pool.release(instance, ended);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.app.usage.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A place in the queue, given back however the wait ends.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
