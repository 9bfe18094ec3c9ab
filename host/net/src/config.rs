//! What the operator asks of the network: the kind of I/O and every limit, with its default and where it comes from.
//! It does not say where to listen; that is [`crate::bind()`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Settings of one event loop. Every thread of a host is normally given the same.
///
/// The limits from `submission_entries` to `bulk_bytes` matter to the `uring` backend only; with `epoll` the
/// kernel's socket buffers play their part.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Which backend to use.
    pub io: Io,
    /// Entries of the submission queue, rounded up by the kernel to a power of two. When it is full, entries wait in
    /// memory; the size affects speed only. Default 1024: more than one turn of the loop submits at 500 connections.
    pub submission_entries: u32,
    /// Entries of the completion queue, at least `submission_entries`. When it overflows, the kernel keeps the rest
    /// and the loop fetches it, slowly. Default 8192, because one multishot operation yields many completions.
    pub completion_entries: u32,
    /// Receive buffers per event loop, a power of two up to 32,768. Default 1024, with 8 KiB each: at most 8 MiB,
    /// touched only as far as they are needed at the same time.
    pub buffer_count: u16,
    /// Bytes of a receive buffer. Default 8 KiB, hyper's own first read.
    pub buffer_bytes: u32,
    /// Buffers that one connection may hold unread. Reaching it stops receiving, so TCP flow control slows the peer
    /// down. Default 32 (256 KiB); without it, one upload whose consumer is slow takes the whole pool. The kernel
    /// overshoots by what it receives in one system call, at most a quarter of the pool; after that the connection
    /// receives without the pool.
    pub connection_buffers_max: usize,
    /// Unread buffers at which a stopped connection receives again. Default 8, so that a consumer that keeps up
    /// never runs dry while the receive is being re-armed.
    pub connection_buffers_resume: usize,
    /// Bytes that one connection may have written and the kernel not yet taken. Beyond it, writing is pending.
    /// Default 256 KiB.
    pub staging_bytes_max: usize,
    /// Bytes that a connection receives at a time while it is uploading faster than it is read, into memory that it
    /// holds only for that. Default 128 KiB.
    pub bulk_bytes: u32,
    /// Accepted connections that wait for [`crate::Listener::accept`]. When they are this many, the rest stay in the
    /// kernel's backlog. Default 256. `uring` only: `epoll` accepts one at a time, when asked.
    pub accept_queue_max: usize,
    /// How long a dropped [`crate::Stream`] goes on sending what was written to it. Default 5 s, nginx's
    /// `lingering_timeout`.
    pub linger_max: Duration,
    /// How long dropping a [`crate::Reactor`] may take to send such rests and to end what the kernel still has in
    /// hand. Default 2 s.
    pub shutdown_max: Duration,
    /// How long after a rush of traffic the memory that it took is given back to the system. Default 5 s.
    pub trim_after: Duration,
    /// Task polls after which the loop looks for I/O even though more tasks are ready. Default 61, tokio's.
    pub event_interval: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            io: Io::Auto,
            submission_entries: 1024,
            completion_entries: 8192,
            buffer_count: 1024,
            buffer_bytes: 8 * 1024,
            connection_buffers_max: 32,
            connection_buffers_resume: 8,
            staging_bytes_max: 256 * 1024,
            bulk_bytes: 128 * 1024,
            accept_queue_max: 256,
            linger_max: Duration::from_secs(5),
            shutdown_max: Duration::from_secs(2),
            trim_after: Duration::from_secs(5),
            event_interval: 61,
        }
    }
}

impl Config {
    /// Says which setting makes no sense, if one does not.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (self.submission_entries > 0, "submission_entries must not be 0"),
            (
                self.completion_entries >= self.submission_entries,
                "completion_entries must be at least submission_entries",
            ),
            (
                self.buffer_count.is_power_of_two() && self.buffer_count <= 1 << 15,
                "buffer_count must be a power of two up to 32768",
            ),
            ((256..=1024 * 1024).contains(&self.buffer_bytes), "buffer_bytes must be between 256 and 1048576"),
            ((256..=1 << 30).contains(&self.bulk_bytes), "bulk_bytes must be between 256 and 1073741824"),
            (
                self.connection_buffers_resume < self.connection_buffers_max,
                "connection_buffers_resume must be below connection_buffers_max",
            ),
            ((2..=1 << 30).contains(&self.staging_bytes_max), "staging_bytes_max must be between 2 and 1073741824"),
            (self.accept_queue_max > 0, "accept_queue_max must not be 0"),
            (self.event_interval > 0, "event_interval must not be 0"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(rule),
            None => Ok(()),
        }
    }
}

/// The kind of I/O that the operator asks for: `auto`, `uring` or `epoll` on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring, and an error where it does not work.
    Uring,
    /// tokio's epoll.
    Epoll,
}

impl FromStr for Io {
    type Err = ParseIoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(ParseIoError(text.to_owned())),
        }
    }
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

/// A kind of I/O that there is not.
#[derive(Debug, thiserror::Error)]
#[error("unknown kind of I/O {0:?}: expected auto, uring or epoll")]
pub struct ParseIoError(String);

/// The backend that an event loop runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The io_uring driver of this crate.
    Uring,
    /// tokio's epoll.
    Epoll,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_io_parse_back_to_themselves() {
        for io in [Io::Auto, Io::Uring, Io::Epoll] {
            assert_eq!(io.to_string().parse::<Io>().unwrap(), io);
        }
        let error = "kqueue".parse::<Io>().unwrap_err().to_string();
        assert!(error.contains("kqueue") && error.contains("uring"), "{error}");
    }

    #[test]
    fn the_defaults_pass_their_own_check_and_nonsense_does_not() {
        assert_eq!(Config::default().check(), Ok(()));
        let config = Config { buffer_count: 1000, ..Config::default() };
        assert!(config.check().unwrap_err().contains("power of two"));
        let config = Config { connection_buffers_resume: 32, ..Config::default() };
        assert!(config.check().unwrap_err().contains("below"));
    }
}
