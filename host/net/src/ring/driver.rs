//! The driver: all connections and listeners of one ring, and the turn that moves them.
//!
//! A turn submits what the tasks have queued, in one system call, takes the completions, hands each to its
//! connection or listener, and collects the wakers of the tasks that can go on. It calls none of them: whoever asked
//! for the turn does that when nothing is borrowed.

use std::collections::VecDeque;
use std::mem::{self, ManuallyDrop};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::RawFd;
use std::task::Waker;
use std::time::{Duration, Instant};

use io_uring::cqueue;
use slab::Slab;

use super::acceptor::Acceptor;
use super::connection::{Connection, Kit, Limits, Received};
use super::operation::{Key, Operation, Submission};
use super::queue::Entered;
use super::setup::{self, Unavailable};
use super::staging::StagingPool;
use crate::config::Config;
use crate::stats::Stats;

pub(super) struct Driver {
    /// Freed by hand, in an order that matters: see `drop`.
    kit: ManuallyDrop<Kit>,
    connections: ManuallyDrop<Slab<Connection>>,
    acceptors: Slab<Acceptor>,
    phase: Phase,
    generation: u32,
    batch: Vec<cqueue::Entry>,
    /// Streams that were dropped with something left to send, by the moment at which that is given up.
    lingering: VecDeque<(Instant, Key)>,
    trim_due: Option<Instant>,
    retry_due: Option<Instant>,
    accept_queue_max: usize,
    linger_max: Duration,
    shutdown_max: Duration,
    trim_after: Duration,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The reactor is gone: nothing new begins.
    Ended,
}

#[derive(Default)]
struct Counters {
    stale: u64,
    exhausted: u64,
    lingers_expired: u64,
    accept_pauses: u64,
}

impl Driver {
    pub(super) fn new(config: &Config) -> Result<Self, Unavailable> {
        let (queue, buffers) = setup::open(config)?;
        let kit = Kit {
            queue,
            buffers,
            staging: StagingPool::default(),
            wakers: Vec::new(),
            retired: Vec::new(),
            limits: Limits {
                connection_buffers_max: config.connection_buffers_max,
                connection_buffers_resume: config.connection_buffers_resume,
                staging_bytes_max: config.staging_bytes_max,
                buffer_bytes: config.buffer_bytes as usize,
                bulk_bytes: config.bulk_bytes as usize,
            },
            receives_own: 0,
        };
        Ok(Self {
            kit: ManuallyDrop::new(kit),
            connections: ManuallyDrop::new(Slab::new()),
            acceptors: Slab::new(),
            phase: Phase::Running,
            generation: 0,
            batch: Vec::with_capacity(COMPLETIONS_PER_BATCH),
            lingering: VecDeque::new(),
            trim_due: None,
            retry_due: None,
            accept_queue_max: config.accept_queue_max,
            linger_max: config.linger_max,
            shutdown_max: config.shutdown_max,
            trim_after: config.trim_after,
            counters: Counters::default(),
        })
    }

    // The turn.

    /// Submits, takes completions, and moves connections and listeners. The wakers of those who can go on are in
    /// [`Self::take_wakers`] afterwards.
    pub(super) fn turn(&mut self) {
        let alarm = self.kit.queue.silence();
        let mut refused = false;
        for _ in 0..ENTERS_PER_TURN_MAX {
            self.kit.buffers.offer();
            let entered = self.kit.queue.enter();
            self.take_completions();
            match entered {
                Entered::Done => {}
                Entered::Idle => break,
                Entered::Refused => {
                    refused = true;
                    break;
                }
            }
        }
        self.kit.buffers.offer();
        self.kit.queue.unsilence(alarm);
        if refused {
            self.schedule_retry();
        } else if self.kit.queue.wants_enter() {
            // The bound was reached and there is still more. The tasks woken so far go first.
            self.kit.queue.ring_alarm();
        }
        self.schedule_trim();
    }

    fn take_completions(&mut self) {
        let mut batch = mem::take(&mut self.batch);
        loop {
            self.kit.queue.take(&mut batch);
            if batch.is_empty() {
                break;
            }
            for completion in &batch {
                self.complete(completion.user_data(), completion.result(), completion.flags());
            }
        }
        self.batch = batch;
    }

    /// Hands a completion to the one that it is for.
    fn complete(&mut self, user_data: u64, result: i32, flags: u32) {
        let more = cqueue::more(flags);
        // Taken first, whoever the completion is for, so that no buffer gets lost.
        let buffer = cqueue::buffer_select(flags).and_then(|id| self.kit.buffers.take(id));
        match Operation::from_user_data(user_data) {
            Some(Operation::Receive(key)) => {
                if result == -libc::ENOBUFS {
                    self.counters.exhausted += 1;
                }
                let Some(connection) = connection_of(&mut self.connections, key) else {
                    self.counters.stale += 1;
                    if let Some(buffer) = buffer {
                        self.kit.buffers.recycle(buffer);
                    }
                    return;
                };
                connection
                    .received(Received { result, buffer, more, nonempty: cqueue::sock_nonempty(flags) }, &mut self.kit);
                self.remove_if_over(key);
            }
            Some(Operation::Send(key)) => match connection_of(&mut self.connections, key) {
                Some(connection) => {
                    connection.sent(result, &mut self.kit);
                    self.remove_if_over(key);
                }
                None => self.counters.stale += 1,
            },
            Some(Operation::Accept(key)) => self.complete_accept(key, result, more),
            Some(Operation::Cancel) => {}
            None => tracing::error!(user_data, "a completion of nothing that was submitted"),
        }
    }

    fn complete_accept(&mut self, key: Key, result: i32, more: bool) {
        let Some(acceptor) = acceptor_of(&mut self.acceptors, key) else {
            self.counters.stale += 1;
            return;
        };
        if acceptor.accepted(result, more, &mut self.kit) {
            self.counters.accept_pauses += 1;
        }
        if acceptor.is_over() {
            self.acceptors.remove(key.index());
        }
    }

    fn remove_if_over(&mut self, key: Key) {
        let over = self.connections.get(key.index()).is_some_and(Connection::is_over);
        if over {
            self.connections.remove(key.index());
        }
    }

    // Connections and listeners.

    pub(super) fn listen(&mut self, socket: TcpListener) -> Key {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.acceptors.vacant_entry();
        let key = Key::new(entry.key(), self.generation);
        let acceptor = entry.insert(Acceptor::new(key, socket, self.accept_queue_max));
        acceptor.resume(&mut self.kit);
        key
    }

    pub(super) fn acceptor(&mut self, key: Key) -> Option<(&mut Acceptor, &mut Kit)> {
        Some((acceptor_of(&mut self.acceptors, key)?, &mut self.kit))
    }

    pub(super) fn release_acceptor(&mut self, key: Key) {
        if let Some(acceptor) = acceptor_of(&mut self.acceptors, key) {
            acceptor.release(&mut self.kit);
            if acceptor.is_over() {
                self.acceptors.remove(key.index());
            }
        }
    }

    pub(super) fn connect(&mut self, socket: TcpStream) -> Key {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.connections.vacant_entry();
        let key = Key::new(entry.key(), self.generation);
        let connection = entry.insert(Connection::new(key, socket));
        connection.resume_receive(&mut self.kit);
        key
    }

    /// `None` when the reactor ended it.
    pub(super) fn connection(&mut self, key: Key) -> Option<(&mut Connection, &mut Kit)> {
        Some((connection_of(&mut self.connections, key)?, &mut self.kit))
    }

    pub(super) fn release_connection(&mut self, key: Key) {
        let Some(connection) = connection_of(&mut self.connections, key) else {
            return;
        };
        connection.release(&mut self.kit);
        if connection.is_lingering() {
            self.lingering.push_back((Instant::now() + self.linger_max, key));
            // The task has a new moment to wait for.
            self.kit.queue.ring_alarm();
        }
        self.remove_if_over(key);
    }

    // Time.

    /// The next moment at which [`Self::expire`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let linger = self.lingering.front().map(|(until, _)| *until);
        [linger, self.trim_due, self.retry_due].into_iter().flatten().min()
    }

    /// Does what was due at `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        self.retry_due = self.retry_due.filter(|due| *due > now);
        while let Some((until, key)) = self.lingering.front().copied()
            && until <= now
        {
            self.lingering.pop_front();
            self.abandon(key);
        }
        if self.trim_due.is_some_and(|due| due <= now) {
            self.trim_due = None;
            self.kit.buffers.trim();
            self.kit.staging.trim();
            self.lingering.shrink_to_fit();
            self.schedule_trim();
        }
    }

    fn abandon(&mut self, key: Key) {
        if let Some(connection) = connection_of(&mut self.connections, key)
            && connection.abandon(&mut self.kit)
        {
            self.counters.lingers_expired += 1;
            self.remove_if_over(key);
        }
    }

    /// What the kernel lacks may be back a little later; trying without a pause would spin.
    fn schedule_retry(&mut self) {
        if self.retry_due.is_none() {
            self.retry_due = Some(Instant::now() + RETRY_AFTER);
            // The task has a new moment to wait for.
            self.kit.queue.ring_alarm();
        }
    }

    fn schedule_trim(&mut self) {
        if self.trim_due.is_none() && (self.kit.buffers.wants_trim() || self.kit.staging.wants_trim()) {
            self.trim_due = Some(Instant::now() + self.trim_after);
            self.kit.queue.ring_alarm();
        }
    }

    // The end.

    /// Sends what is left to send, then ends every operation, both within [`Config::shutdown_max`]. Streams and
    /// listeners that outlive this find their connection gone.
    pub(super) fn shutdown(&mut self) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        let deadline = Instant::now() + self.shutdown_max;
        // Half of the time for the bytes, the other half for the kernel to let go.
        self.run_until(deadline - self.shutdown_max / 2, |driver| {
            driver.connections.iter().all(|(_, connection)| !connection.is_lingering())
        });
        self.abort_all();
        self.run_until(deadline, |driver| driver.kit.queue.in_flight() == 0);
    }

    fn abort_all(&mut self) {
        let keys: Vec<Key> = self.acceptors.iter().map(|(_, acceptor)| acceptor.key).collect();
        for key in keys {
            self.release_acceptor(key);
        }
        let keys: Vec<Key> = self.connections.iter().map(|(_, connection)| connection.key).collect();
        for key in keys {
            if let Some(connection) = connection_of(&mut self.connections, key) {
                connection.abort(&mut self.kit);
                self.remove_if_over(key);
            }
        }
        self.kit.queue.push(Submission::cancel_all());
    }

    fn run_until(&mut self, deadline: Instant, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.kit.queue.in_flight() == 0 {
                return;
            }
            if let Err(error) = self.kit.queue.wait(left.min(WAIT_MAX)) {
                tracing::error!(%error, "the ring cannot be waited for");
                return;
            }
            self.take_completions();
            self.kit.buffers.offer();
        }
    }

    // The rest.

    /// The wakers to call, and those to drop, once the driver is no longer borrowed.
    pub(super) fn take_wakers(&mut self, into: &mut Vec<Waker>, retired: &mut Vec<Waker>) {
        mem::swap(&mut self.kit.wakers, into);
        mem::swap(&mut self.kit.retired, retired);
    }

    pub(super) fn set_alarm(&mut self, waker: &Waker) {
        self.kit.queue.set_alarm(waker);
    }

    pub(super) fn ring_fd(&self) -> RawFd {
        self.kit.queue.fd()
    }

    pub(super) fn stats(&self) -> Stats {
        let queue = &self.kit.queue;
        Stats {
            enters: queue.counters.enters,
            completions: queue.counters.completions,
            completions_stale: self.counters.stale,
            completion_overflows: queue.counters.overflows,
            submissions_refused: queue.counters.refused,
            submissions_deferred: queue.counters.deferred,
            operations_in_flight: queue.in_flight() as u64,
            buffers_exhausted: self.counters.exhausted,
            buffers_in_use: u64::from(self.kit.buffers.held()),
            receives_unpooled: self.kit.receives_own,
            connections: self.connections.len() as u64,
            lingers_expired: self.counters.lingers_expired,
            accept_pauses: self.counters.accept_pauses,
        }
    }
}

impl Drop for Driver {
    /// The kernel may write to a receive buffer, and read from a send buffer, as long as it has the operation in
    /// hand. If it would not let go of all in time, what it may touch is leaked instead of freed. Closing the ring
    /// then ends the operations some time later.
    fn drop(&mut self) {
        self.shutdown();
        let in_flight = self.kit.queue.in_flight();
        // SAFETY: both fields are taken here and nowhere else, and `drop` is the last to see them.
        let (kit, connections) =
            unsafe { (ManuallyDrop::take(&mut self.kit), ManuallyDrop::take(&mut self.connections)) };
        let Kit { queue, buffers, staging, .. } = kit;
        // The ring goes first: the pool's memory is registered with it.
        drop(queue);
        drop(staging);
        if in_flight == 0 {
            drop((connections, buffers));
        } else {
            tracing::error!(in_flight, "the kernel did not let go of all operations: leaking their memory");
            // The peers are told at least, since the sockets are leaked as well.
            for (_, connection) in &connections {
                let _ = connection.socket.shutdown(Shutdown::Both);
            }
            mem::forget((connections, buffers));
        }
    }
}

fn connection_of(connections: &mut Slab<Connection>, key: Key) -> Option<&mut Connection> {
    connections.get_mut(key.index()).filter(|connection| connection.key == key)
}

fn acceptor_of(acceptors: &mut Slab<Acceptor>, key: Key) -> Option<&mut Acceptor> {
    acceptors.get_mut(key.index()).filter(|acceptor| acceptor.key == key)
}

/// Completions copied out of the shared queue at a time: room on two pages, and connections may submit in between.
const COMPLETIONS_PER_BATCH: usize = 128;
/// One enter finishes about 20 deferred completions, so there are several per turn; the bound lets the tasks run that
/// were woken so far.
const ENTERS_PER_TURN_MAX: usize = 4;
/// After the kernel refused a submission.
const RETRY_AFTER: Duration = Duration::from_millis(1);
/// While shutting down: how long to wait at a time.
const WAIT_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::task::{Context, Poll};

    use hyper::rt::ReadBuf;

    use super::*;
    use crate::config::Io;

    fn driver() -> Driver {
        let config = Config { io: Io::Uring, shutdown_max: Duration::from_millis(200), ..Config::default() };
        Driver::new(&config).unwrap()
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (listener.accept().unwrap().0, client)
    }

    fn turn_until(driver: &mut Driver, done: impl Fn(&mut Driver) -> bool) {
        let start = Instant::now();
        while !done(driver) {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", driver.stats());
            driver.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn read(driver: &mut Driver, key: Key) -> Poll<Vec<u8>> {
        let mut bytes = [0; 100];
        let mut buffer = ReadBuf::new(&mut bytes);
        let (connection, kit) = driver.connection(key).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        connection.poll_read(&mut context, &mut buffer.unfilled(), kit).map(|result| {
            result.unwrap();
            buffer.filled().to_vec()
        })
    }

    #[test]
    fn a_late_completion_never_reaches_the_successor_of_its_connection() {
        let mut driver = driver();
        let (server, client) = pair();
        let first = driver.connect(server);
        driver.turn();
        driver.release_connection(first);
        turn_until(&mut driver, |driver| driver.connection(first).is_none());
        drop(client);

        let (server, mut client) = pair();
        let second = driver.connect(server);
        assert_eq!(first.index(), second.index(), "the place is used again");
        driver.turn();
        // Whatever may come late for the first: its end, an error, a buffer, a finished send, a connection.
        let stale = driver.stats().completions_stale;
        let buffer_flag = 1 | 5 << 16;
        driver.complete(Operation::Receive(first).user_data(), 0, 0);
        driver.complete(Operation::Receive(first).user_data(), -libc::ECONNRESET, 0);
        driver.complete(Operation::Receive(first).user_data(), 10, buffer_flag);
        driver.complete(Operation::Send(first).user_data(), 10, 0);
        driver.complete(Operation::Accept(first).user_data(), -libc::EBADF, 0);
        assert_eq!(driver.stats().completions_stale, stale + 5);
        assert_eq!(driver.stats().buffers_in_use, 0, "the buffer went back to the pool");
        assert!(read(&mut driver, second).is_pending(), "the successor saw an end, an error or bytes");
        client.write_all(b"mine").unwrap();
        turn_until(&mut driver, |driver| driver.stats().buffers_in_use == 1);
        assert_eq!(read(&mut driver, second), Poll::Ready(b"mine".to_vec()));
    }

    #[test]
    fn what_the_kernel_refuses_for_now_is_submitted_later() {
        let mut driver = driver();
        let (server, mut client) = pair();
        let key = driver.connect(server);
        driver.kit.queue.refuse_next = 3;
        for _ in 0..3 {
            driver.turn();
            let due = driver.next_due().expect("it will try again");
            assert!(due <= Instant::now() + RETRY_AFTER);
            driver.expire(due);
        }
        assert_eq!(driver.stats().submissions_refused, 3);
        client.write_all(b"hello").unwrap();
        turn_until(&mut driver, |driver| driver.stats().buffers_in_use == 1);
        assert_eq!(read(&mut driver, key), Poll::Ready(b"hello".to_vec()));
    }

    #[test]
    fn memory_that_the_kernel_does_not_let_go_of_is_leaked() {
        let mut driver = driver();
        let (server, mut client) = pair();
        driver.connect(server);
        driver.turn();
        let address = driver.kit.buffers.address();
        // An operation that never completes.
        driver.kit.queue.pretend_in_flight();
        let start = Instant::now();
        drop(driver);
        assert!(start.elapsed() < Duration::from_secs(5));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapped = maps.lines().any(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split_once(' ').unwrap().0;
            let range = usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap();
            range.contains(&address)
        });
        assert!(mapped, "the pool was freed under the kernel");
        // What could be closed is closed.
        assert!(!matches!(client.read(&mut [0]), Ok(1..)));
    }
}
