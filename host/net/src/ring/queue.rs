//! The two queues shared with the kernel, and the promise that no submission is ever lost: when the submission queue
//! is full or the kernel refuses for now, entries wait here. It does not know what the operations mean.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::task::Waker;
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, cqueue, squeue, types};

use super::operation::Submission;

pub(super) struct Queue {
    ring: IoUring,
    /// Entries that found no room in the submission queue, first come first.
    deferred: VecDeque<squeue::Entry>,
    /// Operations given to [`Self::push`] whose last completion has not been taken.
    in_flight: usize,
    alarm: Alarm,
    pub(super) counters: Counters,
    /// What the kernel does under memory pressure, which no test can bring about.
    #[cfg(test)]
    pub(super) refuse_next: u32,
}

/// How the driver's task gets to run when there is something to submit. The park hook alone would do if the loop
/// always came to rest; but as long as some task is ready, say a guest that uses up its slices, it does not.
pub(super) enum Alarm {
    /// Nobody to wake: the task has not run yet, or a turn is on and will submit by itself.
    Off,
    Set(Waker),
    /// The task was woken and comes up after the tasks that are ready now, so that one system call serves them all.
    Rung(Waker),
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) enters: u64,
    pub(super) completions: u64,
    pub(super) overflows: u64,
    pub(super) refused: u64,
    pub(super) deferred: u64,
}

/// What came of [`Queue::enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// There was nothing to enter the kernel for.
    Idle,
    /// The kernel took entries or ran deferred work.
    Done,
    /// The kernel wants its completions taken, or memory, first.
    Refused,
}

impl Queue {
    pub(super) fn new(ring: IoUring) -> Self {
        Self {
            ring,
            deferred: VecDeque::new(),
            in_flight: 0,
            alarm: Alarm::Off,
            counters: Counters::default(),
            #[cfg(test)]
            refuse_next: 0,
        }
    }

    /// Queues an operation for the next [`Self::enter`].
    pub(super) fn push(&mut self, submission: Submission) {
        self.in_flight += 1;
        if self.deferred.is_empty() && self.push_now(&submission.0) {
            return self.ring_alarm();
        }
        self.counters.deferred += 1;
        self.deferred.push_back(submission.0);
        self.ring_alarm();
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: entries come from `Submission` only, and who made one promised that what it points to stays valid
        // until the completion is taken.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    fn refill(&mut self) {
        while let Some(entry) = self.deferred.pop_front() {
            if !self.push_now(&entry) {
                self.deferred.push_front(entry);
                break;
            }
        }
    }

    /// Submits what is queued and lets the kernel finish deferred work and overflown completions, in one system
    /// call, and none if there is nothing of the kind. It does not wait.
    pub(super) fn enter(&mut self) -> Entered {
        self.refill();
        let (queued, deferred_work, overflow) = {
            let submissions = self.ring.submission();
            (submissions.len(), submissions.taskrun(), submissions.cq_overflow())
        };
        if queued == 0 && !deferred_work && !overflow {
            return Entered::Idle;
        }
        self.counters.overflows += u64::from(overflow);
        self.counters.enters += 1;
        let result = self.enter_kernel(queued);
        match result {
            Ok(_) => Entered::Done,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Entered::Done,
            Err(error) => {
                self.counters.refused += 1;
                // EBUSY: the completion queue is full. EAGAIN, ENOMEM: no memory for requests. Both pass, and the
                // entries stay queued. Nothing else is expected, and nothing better can be done about it.
                if !matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM)) {
                    tracing::error!(%error, "io_uring_enter failed");
                }
                Entered::Refused
            }
        }
    }

    fn enter_kernel(&mut self, queued: usize) -> io::Result<usize> {
        #[cfg(test)]
        if self.refuse_next > 0 {
            self.refuse_next -= 1;
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        // With GETEVENTS the kernel also runs deferred work and flushes overflown completions.
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument is passed, so there is none to be wrong; that the entries are valid was promised when
        // they were made.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued as u32, 0, flags, None) }
    }

    /// Takes completions out, as many as `batch` has room for.
    pub(super) fn take(&mut self, batch: &mut Vec<cqueue::Entry>) {
        batch.clear();
        let room = batch.capacity();
        batch.extend(self.ring.completion().take(room));
        self.counters.completions += batch.len() as u64;
        let last = batch.iter().filter(|completion| !cqueue::more(completion.flags())).count();
        debug_assert!(last <= self.in_flight, "more completions than operations");
        self.in_flight = self.in_flight.saturating_sub(last);
    }

    /// Submits and waits for a completion, for at most `timeout`. For the end of the loop only.
    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.refill();
        let timeout = types::Timespec::from(timeout);
        let arguments = types::SubmitArgs::new().timespec(&timeout);
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    #[cfg(test)]
    pub(super) fn pretend_in_flight(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether anything waits to be submitted or to be run by the kernel.
    pub(super) fn wants_enter(&mut self) -> bool {
        let submissions = self.ring.submission();
        !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow() || !self.deferred.is_empty()
    }

    /// The driver's task runs and wants to be woken through `waker` next time.
    pub(super) fn set_alarm(&mut self, waker: &Waker) {
        self.alarm = match mem::replace(&mut self.alarm, Alarm::Off) {
            Alarm::Set(old) | Alarm::Rung(old) if old.will_wake(waker) => Alarm::Set(old),
            _ => Alarm::Set(waker.clone()),
        };
    }

    /// Wakes the driver's task, once.
    pub(super) fn ring_alarm(&mut self) {
        self.alarm = match mem::replace(&mut self.alarm, Alarm::Off) {
            Alarm::Set(waker) => {
                // The waker is that of a tokio task: it queues the task and runs nothing now.
                waker.wake_by_ref();
                Alarm::Rung(waker)
            }
            other => other,
        };
    }

    /// For the time of a turn, which submits everything itself.
    pub(super) fn silence(&mut self) -> Alarm {
        mem::replace(&mut self.alarm, Alarm::Off)
    }

    /// Puts back what [`Self::silence`] took.
    pub(super) fn unsilence(&mut self, alarm: Alarm) {
        self.alarm = alarm;
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
