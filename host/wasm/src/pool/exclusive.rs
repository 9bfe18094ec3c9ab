//! `fresh` and `reuse`: instances that serve one request at a time.
//!
//! A request leases an instance; the lease ends when the response's body has ended and nothing of the request is left.
//! Then the instance is put back to the application's snapshot (`fresh`), or kept as it is (`reuse`), or discarded. Making
//! and dropping instances is done by a housekeeper between requests, which also gives back memory that nobody needs.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    task::{JoinHandle, spawn_local, yield_now},
};

use super::{InFlight, PoolOptions, places::Places, shut_down};
use crate::{
    app::App,
    call::{self, CallError, Ended, Reply},
    chain::Chain,
    instance::Instance,
    isolation::Isolation,
    metrics::Discard,
    request::Request,
    response::{Response, ResponseBody},
    turns::{Ticket, Turns},
};

/// Polls after which a call whose response is complete is mostly over.
const POLLS_TO_END: usize = 2;

/// Instances that were not needed for so long lose their private memory, and beyond the stock they are dropped.
const SHRINK_EVERY: Duration = Duration::from_secs(10);

/// Used instances that wait to be dropped; beyond it they are dropped at once.
const DISCARDED_MAX: usize = 8;

/// The instances of one application on one thread, in one isolation.
pub(super) struct Exclusive {
    app: Arc<App>,
    /// Never `Shared`.
    isolation: Isolation,
    options: PoolOptions,
    places: Places,
    turns: Rc<Turns>,
    /// Instances that nobody uses, the last one hot: in `fresh` as after start-up, in `reuse` perhaps used.
    ready: RefCell<Vec<Instance>>,
    discarded: RefCell<Vec<Instance>>,
    /// The fewest instances that were in `ready` since the last look: so many were not needed.
    idle_min: Cell<usize>,
    /// Tells the housekeeper that one of the two lists has changed.
    changed: Notify,
    housekeeper: RefCell<Option<JoinHandle<()>>>,
}

impl Exclusive {
    /// Starts the housekeeper too, which fills the stock.
    pub(super) fn start(app: Arc<App>, isolation: Isolation, options: PoolOptions) -> Rc<Self> {
        let exclusive = Rc::new(Self {
            app,
            isolation,
            places: Places::new(options.live_max, &options),
            options,
            turns: Turns::start(),
            ready: RefCell::default(),
            discarded: RefCell::default(),
            idle_min: Cell::new(0),
            changed: Notify::new(),
            housekeeper: RefCell::default(),
        });
        let housekeeper = spawn_local(keep_house(exclusive.clone()));
        *exclusive.housekeeper.borrow_mut() = Some(housekeeper);
        exclusive.changed.notify_one();
        exclusive
    }

    pub(super) async fn call(self: &Rc<Self>, request: Request) -> Result<Response, CallError> {
        // First the turn and then the instance: whoever waits holds none, so that the next one finds a hot one.
        let ticket = self.places.take_turn(&self.turns, self.app.usage.tenant).await?;
        let lease = self.lease().await?;
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

    /// Waits for a place, and takes an instance for it.
    async fn lease(self: &Rc<Self>) -> Result<Lease, CallError> {
        let place = self.places.take().await?;
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
            owner: self.clone(),
            _place: place,
        })
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
        let is_worn = instance.is_worn(&self.options);
        if self.isolation == Isolation::Reuse {
            // componentize-py leaks some bytes per call, and what a request keeps stays: one that was refused memory would fail
            // all that follow.
            let is_full =
                instance.memory_refused() || instance.memory_bytes() > self.app.limits.memory_bytes_max / 4 * 3;
            return match instance.is_clean() {
                false => Err(Discard::Handles),
                true if is_worn || is_full => Err(Discard::Used),
                true => Ok(()),
            };
        }
        // The numbers of handles depend on those that were open before; so no instance goes on for ever.
        if is_worn || self.app.snapshot.is_none() {
            return Err(Discard::Used);
        }
        let reset = instance.reset().map_err(|unfit| {
            tracing::debug!(app = self.app.name(), error = %Chain(&unfit), "an instance cannot be put back");
            Discard::from(unfit)
        })?;
        self.app.usage.pool.count_reset(reset);
        self.audit(instance)
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

    /// How many instances are to be ready.
    fn ready_target(&self) -> usize {
        if self.isolation == Isolation::Fresh && self.app.snapshot.is_none() {
            // Each request uses one up.
            return self.options.stock;
        }
        // The first request finds one; more are made as they are needed, and kept.
        usize::from(self.places.are_all_free())
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
        if self.isolation == Isolation::Fresh && self.app.snapshot.is_some() {
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

    pub(super) async fn shutdown(&self, is_first: bool) {
        if let Some(housekeeper) = self.housekeeper.borrow_mut().take() {
            housekeeper.abort();
        }
        let ready = self.ready.take();
        let count = match self.isolation {
            Isolation::Fresh => usize::from(is_first),
            Isolation::Reuse | Isolation::Shared => ready.len(),
        };
        let mut instances = ready.into_iter();
        for _ in 0..count {
            shut_down(&self.app, instances.next()).await;
        }
    }
}

/// Drops what was used and fills the stock, one instance per turn of the event loop, and only while no request waits.
/// It keeps the instances alive until [`Exclusive::shutdown`] ends it, or the runtime does.
async fn keep_house(owner: Rc<Exclusive>) {
    let mut next_shrink = Instant::now() + SHRINK_EVERY;
    loop {
        // While nobody needs anything there is nothing to take back either, so an idle host does not wake up for it twice.
        let _ = tokio::time::timeout_at(next_shrink.into(), owner.changed.notified()).await;
        if next_shrink <= Instant::now() {
            next_shrink = Instant::now() + SHRINK_EVERY;
            owner.shrink();
        }
        loop {
            let discarded = owner.discarded.borrow_mut().pop();
            if let Some(instance) = discarded {
                drop(instance);
            } else if !owner.places.has_queue() && owner.ready.borrow().len() < owner.ready_target() {
                match Instance::start(&owner.app).await {
                    // It is cold, so it goes below those that have served.
                    Ok(instance) => owner.ready.borrow_mut().insert(0, instance),
                    Err(error) => {
                        tracing::error!(
                            app = owner.app.name(), error = %Chain(&error), "cannot fill the stock of instances"
                        );
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
    owner: Rc<Exclusive>,
    _in_flight: InFlight,
    _place: OwnedSemaphorePermit,
}

impl Lease {
    /// Runs a request to its end and gives the instance back. If the future is dropped before, the instance goes too.
    async fn run(mut self, request: Request, reply: Rc<Reply>, ticket: Ticket) {
        if let Some(instance) = &mut self.instance {
            let ended = call::run(instance, request, self.owner.app.limits(), &reply, ticket).await;
            if let Some(instance) = self.instance.take() {
                self.owner.release(instance, ended);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nobody waits for the call any more, and a guest cannot be told to stop in the middle.
        if let Some(instance) = self.instance.take() {
            self.owner.discard(instance, Discard::Gone);
        }
    }
}
