//! The instances of one application on one thread: who gets one, how many there are, and what becomes of a used one.
//!
//! Each isolation that a route of the application asks for has instances of its own: [`exclusive`] for `fresh` and
//! `reuse`, whose instances serve one request at a time, [`sharing`] for `shared`. [`places`] bounds both.

mod exclusive;
mod places;
mod sharing;

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use self::{exclusive::Exclusive, sharing::Sharing};
use crate::{
    app::App,
    call::CallError,
    chain::Chain,
    instance::{Instance, StartError},
    isolation::Isolation,
    request::Request,
    response::Response,
};

/// The size of a pool, per application and thread.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// For the routes that do not say themselves.
    pub isolation: Isolation,
    /// Instances that serve requests at the same time, in each isolation that is in use.
    pub live_max: usize,
    /// In `shared`, requests that one instance serves at the same time.
    pub concurrency_max: usize,
    /// Instances kept ready when there is little to do, and where instances cannot be put back, always.
    pub stock: usize,
    /// Requests that wait for an instance; one more is refused.
    pub queue_max: usize,
    /// How long a request waits for an instance.
    pub queue_wait: Duration,
    /// Requests after which a used instance is replaced, give or take a quarter, so that not all are replaced at once.
    pub requests_max: u64,
    /// Age at which a used instance is replaced, give or take a quarter.
    pub age_max: Duration,
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
            age_max: Duration::from_secs(3600),
            audit_every: 0,
        }
    }
}

/// The pool. It belongs to one thread and needs a tokio `LocalRuntime` there.
pub struct Pool {
    app: Arc<App>,
    isolation: Isolation,
    /// Those that a route asks for.
    fresh: Option<Rc<Exclusive>>,
    reuse: Option<Rc<Exclusive>>,
    shared: Option<Rc<Sharing>>,
}

impl Pool {
    /// Makes the pool and fills its stock.
    pub fn start(app: Arc<App>, options: PoolOptions) -> Rc<Self> {
        let isolation = options.isolation;
        let is_asked_for = |wanted| match app.routes() {
            [] => wanted == isolation,
            routes => routes.iter().any(|route| route.isolation.unwrap_or(isolation) == wanted),
        };
        let exclusive = |wanted| is_asked_for(wanted).then(|| Exclusive::start(app.clone(), wanted, options.clone()));
        Rc::new(Self {
            fresh: exclusive(Isolation::Fresh),
            reuse: exclusive(Isolation::Reuse),
            shared: is_asked_for(Isolation::Shared).then(|| Sharing::start(app.clone(), options.clone())),
            isolation,
            app,
        })
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
    pub async fn call(&self, request: Request) -> Result<Response, CallError> {
        let route = usize::try_from(request.route).ok().and_then(|index| self.app.routes().get(index));
        let isolation = route.and_then(|route| route.isolation).unwrap_or(self.isolation);
        match (isolation, &self.fresh, &self.reuse, &self.shared) {
            (Isolation::Fresh, Some(fresh), ..) => fresh.call(request).await,
            (Isolation::Reuse, _, Some(reuse), _) => reuse.call(request).await,
            (Isolation::Shared, .., Some(shared)) => shared.call(request).await,
            // A route that the application does not have, in an isolation that none of its routes has.
            _ => Err(CallError::Lost),
        }
    }

    /// Runs shutdown handlers when the host drains: in each kept instance in `reuse` and `shared`; in `fresh` in one
    /// instance, on the thread that `is_first` names, since an application shuts down once.
    pub async fn shutdown(&self, is_first: bool) {
        if let Some(shared) = &self.shared {
            shared.shutdown(is_first).await;
        }
        for exclusive in [&self.reuse, &self.fresh].into_iter().flatten() {
            exclusive.shutdown(is_first).await;
        }
    }
}

/// Runs an application's shutdown handlers in an instance, or in a new one.
async fn shut_down(app: &App, instance: Option<Instance>) {
    let instance = match instance {
        Some(instance) => Ok(instance),
        None => Instance::start(app).await,
    };
    let result: Result<(), StartError> = match instance {
        Ok(instance) => instance.shutdown().await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::error!(app = app.name(), error = %Chain(&error), "shutdown failed");
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
