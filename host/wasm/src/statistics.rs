//! How an application answers: how many requests, how many a second, how long they take. It counts what whoever answers
//! requests tells it, and knows no HTTP; what guests use is counted in `state`, what becomes of instances in `metrics`.
//!
//! Each thread counts for itself with plain loads and stores, so that a request waits for nobody and no cache line moves
//! between processors; the counts are added up when somebody asks.

use std::{
    marker::PhantomData,
    rc::Rc,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The statistics of one application, over all threads.
#[derive(Debug)]
pub struct Statistics {
    /// When the application was loaded; seconds are counted from here.
    epoch: Instant,
    /// Written when a thread begins, read when somebody asks; no request touches it.
    threads: RwLock<Vec<Arc<Counters>>>,
}

/// What the clients of an application have seen of it since it was loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Requests that are under way, until their response's body is over.
    pub active: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that ended before there was an answer. They are in no other count.
    pub abandoned: u64,
    /// Those answered with a status of 400 to 499.
    pub client_errors: u64,
    /// Those answered with a status of 500 to 599.
    pub server_errors: u64,
    /// Requests that were answered in the second that runs and the nine before it, divided by the length of that time, or
    /// of the application's life if that is shorter, but by one second at least.
    pub per_second: f64,
    /// Until the head of the response was ready; exact to the microsecond. Zero while nothing was answered, as are the
    /// others.
    pub latency_mean: Duration,
    /// Half of the requests took no longer. This and the others are within 1/32 of the truth.
    pub latency_p50: Duration,
    /// 95 of 100 requests took no longer.
    pub latency_p95: Duration,
    /// 99 of 100 requests took no longer.
    pub latency_p99: Duration,
}

impl Default for Statistics {
    fn default() -> Self {
        Self { epoch: Instant::now(), threads: RwLock::default() }
    }
}

impl Statistics {
    /// Where a thread counts. Each has one of its own, for as long as it answers requests; its counts stay.
    pub fn recorder(&self) -> Rc<Recorder> {
        let counters = Arc::new(Counters::default());
        self.threads.write().unwrap_or_else(PoisonError::into_inner).push(counters.clone());
        Rc::new(Recorder { epoch: self.epoch, counters, thread: PhantomData })
    }

    /// What there is to tell by now. Counts of other threads may differ from one another by what happens meanwhile.
    pub fn traffic(&self) -> Traffic {
        self.traffic_at(Instant::now())
    }

    fn traffic_at(&self, now: Instant) -> Traffic {
        let mut sum = Sum::new();
        let age = now.saturating_duration_since(self.epoch);
        for counters in &*self.threads.read().unwrap_or_else(PoisonError::into_inner) {
            sum.add(counters, second(age));
        }
        let answered = sum.latencies.iter().sum();
        let window = (WINDOW_SECONDS - 1) as f64 + f64::from(age.subsec_nanos()) / 1e9;
        Traffic {
            active: sum.active,
            answered,
            abandoned: sum.abandoned,
            client_errors: sum.client_errors,
            server_errors: sum.server_errors,
            per_second: sum.recent as f64 / window.min(age.as_secs_f64()).max(1.0),
            latency_mean: Duration::from_micros(sum.latency_us.checked_div(answered).unwrap_or_default()),
            latency_p50: percentile(&sum.latencies, answered, 50),
            latency_p95: percentile(&sum.latencies, answered, 95),
            latency_p99: percentile(&sum.latencies, answered, 99),
        }
    }
}

/// Where one thread counts the requests of an application. Nobody else writes there, so it cannot leave its thread:
///
/// ```compile_fail,E0277
/// fn can_leave<T: Send>() {}
/// can_leave::<covet_wasm::Recorder>();
/// ```
#[derive(Debug)]
pub struct Recorder {
    epoch: Instant,
    counters: Arc<Counters>,
    thread: PhantomData<Rc<()>>,
}

impl Recorder {
    /// Counts a request whose head has just been read.
    pub fn begin(self: &Rc<Self>, now: Instant) -> Exchange {
        self.counters.active.add(1);
        Exchange { recorder: self.clone(), began: now, is_answered: false }
    }
}

/// A request and its response. It is over when it is dropped.
#[derive(Debug)]
#[must_use = "a request is under way until it is dropped"]
pub struct Exchange {
    recorder: Rc<Recorder>,
    began: Instant,
    is_answered: bool,
}

impl Exchange {
    /// Counts that the head of the response is ready. Only the first time counts.
    pub fn answered(&mut self, status: u16, now: Instant) {
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        let Counters { client_errors, server_errors, latency_us, latencies, recent, .. } = &*self.recorder.counters;
        match status {
            400..500 => client_errors.add(1),
            500..600 => server_errors.add(1),
            _ => {}
        }
        let latency = microseconds(now.saturating_duration_since(self.began));
        latency_us.add(latency);
        latencies[bucket(latency)].add(1);
        recent.count(second(now.saturating_duration_since(self.recorder.epoch)));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let counters = &self.recorder.counters;
        counters.active.subtract(1);
        if !self.is_answered {
            counters.abandoned.add(1);
        }
    }
}

/// What one thread has counted; 4 KiB.
#[derive(Debug)]
struct Counters {
    active: Count,
    abandoned: Count,
    client_errors: Count,
    server_errors: Count,
    /// All latencies together.
    latency_us: Count,
    /// By [`bucket`]. All together they are the requests that were answered.
    latencies: [Count; BUCKETS],
    recent: Recent,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            active: Count::default(),
            abandoned: Count::default(),
            client_errors: Count::default(),
            server_errors: Count::default(),
            latency_us: Count::default(),
            latencies: [const { Count(AtomicU64::new(0)) }; BUCKETS],
            recent: Recent::default(),
        }
    }
}

/// A number that one thread changes and every thread may read. It is changed by a load and a store: as nobody else writes
/// there, nothing is lost, and no locked instruction is needed.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    fn subtract(&self, less: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(less), Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The requests of the last seconds. Each second has a slot until another one needs it; which second it is stands in the
/// upper half of the slot and the count in the lower one, so that nobody reads one without the other.
#[derive(Debug, Default)]
struct Recent([AtomicU64; SLOTS]);

impl Recent {
    fn count(&self, second: u32) {
        let slot = &self.0[second as usize % SLOTS];
        let value = slot.load(Relaxed);
        let counted = if value >> 32 == u64::from(second) { value & u64::from(u32::MAX) } else { 0 };
        slot.store(u64::from(second) << 32 | (counted + 1).min(u64::from(u32::MAX)), Relaxed);
    }

    /// The requests of a second and of those before it that belong to the same window.
    fn window(&self, last: u32) -> u64 {
        let first = u64::from(last).saturating_sub(WINDOW_SECONDS - 1);
        let values = self.0.iter().map(|slot| slot.load(Relaxed));
        values
            .filter(|value| (first..=u64::from(last)).contains(&(value >> 32)))
            .map(|value| value & u64::from(u32::MAX))
            .sum()
    }
}

/// The counts of all threads.
struct Sum {
    active: u64,
    abandoned: u64,
    client_errors: u64,
    server_errors: u64,
    latency_us: u64,
    latencies: [u64; BUCKETS],
    recent: u64,
}

impl Sum {
    fn new() -> Self {
        Self {
            active: 0,
            abandoned: 0,
            client_errors: 0,
            server_errors: 0,
            latency_us: 0,
            latencies: [0; BUCKETS],
            recent: 0,
        }
    }

    fn add(&mut self, counters: &Counters, second: u32) {
        self.active += counters.active.value();
        self.abandoned += counters.abandoned.value();
        self.client_errors += counters.client_errors.value();
        self.server_errors += counters.server_errors.value();
        self.latency_us = self.latency_us.wrapping_add(counters.latency_us.value());
        for (sum, count) in self.latencies.iter_mut().zip(&counters.latencies) {
            *sum += count.value();
        }
        self.recent += counters.recent.window(second);
    }
}

/// The latency that so many percent of the requests did not exceed: the middle of the bucket that it is in.
fn percentile(latencies: &[u64; BUCKETS], answered: u64, percent: u64) -> Duration {
    let rank = (answered * percent).div_ceil(100);
    let mut below = 0;
    let reached = latencies.iter().position(|count| {
        below += count;
        below > 0 && below >= rank
    });
    reached.map_or(Duration::ZERO, middle)
}

/// The bucket of a latency: one for each microsecond at first, then 16 for each power of two, as in an HDR histogram.
/// (Whoever reads a histogram of the crate `hdrhistogram` that several threads write to waits for each of them, and a
/// thread without requests does not come.)
fn bucket(latency_us: u64) -> usize {
    let latency_us = latency_us.min(LATENCY_US_MAX);
    let shift = latency_us.checked_ilog2().unwrap_or_default().saturating_sub(PRECISION_BITS);
    ((shift as usize) << PRECISION_BITS) + (latency_us >> shift) as usize
}

/// The middle between the smallest and the largest latency of a bucket.
fn middle(bucket: usize) -> Duration {
    let shift = (bucket >> PRECISION_BITS).saturating_sub(1);
    let smallest = ((bucket - (shift << PRECISION_BITS)) as u64) << shift;
    let width = (1 << shift) - 1;
    Duration::from_nanos(smallest * 1000 + width * 500)
}

/// To the nearest.
fn microseconds(duration: Duration) -> u64 {
    u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX)
}

/// 136 years of them.
fn second(age: Duration) -> u32 {
    u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
}

/// How far back the rate looks.
const WINDOW_SECONDS: u64 = 10;
/// More than the window has, so that a slot is not taken by a new second while another thread reads the old one in it.
const SLOTS: usize = 16;
/// Buckets for each power of two, as a power of two: half a bucket is at most 1/32 of what is in it.
const PRECISION_BITS: u32 = 4;
/// 71 minutes, which is beyond any sensible timeout. Longer latencies count as this one.
const LATENCY_US_MAX: u64 = u32::MAX as u64;
/// Up to [`LATENCY_US_MAX`].
const BUCKETS: usize = ((u32::BITS - PRECISION_BITS + 1) as usize) << PRECISION_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Answers a request at a time after the epoch.
    fn answer(recorder: &Rc<Recorder>, at: Duration, status: u16, latency: Duration) {
        let end = recorder.epoch + at;
        recorder.begin(end - latency).answered(status, end);
    }

    fn at(statistics: &Statistics, age: Duration) -> Traffic {
        statistics.traffic_at(statistics.epoch + age)
    }

    #[test]
    fn every_latency_has_a_bucket_whose_middle_is_within_a_thirty_second_of_it() {
        let small = 0..100_000;
        let around_powers = (0..32).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let mut large = vec![LATENCY_US_MAX];
        let mut value = 100_000u64;
        while value < LATENCY_US_MAX {
            large.push(value);
            value += value / 97;
        }
        for latency_us in small.chain(around_powers).chain(large) {
            let told = middle(bucket(latency_us)).as_secs_f64() * 1e6;
            let error = (told - latency_us as f64).abs();
            assert!(error <= latency_us as f64 / 32.0, "{latency_us} us is told as {told}");
        }
    }

    #[test]
    fn buckets_follow_one_another_without_a_gap_and_the_last_one_takes_what_is_longer() {
        let firsts: Vec<u64> = (0..BUCKETS)
            .map(|index| {
                let shift = (index >> PRECISION_BITS).saturating_sub(1);
                ((index - (shift << PRECISION_BITS)) as u64) << shift
            })
            .collect();
        for (index, pair) in firsts.windows(2).enumerate() {
            assert_eq!(bucket(pair[0]), index);
            assert_eq!(bucket(pair[1] - 1), index, "the last of bucket {index}");
        }
        assert_eq!(bucket(LATENCY_US_MAX), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_is_told_while_nothing_was_answered() {
        let statistics = Statistics::default();
        assert_eq!(at(&statistics, MS), Traffic::default());
        let recorder = statistics.recorder();
        let _ongoing = recorder.begin(recorder.epoch);
        assert_eq!(at(&statistics, MS), Traffic { active: 1, ..Traffic::default() });
    }

    #[test]
    fn one_latency_is_all_percentiles() {
        let statistics = Statistics::default();
        answer(&statistics.recorder(), 2 * MS, 200, MS);
        let traffic = at(&statistics, 2 * MS);
        assert_eq!(traffic.latency_mean, MS);
        for told in [traffic.latency_p50, traffic.latency_p95, traffic.latency_p99] {
            assert!(told.abs_diff(MS) <= MS / 32, "{told:?}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_latencies() {
        let statistics = Statistics::default();
        let recorder = statistics.recorder();
        // From 1 us to 16 s, most of them short.
        let mut state = 1u64;
        let mut latencies: Vec<u64> = (0..10_007)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (1 << ((state >> 33) % 24)) + (state >> 48) % 1000
            })
            .collect();
        for &latency in &latencies {
            answer(&recorder, Duration::from_secs(20), 200, Duration::from_micros(latency));
        }
        latencies.sort_unstable();
        let traffic = at(&statistics, Duration::from_secs(20));
        let mean = Duration::from_micros(latencies.iter().sum::<u64>() / latencies.len() as u64);
        assert_eq!(traffic.latency_mean, mean);
        for (percent, told) in [(50, traffic.latency_p50), (95, traffic.latency_p95), (99, traffic.latency_p99)] {
            let exact = Duration::from_micros(latencies[(latencies.len() * percent).div_ceil(100) - 1]);
            assert!(told.abs_diff(exact) <= exact / 32, "p{percent}: {told:?} instead of {exact:?}");
        }
    }

    #[test]
    fn a_status_is_the_clients_fault_or_the_servers_or_nobodys() {
        let statistics = Statistics::default();
        let recorder = statistics.recorder();
        for status in [200, 204, 304, 399, 400, 404, 499, 500, 599] {
            answer(&recorder, MS, status, MS);
        }
        let Traffic { answered, client_errors, server_errors, .. } = at(&statistics, MS);
        assert_eq!((answered, client_errors, server_errors), (9, 3, 2));
    }

    #[test]
    fn a_request_is_under_way_until_it_is_dropped_and_abandoned_if_nothing_was_answered_by_then() {
        let statistics = Statistics::default();
        let recorder = statistics.recorder();
        let counts = || {
            let Traffic { active, answered, abandoned, .. } = at(&statistics, MS);
            (active, answered, abandoned)
        };
        let mut first = recorder.begin(recorder.epoch);
        let second = recorder.begin(recorder.epoch);
        assert_eq!(counts(), (2, 0, 0));
        first.answered(200, recorder.epoch);
        first.answered(500, recorder.epoch);
        assert_eq!(counts(), (2, 1, 0), "its body is on its way");
        drop(first);
        assert_eq!(counts(), (1, 1, 0));
        drop(second);
        assert_eq!(counts(), (0, 1, 1));
        assert_eq!(at(&statistics, MS).server_errors, 0, "a response has one status");
    }

    #[test]
    fn the_rate_is_that_of_the_second_that_runs_and_the_nine_before_it() {
        let statistics = Statistics::default();
        let recorder = statistics.recorder();
        let rate = |age_ms: u32| at(&statistics, age_ms * MS).per_second;
        for _ in 0..30 {
            answer(&recorder, 100 * MS, 200, MS);
        }
        assert_eq!(rate(100), 30.0, "not 300 a second because the application is so young");
        assert_eq!(rate(1500), 20.0);
        assert_eq!(rate(9999), 30.0 / 9.999);
        assert_eq!(rate(10_000), 0.0, "the first second is out of the window");
        for second in 10..40 {
            answer(&recorder, second * 1000 * MS, 200, MS);
            answer(&recorder, second * 1000 * MS + 500 * MS, 200, MS);
        }
        assert_eq!(rate(39_500), 20.0 / 9.5, "from 30.0 to 39.5 s");
        assert_eq!(rate(44_000), 10.0 / 9.0, "from 35 to 39 s");
        assert_eq!(rate(49_000), 0.0);
        // Slots that were not used for long belong to seconds that nobody asks for.
        answer(&recorder, Duration::from_secs(3_600), 200, MS);
        assert_eq!(rate(3_600_000), 1.0 / 9.0);
    }

    #[test]
    fn what_threads_count_is_added_up_and_outlives_them() {
        const EACH: u64 = 20_000;
        let statistics = Statistics::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let recorder = statistics.recorder();
                    for index in 0..EACH {
                        answer(&recorder, 100 * MS, if index % 4 == 0 { 404 } else { 200 }, MS);
                    }
                });
            }
            let mut before = 0;
            while before < 3 * EACH {
                let answered = statistics.traffic().answered;
                assert!((before..=3 * EACH).contains(&answered), "{answered} after {before}");
                before = answered;
            }
        });
        let traffic = at(&statistics, 100 * MS);
        assert_eq!((traffic.answered, traffic.client_errors, traffic.active), (3 * EACH, 3 * EACH / 4, 0));
        assert_eq!(traffic.latency_mean, MS);
        assert_eq!(traffic.per_second, (3 * EACH) as f64);
    }
}
