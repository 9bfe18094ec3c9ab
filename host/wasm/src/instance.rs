//! One instance of an application in its own store, and its life: started, used, shut down or thrown away.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::{Duration, Instant},
};

use wasmtime::{Store, UpdateDeadline, component::Accessor};

use crate::{
    app::{App, INTROSPECTION_DEADLINE},
    bindings::{
        covet::app::types,
        exports::covet::app::{app, handler},
    },
    engine::TICK,
    limits::{self, CpuExhausted, Limits, Meter},
    pool::PoolOptions,
    snapshot::{Reset, RestoreError, Sandbox, Snapshot, Tracker},
    state::GuestState,
    turns::{Ticket, Turns},
};

/// A started instance. It runs one request at a time.
pub(crate) struct Instance {
    sandbox: Sandbox<GuestState>,
    handler: handler::Guest,
    app: app::Guest,
    deadline: Duration,
    /// Spreads the ages at which instances are replaced; any value.
    seed: u32,
    /// Requests that it has served.
    pub(crate) served: u64,
    made: Instant,
    /// Entries in the table of host resources that start-up left.
    resources_baseline: usize,
    /// Whether its private memory has been given back since its last request.
    is_trimmed: bool,
}

/// Why an instance cannot serve another request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// A task, stream, future or resource of the request is still there.
    #[error("a handle or task of the request is left")]
    Handles,
    /// It cannot be put back to the snapshot.
    #[error("it cannot be put back")]
    Restore(#[from] RestoreError),
}

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No room in the pool, or the component itself cannot be instantiated.
    #[error("cannot instantiate the component")]
    Instantiate(#[source] wasmtime::Error),
    /// The guest trapped in a call outside of requests.
    #[error("the application trapped in {step}")]
    Trap {
        /// The export.
        step: &'static str,
        #[source]
        /// What happened.
        source: wasmtime::Error,
    },
    /// The system refused to map the snapshot.
    #[error("cannot map the application's snapshot")]
    Attach(#[source] io::Error),
    /// A start-up handler failed.
    #[error("the application's start-up failed: {0}")]
    Startup(String),
    /// It took too long.
    #[error("the application took longer than {limit:?} in {step}")]
    Slow {
        /// The export.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
}

impl Instance {
    /// Makes an instance in the state after start-up: from the application's snapshot, or by running its start-up.
    pub(crate) async fn start(app: &App) -> Result<Self, StartError> {
        let mut instance = Self::instantiate(app).await?;
        match &app.snapshot {
            Some(snapshot) => {
                instance.sandbox.attach(snapshot).map_err(StartError::Attach)?;
                instance.sandbox.store().data_mut().memory.adopt(snapshot.bytes());
            }
            None => instance.start_up().await?,
        }
        Ok(instance)
    }

    /// Makes an instance that nothing has been called in.
    pub(crate) async fn instantiate(app: &App) -> Result<Self, StartError> {
        let state = GuestState::new(app.settings.clone(), app.usage.clone(), &app.limits);
        let mut store = Store::new(app.pre.engine(), state);
        fence(&mut store);
        store.data().meter.begin(app.limits.cpu_max);
        let meter = store.data().meter.clone();
        let made = Sandbox::instantiate(store, &app.initial, app.snapshot.as_deref(), async |store| {
            let instance = app.pre.instantiate_async(&mut *store).await?;
            Ok((app.handler.load(&mut *store, &instance)?, app.app.load(&mut *store, &instance)?))
        });
        let (sandbox, (handler, exports)) =
            metered(&meter, Ticket::default(), made).await.map_err(StartError::Instantiate)?;
        Ok(Self {
            sandbox,
            handler,
            app: exports,
            deadline: app.limits.deadline,
            // Without randomness all instances are replaced at the same age, which is no reason to fail.
            seed: getrandom::u32().unwrap_or_default(),
            served: 0,
            made: Instant::now(),
            resources_baseline: 0,
            is_trimmed: false,
        })
    }

    /// Runs the application's start-up.
    pub(crate) async fn start_up(&mut self) -> Result<(), StartError> {
        self.lifecycle("startup", async |app, accessor| app.call_startup(accessor).await).await??;
        self.resources_baseline = self.sandbox.store().data_mut().resources();
        Ok(())
    }

    /// Sends requests that no handler sees, so that what a guest makes at its first call is in the snapshot.
    pub(crate) async fn warm_up(&mut self) -> Result<(), StartError> {
        for _ in 0..WARM_UP_CALLS {
            let handler = &self.handler;
            let (limit, meter) = (self.deadline, self.sandbox.data().meter.clone());
            let run = self.sandbox.store().run_concurrent(async |accessor| {
                handler.call_handle(accessor, warm_up_request()).await?;
                poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                wasmtime::Result::Ok(())
            });
            match tokio::time::timeout(limit, metered(&meter, Ticket::default(), run)).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(source)) | Err(source)) => return Err(StartError::Trap { step: "warm-up", source }),
                Err(_) => return Err(StartError::Slow { step: "warm-up", limit }),
            }
        }
        Ok(())
    }

    /// Copies the instance's memory for other instances to begin with. None if it holds something that is not in memory:
    /// handles cannot be copied.
    pub(crate) fn snapshot(&mut self, tracker: &Tracker) -> Option<io::Result<Snapshot>> {
        let is_bare = self.resources_baseline == 0 && self.is_clean();
        is_bare.then(|| self.sandbox.take_snapshot(tracker))
    }

    /// Puts the instance back to the snapshot that it began with.
    pub(crate) fn reset(&mut self) -> Result<Reset, Unfit> {
        if !self.is_clean() {
            return Err(Unfit::Handles);
        }
        Ok(self.sandbox.restore()?)
    }

    /// Gives the private memory of an instance that has been put back to the system; its next request pays for it.
    pub(crate) fn trim(&mut self) -> Result<(), Unfit> {
        if !std::mem::replace(&mut self.is_trimmed, true) {
            self.sandbox.trim()?;
        }
        Ok(())
    }

    /// Whether the memory is that of the snapshot, byte by byte. For audits and tests.
    pub(crate) fn is_restored(&mut self) -> bool {
        self.sandbox.is_restored()
    }

    /// Runs the application's shutdown handlers; errors are for the log, since there is nobody left to act on them.
    pub(crate) async fn shutdown(mut self) -> Result<(), StartError> {
        self.sandbox.store().data_mut().meter.begin(Duration::MAX);
        self.lifecycle("shutdown", async |app, accessor| app.call_shutdown(accessor).await).await?
    }

    /// The application's routes and its OpenAPI document.
    pub(crate) async fn introspect(&mut self) -> Result<(Vec<app::Route>, Option<String>), StartError> {
        self.deadline = INTROSPECTION_DEADLINE;
        let routes = self.outside("routes", async |app, accessor| app.call_routes(accessor).await).await?;
        let openapi = self.outside("openapi", async |app, accessor| app.call_openapi(accessor).await).await?;
        Ok((routes, openapi))
    }

    async fn lifecycle(
        &mut self,
        step: &'static str,
        call: impl AsyncFnOnce(&app::Guest, &Accessor<GuestState>) -> wasmtime::Result<Result<(), String>>,
    ) -> Result<Result<(), StartError>, StartError> {
        Ok(self.outside(step, call).await?.map_err(StartError::Startup))
    }

    /// Calls an export outside of any request, and waits for what it leaves running.
    async fn outside<R>(
        &mut self,
        step: &'static str,
        call: impl AsyncFnOnce(&app::Guest, &Accessor<GuestState>) -> wasmtime::Result<R>,
    ) -> Result<R, StartError> {
        let (exports, limit, meter) = (&self.app, self.deadline, self.sandbox.data().meter.clone());
        let run = self.sandbox.store().run_concurrent(async |accessor| {
            let result = call(exports, accessor).await?;
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            wasmtime::Result::Ok(result)
        });
        let result = tokio::time::timeout(limit, metered(&meter, Ticket::default(), run)).await;
        self.sandbox.store().data_mut().end_request();
        match result {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(source)) | Err(source)) => Err(StartError::Trap { step, source }),
            Err(_) => Err(StartError::Slow { step, limit }),
        }
    }

    /// Starts the accounts of a request.
    pub(crate) fn begin_request(&mut self, limits: &Limits) {
        self.served += 1;
        self.is_trimmed = false;
        let state = self.sandbox.store().data_mut();
        state.begin_request(limits);
        state.usage.requests.fetch_add(1, Relaxed);
    }

    /// Ends them.
    pub(crate) fn end_request(&mut self) {
        self.sandbox.store().data_mut().end_request();
    }

    /// The store and the export that handles requests.
    pub(crate) fn parts(&mut self) -> (&mut Store<GuestState>, &handler::Guest) {
        (self.sandbox.store(), &self.handler)
    }

    /// Whether the last request left nothing behind: no task, stream, future or resource.
    pub(crate) fn is_clean(&mut self) -> bool {
        let baseline = self.resources_baseline;
        let store = self.sandbox.store();
        store.concurrent_state_table_size() == 0 && store.data_mut().resources() == baseline
    }

    /// Processor time of the current request.
    pub(crate) fn meter(&self) -> Arc<Meter> {
        self.sandbox.data().meter.clone()
    }

    /// Whether the current request asked for more memory than its limit.
    pub(crate) fn memory_refused(&self) -> bool {
        self.sandbox.data().memory.refused
    }

    /// Bytes of linear memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.sandbox.data().memory.used()
    }

    /// A number within a quarter of `around`, always the same for this instance.
    fn spread(&self, around: u64) -> u64 {
        let quarter = around / 4;
        around - quarter + u64::from(self.seed) % (2 * quarter).saturating_add(1)
    }

    /// Requests and age at which it is to be replaced.
    pub(crate) fn ends_at(&self, options: &PoolOptions) -> (u64, Instant) {
        let age = u64::try_from(options.age_max.as_millis()).unwrap_or(u64::MAX);
        // So far in the future that it is never is never too.
        let end = self.made.checked_add(Duration::from_millis(self.spread(age)));
        let never = || self.made + Duration::from_secs(1 << 30);
        (self.spread(options.requests_max), end.unwrap_or_else(never))
    }

    /// Whether it has served for long enough.
    pub(crate) fn is_worn(&self, options: &PoolOptions) -> bool {
        let (requests, end) = self.ends_at(options);
        self.served >= requests || Instant::now() >= end
    }

    /// The application's name.
    pub(crate) fn name(&self) -> &str {
        &self.sandbox.data().settings.name
    }
}

/// With fewer, code of the guest that runs for the first time makes every request dearer; more gain nothing.
const WARM_UP_CALLS: usize = 3;

fn warm_up_request() -> types::Request {
    let fields = [("host", "localhost"), ("user-agent", "covet-host"), ("accept", "*/*"), ("accept-encoding", "gzip")];
    types::Request {
        route: NO_ROUTE,
        method: "GET".into(),
        origin: "http://localhost".into(),
        target: "/".into(),
        params: Vec::new(),
        headers: fields.map(|(name, value)| (name.into(), value.into())).into(),
        peer: "127.0.0.1:1".into(),
        body: types::Body::Empty,
    }
}

/// See `request.route` in `wit/types.wit`.
const NO_ROUTE: u32 = u32::MAX;

/// Everything that keeps a guest within its bounds while it runs.
fn fence(store: &mut Store<GuestState>) {
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits::HOSTCALL_BYTES_MAX);
    store.set_max_component_handles(limits::HANDLES_MAX);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|context| {
        let running =
            context.data().meter.check().map_err(|exhausted: CpuExhausted| wasmtime::Error::from(exhausted))?;
        if running < TICK {
            // Most calls take less than a tick. One that was interrupted because a tick fell into it would make the next
            // requests run in other, colder instances.
            return Ok(UpdateDeadline::Continue(1));
        }
        context.data().meter.interrupt();
        // Ends the poll; `metered` makes the guest wait for its next turn.
        Ok(UpdateDeadline::Yield(1))
    });
}

/// Runs a future that runs guest code: waits for its turn before each poll, and charges it to its meter.
pub(crate) async fn metered<F: Future>(meter: &Meter, ticket: Ticket, run: F) -> F::Output {
    let turns = Turns::here();
    let mut run = pin!(run);
    poll_fn(|context| {
        let Some(turns) = &turns else { return meter.slice(|| run.as_mut().poll(context)).0 };
        if !turns.may_run(meter.tenant, &ticket, context) {
            return Poll::Pending;
        }
        let (output, time) = meter.slice(|| run.as_mut().poll(context));
        turns.charge(meter.tenant, &ticket, time);
        output
    })
    .await
}
