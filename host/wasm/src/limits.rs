//! What one application may use, and the bookkeeping that holds it to that.
//!
//! Every number here has a default that is documented where an operator sets it (`covet-host run --help`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

use crate::{engine::TICK, turns::Tenant};

/// The limits of one application.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Linear memory of one instance in bytes, over all its memories. An allocation beyond it fails inside the guest.
    pub memory_bytes_max: usize,
    /// Wall-clock time until the response's head. After the head the same time bounds each pause of the body: a guest
    /// that writes nothing, or a client that takes nothing, for so long ends the response.
    pub deadline: Duration,
    /// Processor time of a request, the rest of its body included.
    pub cpu_max: Duration,
    /// Bytes of log output (both `host.log` and standard streams) per request; the rest is dropped and said so once.
    pub log_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 256 << 20,
            deadline: Duration::from_secs(30),
            cpu_max: Duration::from_secs(10),
            log_bytes_max: 64 << 10,
        }
    }
}

/// Bytes that one host call may hand from the guest to the host. A response head and a body given as one value have to
/// fit; wasmtime's own default is 128 MiB.
pub(crate) const HOSTCALL_BYTES_MAX: usize = 64 << 20;
/// Handles (resources, streams, futures, tasks) that an instance may hold at once.
pub(crate) const HANDLES_MAX: usize = 10_000;
/// Entries of the table that holds the host's side of resources.
pub(crate) const RESOURCES_MAX: usize = 10_000;
/// Bytes that one call of `wasi:random` may ask for.
pub(crate) const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Elements of one table. CPython needs about 5,700.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Sums the linear memory of one store and refuses growth beyond the limit.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: usize,
    used: usize,
    /// Set when an allocation was refused, so that a trap that follows can be explained.
    pub(crate) refused: bool,
    /// The same sum over all instances of the application, for `host.metrics`.
    total: Arc<AtomicUsize>,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: usize, total: Arc<AtomicUsize>) -> Self {
        Self { limit, used: 0, refused: false, total }
    }

    /// Takes over memory that the instance was given beyond what it asked for: a snapshot's.
    pub(crate) fn adopt(&mut self, used: usize) {
        self.total.fetch_sub(self.used, Relaxed);
        self.total.fetch_add(used, Relaxed);
        self.used = used;
    }

    /// Bytes of linear memory that the store holds now.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let grown = desired.saturating_sub(current);
        if self.used.saturating_add(grown) > self.limit {
            self.refused = true;
            return Ok(false);
        }
        self.used += grown;
        self.total.fetch_add(grown, Relaxed);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.total.fetch_sub(self.used, Relaxed);
    }
}

/// Processor time of the request that an instance is running.
///
/// Time is charged slice by slice: a slice is one poll of the guest's future by the event loop, and a busy guest ends its
/// slice at the next epoch tick. Reading the thread's own clock is a system call, so a slice that is over before a tick is
/// charged by the monotonic clock, and only from its first tick on a longer one is charged by the thread's. A machine or a
/// process that stands still is therefore charged to nobody.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) tenant: Tenant,
    base: Instant,
    spent_ns: AtomicU64,
    slice_began_ns: AtomicU64,
    /// The thread's clock at the first tick of the slice; 0 before it.
    slice_cpu_ns: AtomicU64,
    limit_ns: AtomicU64,
    /// Whether the last slice ended because it was long enough, and the guest would have gone on.
    is_midway: AtomicBool,
}

/// The meter's only error: the request has used up its processor time. Carried out of the guest as a trap.
#[derive(Debug, thiserror::Error)]
#[error("used its processor time of {limit:?}")]
pub(crate) struct CpuExhausted {
    pub(crate) limit: Duration,
}

impl Meter {
    pub(crate) fn new(tenant: Tenant) -> Self {
        Self {
            tenant,
            base: Instant::now(),
            spent_ns: AtomicU64::new(0),
            slice_began_ns: AtomicU64::new(0),
            slice_cpu_ns: AtomicU64::new(0),
            limit_ns: AtomicU64::new(u64::MAX),
            is_midway: AtomicBool::new(false),
        }
    }

    /// Starts the account of a new request.
    pub(crate) fn begin(&self, limit: Duration) {
        self.spent_ns.store(0, Relaxed);
        self.limit_ns.store(nanoseconds(limit), Relaxed);
    }

    /// Runs one slice and charges it. Returns what it took beside its result.
    pub(crate) fn slice<R>(&self, run: impl FnOnce() -> R) -> (R, Duration) {
        self.slice_began_ns.store(self.now_ns(), Relaxed);
        self.slice_cpu_ns.store(0, Relaxed);
        self.is_midway.store(false, Relaxed);
        let result = run();
        let time = self.running();
        self.spent_ns.fetch_add(nanoseconds(time), Relaxed);
        (result, time)
    }

    /// Called by the guest's epoch check, in the middle of a slice. Returns how long the slice has lasted.
    pub(crate) fn check(&self) -> Result<Duration, CpuExhausted> {
        if self.slice_cpu_ns.load(Relaxed) == 0 {
            self.slice_cpu_ns.store(thread_cpu_ns(), Relaxed);
        }
        let running = self.running();
        let limit = self.limit_ns.load(Relaxed);
        if self.spent_ns.load(Relaxed).saturating_add(nanoseconds(running)) > limit {
            return Err(CpuExhausted { limit: Duration::from_nanos(limit) });
        }
        Ok(running)
    }

    /// Ends the slice, but not what the guest was doing.
    pub(crate) fn interrupt(&self) {
        self.is_midway.store(true, Relaxed);
    }

    /// Whether the guest was interrupted in its last slice and has not gone on yet.
    pub(crate) fn is_midway(&self) -> bool {
        self.is_midway.load(Relaxed)
    }

    /// How long the slice has lasted.
    fn running(&self) -> Duration {
        let wall = self.now_ns().saturating_sub(self.slice_began_ns.load(Relaxed));
        let since = match self.slice_cpu_ns.load(Relaxed) {
            0 => wall.min(nanoseconds(UNTICKED_MAX)),
            // Up to the first tick the guest ran for a tick at most, however long that took.
            first => wall.min(nanoseconds(TICK) + thread_cpu_ns().saturating_sub(first)),
        };
        Duration::from_nanos(since)
    }

    /// What the current request has been charged so far.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent_ns.load(Relaxed))
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.base.elapsed())
    }
}

/// A slice in which no tick fell can only have been longer if the machine stood still, or in a copy by the host, which is
/// bounded too.
const UNTICKED_MAX: Duration = Duration::from_millis(20);

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of this thread.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_summed_over_the_memories_of_a_store_and_given_back() {
        let total = Arc::new(AtomicUsize::new(0));
        let mut limiter = MemoryLimiter::new(100, total.clone());
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 41, None).unwrap(), "a second memory counts too");
        assert!(limiter.refused);
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert_eq!((limiter.used(), total.load(Relaxed)), (100, 100));
        drop(limiter);
        assert_eq!(total.load(Relaxed), 0);
    }

    fn spin(time: Duration) {
        let began = thread_cpu_ns();
        while thread_cpu_ns() - began < nanoseconds(time) {}
    }

    #[test]
    fn a_slice_is_charged_and_the_limit_is_seen_in_the_middle_of_one() {
        let meter = Meter::new(Tenant(0));
        meter.begin(Duration::from_millis(2));
        meter.slice(|| {
            spin(TICK);
            assert!(meter.check().is_ok());
            spin(2 * TICK);
            assert!(meter.check().is_err());
        });
        assert!(meter.spent() >= 3 * TICK);
        meter.begin(Duration::from_millis(2));
        assert_eq!(meter.spent(), Duration::ZERO);
    }

    #[test]
    fn a_thread_that_stands_still_is_charged_nothing_for_it() {
        let meter = Meter::new(Tenant(0));
        meter.begin(Duration::from_secs(1));
        meter.slice(|| {
            std::thread::sleep(Duration::from_millis(30));
            meter.check().unwrap();
            std::thread::sleep(Duration::from_millis(30));
            meter.check().unwrap();
        });
        assert!(meter.spent() < Duration::from_millis(10), "{:?}", meter.spent());
    }
}
