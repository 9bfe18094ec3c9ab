//! What a store holds beside the guest: WASI with everything denied, the resource table, and the accounts of limits.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{HostMonotonicClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::{
    limits::{self, Limits, MemoryLimiter, Meter},
    log_sink::{LineStream, LogSink},
    metrics::PoolMetrics,
    statistics::Statistics,
    turns::Tenant,
};

/// What the operator gave to an application: its name in logs and its variables.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How the application is called in logs.
    pub name: String,
    /// Read by the guest as environment variables and through `host.config`.
    pub variables: Vec<(String, String)>,
}

/// Counters of one application over all its instances and threads.
#[derive(Debug)]
pub struct Usage {
    /// Who pays. Each application is a tenant of its own.
    pub(crate) tenant: Tenant,
    pub(crate) in_flight: AtomicU32,
    pub(crate) requests: AtomicU64,
    pub(crate) memory_bytes: Arc<AtomicUsize>,
    pub(crate) cpu_ns: AtomicU64,
    pub(crate) pool: PoolMetrics,
    pub(crate) statistics: Statistics,
}

impl Default for Usage {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            tenant: Tenant(NEXT.fetch_add(1, Relaxed)),
            in_flight: AtomicU32::default(),
            requests: AtomicU64::default(),
            memory_bytes: Arc::default(),
            cpu_ns: AtomicU64::default(),
            pool: PoolMetrics::default(),
            statistics: Statistics::default(),
        }
    }
}

impl Usage {
    pub(crate) fn charge(&self, cpu: Duration) {
        self.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Requests that were handed to a guest.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Requests that are being handled.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Bytes of linear memory of all live instances.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Relaxed)
    }

    /// What became of the instances.
    pub fn pool(&self) -> &PoolMetrics {
        &self.pool
    }

    /// How the application answers.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Processor time of the guests.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Relaxed))
    }
}

/// The data of a store.
pub(crate) struct GuestState {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimiter,
    pub(crate) meter: Arc<Meter>,
    pub(crate) log: Arc<LogSink>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) usage: Arc<Usage>,
    streams: [LineStream; 2],
}

impl GuestState {
    pub(crate) fn new(settings: Arc<Settings>, usage: Arc<Usage>, limits: &Limits) -> Self {
        let log = LogSink::new(settings.name.as_str().into(), limits.log_bytes_max);
        let streams = [LineStream::stdout(log.clone()), LineStream::stderr(log.clone())];
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::RESOURCES_MAX);
        usage.pool.count_start();
        Self {
            wasi: denied_wasi(&settings, &streams),
            table,
            memory: MemoryLimiter::new(limits.memory_bytes_max, usage.memory_bytes.clone()),
            meter: Arc::new(Meter::new(usage.tenant)),
            log,
            settings,
            usage,
            streams,
        }
    }

    /// Starts the accounts of a new request.
    pub(crate) fn begin_request(&mut self, limits: &Limits) {
        self.meter.begin(limits.cpu_max);
        self.log.begin(limits.log_bytes_max);
        self.memory.refused = false;
    }

    /// The same where other requests are under way, which the accounts are shared with.
    pub(crate) fn begin_shared_request(&mut self, limits: &Limits) {
        self.log.begin(limits.log_bytes_max);
        self.usage.requests.fetch_add(1, Relaxed);
    }

    /// Ends them: charges the application and writes unfinished lines.
    pub(crate) fn end_request(&mut self) {
        self.usage.charge(self.meter.spent());
        for stream in &self.streams {
            stream.finish();
        }
    }

    /// Entries of the table of host resources.
    pub(crate) fn resources(&mut self) -> usize {
        self.table.iter_mut().count()
    }
}

impl Drop for GuestState {
    fn drop(&mut self) {
        self.usage.pool.count_end();
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// WASI without files, sockets, name look-up, arguments or standard input: clocks, randomness, the operator's variables
/// and output to the log are what there is.
fn denied_wasi(settings: &Settings, [stdout, stderr]: &[LineStream; 2]) -> WasiCtx {
    WasiCtxBuilder::new()
        .envs(&settings.variables)
        .stdout(stdout.clone())
        .stderr(stderr.clone())
        .monotonic_clock(ProcessClock)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(limits::RANDOM_BYTES_MAX)
        .build()
}

/// The monotonic clock of all instances: a time that an application took at start-up and that is in its snapshot must not
/// lie in the future of an instance that was made later.
struct ProcessClock;

impl HostMonotonicClock for ProcessClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
