//! What one event loop did and holds. It measures no time and no bytes of requests; that is the server's part.

/// Counters of one event loop at one moment, for metrics and tests. The ones that only `uring` has stay 0 on `epoll`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// `io_uring_enter` system calls.
    pub enters: u64,
    /// Completions taken from the kernel.
    pub completions: u64,
    /// Completions that belonged to a connection or listener that is gone. Not an error.
    pub completions_stale: u64,
    /// Turns that found the completion queue overflown. Nothing is lost then; a larger
    /// [`crate::Config::completion_entries`] is faster.
    pub completion_overflows: u64,
    /// Submissions that the kernel refused for the moment (`EBUSY`, `EAGAIN`) and that were made again.
    pub submissions_refused: u64,
    /// Entries that ever had to wait because the submission queue was full.
    pub submissions_deferred: u64,
    /// Operations that the kernel has in hand now.
    pub operations_in_flight: u64,
    /// Receives that ended because no buffer was left (`ENOBUFS`).
    pub buffers_exhausted: u64,
    /// Receive buffers that connections hold unread now.
    pub buffers_in_use: u64,
    /// Receives into memory outside the pool: of uploads, and where the pool had no buffer.
    pub receives_unpooled: u64,
    /// Connections that are open now, those included that are still sending after their stream was dropped.
    pub connections: u64,
    /// Connections that were dropped before everything written to them could be sent.
    pub lingers_expired: u64,
    /// Times that accepting paused because file descriptors or kernel memory had run out.
    pub accept_pauses: u64,
}

impl Stats {
    /// The counters of the event loop that this thread is running, if it runs one.
    pub fn current() -> Option<Self> {
        crate::reactor::Context::current().map(|context| context.stats())
    }
}
