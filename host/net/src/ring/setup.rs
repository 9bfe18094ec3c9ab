//! Opens a ring and finds out, before anything depends on it, whether this kernel and this sandbox let it do what
//! the driver needs.

use std::io::{self, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, cqueue, opcode};

use super::buffers::{BufferPool, GROUP};
use super::operation::{Key, Submission};
use super::queue::Queue;
use crate::config::Config;

/// Why io_uring cannot be used here, and what an operator can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The system call does not exist.
    #[error("this kernel has no io_uring, or a sandbox hides it (seccomp, as in some container runtimes)")]
    NotImplemented(#[source] io::Error),
    /// The system call is forbidden.
    #[error(
        "io_uring is forbidden here: by the sysctl kernel.io_uring_disabled, or by a sandbox (seccomp; container \
         runtimes forbid it by default)"
    )]
    NotPermitted(#[source] io::Error),
    /// The kernel does not know something that the driver needs.
    #[error("this kernel is too old for {missing}: Linux 6.0 or newer is needed")]
    TooOld {
        /// What it does not know.
        missing: &'static str,
    },
    /// There is not enough memory that may be locked.
    #[error("no memory for the ring: raise the limit on locked memory (ulimit -l, LimitMEMLOCK=), or lower the sizes")]
    Memory(#[source] io::Error),
    /// Something else failed.
    #[error("setting up the ring failed: {step}")]
    Failed {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The ring works but epoll does not accept it, so the loop could not sleep.
    #[error("epoll cannot watch the ring")]
    Watch(#[source] io::Error),
}

/// A ring and its receive buffers that were seen to work.
pub(super) fn open(config: &Config) -> Result<(Queue, BufferPool), Unavailable> {
    let ring = IoUring::builder()
        // Completions are finished when this thread enters the kernel anyway, instead of by interrupting it, and a
        // flag says that there are some. DEFER_TASKRUN would go further, but then epoll on the ring's descriptor
        // never wakes; with a registered eventfd in its place it was no faster (research: network layer).
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_single_issuer()
        // One bad entry does not hold up the rest.
        .setup_submit_all()
        .setup_cqsize(config.completion_entries)
        .dontfork()
        .build(config.submission_entries)
        .map_err(setup_failure)?;
    require_features(&ring)?;
    let mut buffers = BufferPool::new(&ring, config.buffer_count, config.buffer_bytes)
        .map_err(|error| step_failure("registering receive buffers", error))?;
    let mut queue = Queue::new(ring);
    let worked = try_out(&mut queue, &mut buffers);
    if queue.in_flight() > 0 {
        // The kernel may still write to a buffer.
        mem::forget(buffers);
        return Err(worked.err().unwrap_or(Unavailable::TooOld { missing: "multishot receive" }));
    }
    worked.map(|()| (queue, buffers))
}

fn setup_failure(error: io::Error) -> Unavailable {
    match error.raw_os_error() {
        // SINGLE_ISSUER came with 6.0, and so did multishot receive, which cannot be asked for by itself.
        Some(libc::EINVAL) => Unavailable::TooOld { missing: "the ring's flags or sizes" },
        _ => step_failure("io_uring_setup", error),
    }
}

fn step_failure(step: &'static str, error: io::Error) -> Unavailable {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Unavailable::NotImplemented(error),
        Some(libc::EPERM | libc::EACCES) => Unavailable::NotPermitted(error),
        Some(libc::ENOMEM) => Unavailable::Memory(error),
        _ => Unavailable::Failed { step, source: error },
    }
}

fn require_features(ring: &IoUring) -> Result<(), Unavailable> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| step_failure("asking for the operations it knows", error))?;
    let parameters = ring.params();
    let needs = [
        (parameters.is_feature_nodrop(), "completions that are never dropped"),
        (parameters.is_feature_ext_arg(), "waiting with a timeout"),
        (parameters.is_feature_fast_poll(), "sockets that wait without threads"),
        (probe.is_supported(opcode::AcceptMulti::CODE), "accept"),
        (probe.is_supported(opcode::RecvMulti::CODE), "receive"),
        (probe.is_supported(opcode::Send::CODE), "send"),
        (probe.is_supported(opcode::AsyncCancel::CODE), "cancel"),
    ];
    match needs.iter().find(|(has, _)| !has) {
        Some((_, missing)) => Err(Unavailable::TooOld { missing }),
        None => Ok(()),
    }
}

/// Receives one byte the way the driver will. Whether multishot receive with provided buffers works can only be
/// found out by doing it, and better now than with the first request.
fn try_out(queue: &mut Queue, buffers: &mut BufferPool) -> Result<(), Unavailable> {
    let failed = |error| step_failure("a first receive", error);
    let (mut here, there) = UnixStream::pair().map_err(failed)?;
    here.write_all(b"?").map_err(failed)?;
    drop(here);
    queue.push(Submission::receive(there.as_raw_fd(), GROUP, Key::new(0, 0)));
    let deadline = Instant::now() + TRY_OUT_MAX;
    let mut results = Vec::new();
    let mut batch = Vec::with_capacity(4);
    while queue.in_flight() > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        queue.wait(left).map_err(failed)?;
        queue.take(&mut batch);
        for completion in &batch {
            results.push(completion.result());
            if let Some(id) = cqueue::buffer_select(completion.flags())
                && let Some(buffer) = buffers.take(id)
            {
                buffers.recycle(buffer);
            }
        }
    }
    match results[..] {
        [1, 0] => Ok(()),
        [error] if error == -libc::EINVAL => Err(Unavailable::TooOld { missing: "multishot receive" }),
        [.., error] if error < 0 => Err(failed(io::Error::from_raw_os_error(-error))),
        _ => Err(Unavailable::TooOld { missing: "multishot receive" }),
    }
}

/// A byte that is there already takes microseconds; a second is for a machine that is badly overloaded.
const TRY_OUT_MAX: Duration = Duration::from_secs(1);
