//! The instances of one application on one thread: who gets one, how many there are, and what becomes of a used one.
//!
//! A request leases an instance; the lease ends when the response's body has ended and nothing of the request is left.
//! Then the instance is put back to the application's snapshot (`fresh`), or kept as it is (`reuse`), or discarded. In
//! `shared` an instance is leased to many requests at once, see there. Making
//! and dropping instances is done by a housekeeper between requests, which also gives back memory that nobody needs.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, spawn_local, yield_now},
};

use crate::{
    app::App,
    call::{self, CallError, Ended, Reply},
    chain::Chain,
    instance::{Instance, StartError},
    metrics::Discard,
    request::Request,
    response::{Response, ResponseBody},
    shared::SharedInstance,
    turns::{Ticket, Turns},
};

/// What of earlier requests a request can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: each request starts from the state after start-up.
    Fresh,
    /// What the instance's earlier requests left; one request at a time.
    Reuse,
    /// The state of all requests that its instance serves, at the same time and before.
    Shared,
}

/// The size of a pool, per application and thread.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Whether instances are used again.
    pub isolation: Isolation,
    /// Instances that serve requests at the same time.
    pub live_max: usize,
    /// In `shared`, requests that one instance serves at the same time.
    pub concurrency_max: usize,
    /// Instances kept ready when there is little to do, and where instances cannot be put back, always.
    pub stock: usize,
    /// Requests that wait for an instance; one more is refused.
    pub queue_max: usize,
    /// How long a request waits for an instance.
    pub queue_wait: Duration,
    /// Requests after which a reused instance is replaced, give or take a quarter, so that not all are replaced at once.
    pub requests_max: u64,
    /// Every so many-th instance that was put back is compared with the snapshot byte by byte; 0 for none.
    pub audit_every: u64,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            isolation: Isolation::Fresh,
            live_max: 64,
            concurrency_max: 64,
            stock: 8,
            queue_max: 256,
            queue_wait: Duration::from_secs(5),
            requests_max: 10_000,
            audit_every: 0,
        }
    }
}

/// Polls after which a call whose response is complete is mostly over.
const POLLS_TO_END: usize = 2;

/// Instances that were not needed for so long lose their private memory, and beyond the stock they are dropped.
const SHRINK_EVERY: Duration = Duration::from_secs(10);

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
    /// Instances that serve many requests each.
    shared: RefCell<Vec<Rc<SharedInstance>>>,
    starting: Mutex<()>,
    /// The fewest instances that were in `ready` since the last look: so many were not needed.
    idle_min: Cell<usize>,
    /// Tells the housekeeper that one of the two lists has changed.
    changed: Notify,
    /// A shared instance has ended.
    ended: Notify,
    turns: Rc<Turns>,
    housekeeper: RefCell<Option<JoinHandle<()>>>,
}

impl Pool {
    /// Makes the pool and its housekeeper, which fills the stock.
    pub fn start(app: Arc<App>, options: PoolOptions) -> Rc<Self> {
        let pool = Rc::new(Self {
            app,
            permits: Arc::new(Semaphore::new(match options.isolation {
                Isolation::Fresh | Isolation::Reuse => options.live_max,
                Isolation::Shared => {
                    options.live_max.saturating_mul(options.concurrency_max).min(Semaphore::MAX_PERMITS)
                }
            })),
            options,
            waiting: Cell::new(0),
            ready: RefCell::default(),
            discarded: RefCell::default(),
            shared: RefCell::default(),
            starting: Mutex::new(()),
            idle_min: Cell::new(0),
            changed: Notify::new(),
            ended: Notify::new(),
            turns: Turns::start(),
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
        if self.options.isolation == Isolation::Shared {
            return self.call_shared(request).await;
        }
        // First the turn and then the instance: whoever waits holds none, so that the next one finds a hot one.
        let ticket = self.take_turn().await?;
        let lease = self.acquire().await?;
        let reply = Rc::new(Reply::default());
        let mut call: Pin<Box<dyn Future<Output = ()>>> = {
            let reply = reply.clone();
            Box::pin(lease.run(request, reply, ticket))
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

    async fn call_shared(self: &Rc<Self>, request: Request) -> Result<Response, CallError> {
        let _permit = self.permit().await?;
        let instance = self.find_shared().await?;
        let _in_flight = InFlight::count(&self.app);
        instance.call(request).await
    }

    /// An instance with room, by preference one that does not compute just now; else a new one.
    async fn find_shared(self: &Rc<Self>) -> Result<Rc<SharedInstance>, CallError> {
        if let Some(instance) = self.choose_shared() {
            return Ok(instance);
        }
        // One starts at a time, and who waited looks again.
        let _starting = self.starting.lock().await;
        if let Some(instance) = self.choose_shared() {
            return Ok(instance);
        }
        let ready = self.ready.borrow_mut().pop();
        let instance = match ready {
            Some(instance) => instance,
            None => Instance::start(&self.app).await.map_err(|error| CallError::Instantiate(error.into()))?,
        };
        let (app, pool) = (self.app.clone(), Rc::downgrade(self));
        let ended = move || {
            if let Some(pool) = pool.upgrade() {
                pool.app.usage.pool.count_discard(Discard::Used);
                pool.ended.notify_waiters();
            }
        };
        let instance = SharedInstance::start(app, instance, self.options.requests_max, ended);
        self.shared.borrow_mut().push(instance.clone());
        Ok(instance)
    }

    fn choose_shared(&self) -> Option<Rc<SharedInstance>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|instance| {
            if instance.is_worn() {
                // It ends by itself when its requests are done.
                instance.retire();
            }
            !instance.is_worn()
        });
        let with_room = || shared.iter().filter(|instance| instance.running() < self.options.concurrency_max);
        let any = || with_room().min_by_key(|instance| instance.running());
        let chosen = with_room().find(|instance| !instance.is_busy());
        chosen.or_else(|| (shared.len() >= self.options.live_max).then(any).flatten()).cloned()
    }

    /// Waits until a guest of this application may run on this thread.
    async fn take_turn(&self) -> Result<Ticket, CallError> {
        let ticket = Ticket::default();
        {
            let mut wait = pin!(self.turns.wait(self.app.usage.tenant, &ticket));
            if poll_fn(|context| Poll::Ready(wait.as_mut().poll(context).is_pending())).await {
                let _place = self.take_place()?;
                tokio::time::timeout(self.options.queue_wait, wait).await.map_err(|_| CallError::Overloaded)?;
            }
        }
        Ok(ticket)
    }

    /// Waits for a place, and takes an instance for it.
    async fn acquire(self: &Rc<Self>) -> Result<Lease, CallError> {
        let permit = self.permit().await?;
        let ready = self.ready.borrow_mut().pop();
        let instance = match ready {
            Some(instance) => instance,
            None => Instance::start(&self.app).await.map_err(|error| CallError::Instantiate(error.into()))?,
        };
        let left = self.ready.borrow().len();
        self.idle_min.set(self.idle_min.get().min(left));
        if left < self.ready_target() {
            self.changed.notify_one();
        }
        Ok(Lease {
            instance: Some(instance),
            _in_flight: InFlight::count(&self.app),
            pool: self.clone(),
            _permit: permit,
        })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, CallError> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => self.queue().await,
        }
    }

    /// A place among the requests that wait.
    fn take_place(&self) -> Result<Place<'_>, CallError> {
        if self.waiting.get() >= self.options.queue_max {
            return Err(CallError::Overloaded);
        }
        Ok(Place::take(&self.waiting))
    }

    async fn queue(&self) -> Result<OwnedSemaphorePermit, CallError> {
        let _place = self.take_place()?;
        match tokio::time::timeout(self.options.queue_wait, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(CallError::Overloaded),
        }
    }

    /// Decides what becomes of an instance after a request.
    fn release(&self, mut instance: Instance, ended: Ended) {
        match self.make_fit(&mut instance, ended) {
            // The last one in is the first one out: it is in the processor's caches.
            Ok(()) => self.ready.borrow_mut().push(instance),
            Err(cause) => self.discard(instance, cause),
        }
    }

    /// Makes a used instance ready for another request, if it can be.
    fn make_fit(&self, instance: &mut Instance, ended: Ended) -> Result<(), Discard> {
        if matches!(ended, Ended::Broken) {
            return Err(Discard::Broken);
        }
        match self.options.isolation {
            Isolation::Fresh if self.app.snapshot.is_none() => Err(Discard::Used),
            // The numbers of handles depend on those that were open before; so no instance goes on for ever.
            Isolation::Fresh if instance.served >= instance.spread(self.options.requests_max) => Err(Discard::Used),
            Isolation::Fresh => {
                let reset = instance.reset().map_err(|unfit| {
                    tracing::debug!(app = self.app.name(), error = %Chain(&unfit), "an instance cannot be put back");
                    Discard::from(unfit)
                })?;
                self.app.usage.pool.count_reset(reset);
                self.audit(instance)
            }
            Isolation::Reuse if !instance.is_clean() => Err(Discard::Handles),
            Isolation::Reuse if !self.is_fit(instance) => Err(Discard::Used),
            // Instances that are shared do not come here.
            Isolation::Reuse | Isolation::Shared => Ok(()),
        }
    }

    /// Looks at the whole memory of every so many-th instance that was put back.
    fn audit(&self, instance: &mut Instance) -> Result<(), Discard> {
        let is_due =
            self.options.audit_every > 0 && self.app.usage.pool.resets().is_multiple_of(self.options.audit_every);
        if is_due && !instance.is_restored() {
            tracing::error!(app = self.app.name(), "an instance that was put back differs from the snapshot");
            return Err(Discard::System);
        }
        Ok(())
    }

    fn discard(&self, instance: Instance, cause: Discard) {
        self.app.usage.pool.count_discard(cause);
        if self.discarded.borrow().len() < DISCARDED_MAX {
            self.discarded.borrow_mut().push(instance);
        }
        self.changed.notify_one();
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
            // Each request uses one up.
            Isolation::Fresh if self.app.snapshot.is_none() => self.options.stock,
            // The first request finds one; more are made as they are needed, and kept.
            Isolation::Shared => usize::from(self.shared.borrow().is_empty()),
            Isolation::Fresh | Isolation::Reuse => {
                usize::from(self.permits.available_permits() == self.options.live_max)
            }
        }
    }

    /// Takes memory from instances that no request has needed since the last time. They are the first in the list.
    fn shrink(&self) {
        let mut ready = self.ready.borrow_mut();
        let unused = self.idle_min.replace(ready.len()).min(ready.len());
        // A used one is as good as gone for `reuse`, which promises no more than that it may find its state.
        let surplus = unused.saturating_sub(self.options.stock.max(1));
        let dropped: Vec<Instance> = ready.drain(..surplus).collect();
        for _ in &dropped {
            self.app.usage.pool.count_discard(Discard::Idle);
        }
        if self.options.isolation == Isolation::Fresh && self.app.snapshot.is_some() {
            let mut idle = unused - surplus;
            ready.retain_mut(|instance| {
                if idle == 0 {
                    return true;
                }
                idle -= 1;
                instance.trim().is_ok()
            });
        }
        self.idle_min.set(ready.len());
    }

    /// Runs shutdown handlers when the host drains: in each kept instance in `reuse` and `shared`; in `fresh` in one instance, on the
    /// thread that `is_first` names, since an application shuts down once.
    pub async fn shutdown(&self, is_first: bool) {
        if let Some(housekeeper) = self.housekeeper.borrow_mut().take() {
            housekeeper.abort();
        }
        let shared = self.shared.take();
        for instance in &shared {
            instance.retire();
        }
        for instance in &shared {
            while !instance.has_ended() {
                self.ended.notified().await;
            }
        }
        let ready = std::mem::take(&mut *self.ready.borrow_mut());
        let count = match self.options.isolation {
            Isolation::Fresh => usize::from(is_first),
            Isolation::Reuse => ready.len(),
            Isolation::Shared => usize::from(is_first && shared.is_empty()),
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
    let mut next_shrink = Instant::now() + SHRINK_EVERY;
    loop {
        // While nobody needs anything there is nothing to take back either, so an idle host does not wake up for it twice.
        let _ = tokio::time::timeout_at(next_shrink.into(), pool.changed.notified()).await;
        if next_shrink <= Instant::now() {
            next_shrink = Instant::now() + SHRINK_EVERY;
            pool.shrink();
        }
        loop {
            let discarded = pool.discarded.borrow_mut().pop();
            if let Some(instance) = discarded {
                drop(instance);
            } else if pool.waiting.get() == 0 && pool.ready.borrow().len() < pool.ready_target() {
                match Instance::start(&pool.app).await {
                    // It is cold, so it goes below those that have served.
                    Ok(instance) => pool.ready.borrow_mut().insert(0, instance),
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
    _in_flight: InFlight,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Runs a request to its end and gives the instance back. If the future is dropped before, the instance goes too.
    async fn run(mut self, request: Request, reply: Rc<Reply>, ticket: Ticket) {
        if let Some(instance) = &mut self.instance {
            let ended = call::run(instance, request, self.pool.app.limits(), &reply, ticket).await;
            if let Some(instance) = self.instance.take() {
                self.pool.release(instance, ended);
            }
        }
    }
}

/// Counts a request as long as it lives.
struct InFlight(Arc<App>);

impl InFlight {
    fn count(app: &Arc<App>) -> Self {
        app.usage.in_flight.fetch_add(1, Relaxed);
        Self(app.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.usage.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nobody waits for the call any more, and a guest cannot be told to stop in the middle.
        if let Some(instance) = self.instance.take() {
            self.pool.discard(instance, Discard::Gone);
        }
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
