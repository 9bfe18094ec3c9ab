//! Counters of an application's pools: what became of instances. They count, they decide nothing.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{
    instance::Unfit,
    snapshot::{Reset, RestoreError},
};

/// Why an instance was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// It trapped, or a limit ended the request.
    Broken,
    /// Its client went away before the guest was done.
    Gone,
    /// A handle or task of the request was left.
    Handles,
    /// Its memory had grown beyond the snapshot's.
    Grown,
    /// The kernel did not put its memory back.
    System,
    /// It had served its time; where instances cannot be put back, one request.
    Used,
    /// Nobody needed it.
    Idle,
}

impl Discard {
    /// All causes.
    pub const ALL: [Self; 7] =
        [Self::Broken, Self::Gone, Self::Handles, Self::Grown, Self::System, Self::Used, Self::Idle];

    /// The cause in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Gone => "gone",
            Self::Handles => "handles",
            Self::Grown => "grown",
            Self::System => "system",
            Self::Used => "used",
            Self::Idle => "idle",
        }
    }
}

impl From<Unfit> for Discard {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Handles => Self::Handles,
            Unfit::Restore(RestoreError::Grown) => Self::Grown,
            Unfit::Restore(RestoreError::Unattached | RestoreError::System(_)) => Self::System,
        }
    }
}

/// What became of an application's instances, over all threads.
#[derive(Debug, Default)]
pub struct PoolMetrics {
    live: AtomicU64,
    started: AtomicU64,
    resets: AtomicU64,
    reset_ns: AtomicU64,
    reset_pages: AtomicU64,
    discards: [AtomicU64; Discard::ALL.len()],
}

impl PoolMetrics {
    /// Instances that exist.
    pub fn live(&self) -> u64 {
        self.live.load(Relaxed)
    }

    /// Instances that were made.
    pub fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// How often an instance was put back.
    pub fn resets(&self) -> u64 {
        self.resets.load(Relaxed)
    }

    /// Time that took in all.
    pub fn reset_time(&self) -> Duration {
        Duration::from_nanos(self.reset_ns.load(Relaxed))
    }

    /// Pages of 4 KiB that were written back in all.
    pub fn reset_pages(&self) -> u64 {
        self.reset_pages.load(Relaxed)
    }

    /// Instances that were given up for a cause.
    pub fn discarded(&self, cause: Discard) -> u64 {
        self.discards[cause as usize].load(Relaxed)
    }

    pub(crate) fn count_start(&self) {
        self.started.fetch_add(1, Relaxed);
        self.live.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_end(&self) {
        self.live.fetch_sub(1, Relaxed);
    }

    pub(crate) fn count_reset(&self, reset: Reset) {
        self.resets.fetch_add(1, Relaxed);
        self.reset_ns.fetch_add(u64::try_from(reset.time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.reset_pages.fetch_add(reset.pages as u64, Relaxed);
    }

    pub(crate) fn count_discard(&self, cause: Discard) {
        self.discards[cause as usize].fetch_add(1, Relaxed);
    }
}
