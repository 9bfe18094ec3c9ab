//! `shared`: a few instances, each of which serves many requests at the same time.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use tokio::{
    sync::{Mutex, Notify},
    task::spawn_local,
};

use super::{InFlight, PoolOptions, places::Places, shut_down};
use crate::{
    app::App, call::CallError, chain::Chain, instance::Instance, metrics::Discard, request::Request,
    response::Response, shared::SharedInstance, turns::Turns,
};

/// The shared instances of one application on one thread.
pub(super) struct Sharing {
    app: Arc<App>,
    options: PoolOptions,
    places: Places,
    instances: RefCell<Vec<Rc<SharedInstance>>>,
    starting: Mutex<()>,
    /// An instance has ended.
    ended: Notify,
    /// Kept alive for the instances, which look them up.
    _turns: Rc<Turns>,
}

impl Sharing {
    /// Starts the first instance too, so that the first request finds it.
    pub(super) fn start(app: Arc<App>, options: PoolOptions) -> Rc<Self> {
        let places = Places::new(options.live_max.saturating_mul(options.concurrency_max), &options);
        let sharing = Rc::new(Self {
            app,
            options,
            places,
            instances: RefCell::default(),
            starting: Mutex::new(()),
            ended: Notify::new(),
            _turns: Turns::start(),
        });
        let first = sharing.clone();
        spawn_local(async move {
            if let Err(error) = first.find().await {
                // The next request tries again and gets the error.
                tracing::error!(app = first.app.name(), error = %Chain(&error), "cannot start a shared instance");
            }
        });
        sharing
    }

    pub(super) async fn call(self: &Rc<Self>, request: Request) -> Result<Response, CallError> {
        let _place = self.places.take().await?;
        let instance = self.find().await?;
        let _in_flight = InFlight::count(&self.app);
        instance.call(request).await
    }

    /// An instance with room, by preference one that does not compute just now; else a new one.
    async fn find(self: &Rc<Self>) -> Result<Rc<SharedInstance>, CallError> {
        if let Some(instance) = self.choose() {
            return Ok(instance);
        }
        // One starts at a time, and who waited looks again.
        let _starting = self.starting.lock().await;
        if let Some(instance) = self.choose() {
            return Ok(instance);
        }
        let instance = Instance::start(&self.app).await.map_err(|error| CallError::Instantiate(error.into()))?;
        let (app, sharing) = (self.app.clone(), Rc::downgrade(self));
        let ended = move || {
            if let Some(sharing) = sharing.upgrade() {
                sharing.app.usage.pool.count_discard(Discard::Used);
                sharing.ended.notify_waiters();
            }
        };
        let instance = SharedInstance::start(app, instance, &self.options, ended);
        self.instances.borrow_mut().push(instance.clone());
        Ok(instance)
    }

    fn choose(&self) -> Option<Rc<SharedInstance>> {
        let mut instances = self.instances.borrow_mut();
        instances.retain(|instance| {
            let is_worn = instance.is_worn();
            if is_worn {
                // It ends by itself when its requests are done.
                instance.retire();
            }
            !is_worn
        });
        let with_room = || instances.iter().filter(|instance| instance.running() < self.options.concurrency_max);
        let any = || with_room().min_by_key(|instance| instance.running());
        let chosen = with_room().find(|instance| !instance.is_busy());
        chosen.or_else(|| (instances.len() >= self.options.live_max).then(any).flatten()).cloned()
    }

    /// Lets the instances end, which run their shutdown handlers then.
    pub(super) async fn shutdown(&self, is_first: bool) {
        let instances = self.instances.take();
        for instance in &instances {
            instance.retire();
        }
        for instance in &instances {
            while !instance.has_ended() {
                self.ended.notified().await;
            }
        }
        if is_first && instances.is_empty() {
            shut_down(&self.app, None).await;
        }
    }
}
