//! One instance of an application in its own store, and its life: started, used, shut down or thrown away.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use wasmtime::{Store, UpdateDeadline, component::Accessor};

use crate::{
    app::{App, INTROSPECTION_DEADLINE},
    bindings::exports::covet::app::{app, handler},
    engine::TICK,
    limits::{self, CpuExhausted, Limits, Meter},
    state::GuestState,
};

/// A started instance. It runs one request at a time.
pub(crate) struct Instance {
    store: Store<GuestState>,
    handler: handler::Guest,
    app: app::Guest,
    deadline: Duration,
    /// Spreads the ages at which instances are replaced; any value.
    seed: u32,
    /// Requests that it has served.
    pub(crate) served: u64,
    /// Entries in the table of host resources that start-up left: mostly the standard streams.
    resources_baseline: usize,
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
    /// Makes an instance and runs the application's start-up in it.
    pub(crate) async fn start(app: &App) -> Result<Self, StartError> {
        let state = GuestState::new(app.settings.clone(), app.usage.clone(), &app.limits);
        let mut store = Store::new(app.pre.engine(), state);
        fence(&mut store);
        store.data().meter.begin(app.limits.cpu_max);
        let meter = store.data().meter.clone();
        let made = async {
            let instance = app.pre.instantiate_async(&mut store).await?;
            let handler = app.handler.load(&mut store, &instance)?;
            let exports = app.app.load(&mut store, &instance)?;
            wasmtime::Result::Ok((handler, exports))
        };
        let (handler, exports) = metered(&meter, made).await.map_err(StartError::Instantiate)?;
        let deadline = app.limits.deadline;
        // Without randomness all instances are replaced at the same age, which is no reason to fail.
        let seed = getrandom::u32().unwrap_or_default();
        let mut instance = Self { store, handler, app: exports, deadline, seed, served: 0, resources_baseline: 0 };
        instance.lifecycle("startup", async |app, accessor| app.call_startup(accessor).await).await??;
        instance.resources_baseline = instance.store.data_mut().resources();
        Ok(instance)
    }

    /// Runs the application's shutdown handlers; errors are for the log, since there is nobody left to act on them.
    pub(crate) async fn shutdown(mut self) -> Result<(), StartError> {
        self.store.data_mut().meter.begin(Duration::MAX);
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
        let (exports, limit, meter) = (&self.app, self.deadline, self.store.data().meter.clone());
        let run = self.store.run_concurrent(async |accessor| {
            let result = call(exports, accessor).await?;
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            wasmtime::Result::Ok(result)
        });
        let result = tokio::time::timeout(limit, metered(&meter, run)).await;
        self.store.data_mut().end_request();
        match result {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(source)) | Err(source)) => Err(StartError::Trap { step, source }),
            Err(_) => Err(StartError::Slow { step, limit }),
        }
    }

    /// Starts the accounts of a request.
    pub(crate) fn begin_request(&mut self, limits: &Limits) {
        self.served += 1;
        let state = self.store.data_mut();
        state.begin_request(limits);
        state.usage.requests.fetch_add(1, Relaxed);
    }

    /// Ends them.
    pub(crate) fn end_request(&mut self) {
        self.store.data_mut().end_request();
    }

    /// The store and the export that handles requests.
    pub(crate) fn parts(&mut self) -> (&mut Store<GuestState>, &handler::Guest) {
        (&mut self.store, &self.handler)
    }

    /// Whether the last request left nothing behind: no task, stream, future or resource. The standard streams that a
    /// first `print` opens are two entries that stay.
    pub(crate) fn is_clean(&mut self) -> bool {
        const STANDARD_STREAMS: usize = 2;
        self.store.concurrent_state_table_size() == 0
            && self.store.data_mut().resources() <= self.resources_baseline + STANDARD_STREAMS
    }

    /// Processor time of the current request.
    pub(crate) fn meter(&self) -> Arc<Meter> {
        self.store.data().meter.clone()
    }

    /// Whether the current request asked for more memory than its limit.
    pub(crate) fn memory_refused(&self) -> bool {
        self.store.data().memory.refused
    }

    /// Bytes of linear memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().memory.used()
    }

    /// A number within a quarter of `around`, always the same for this instance.
    pub(crate) fn spread(&self, around: u64) -> u64 {
        let quarter = around / 4;
        around - quarter + u64::from(self.seed) % (2 * quarter + 1)
    }

    /// The application's name.
    pub(crate) fn name(&self) -> &str {
        &self.store.data().settings.name
    }
}

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
        // tokio's own yield goes behind the I/O driver; wasmtime's plain yield lets one guest starve it (p99 291 ms).
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
}

/// Charges every poll of a future that runs guest code to its meter.
pub(crate) async fn metered<F: Future>(meter: &Meter, run: F) -> F::Output {
    let mut run = pin!(run);
    poll_fn(|context| meter.slice(|| run.as_mut().poll(context))).await
}
