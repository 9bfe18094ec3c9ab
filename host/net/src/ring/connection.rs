//! One connection of the ring: what the kernel has in hand for it, what was received and not read, what was written
//! and not sent. Its methods get the queue and the pools as [`Kit`], so nothing here knows of other connections.
//!
//! ```text
//! Receive:   Pooled ──(too much unread)──> Cancelling ──> Paused ──(read)──> Pooled or Own
//!               └──(no buffer)──> Paused ──> Own ──> Paused              any ──(end or error)──> Ended
//! Transmit:  Idle <──> InFlight ──> Failed        Idle ──(poll_shutdown)──> ShutDown
//! Owner:     Stream ──(drop)──> Sending ──> Draining ──> Closing
//! ```
//! Input comes in two ways. A trickle, which is nearly all there is in HTTP, comes through the multishot receive and
//! the pool: nothing to submit, and no memory while nothing comes. But one multishot receive takes in a single
//! system call whatever the socket has: measured, all 256 buffers on offer, for one upload, before a cancel could be
//! submitted. So a connection that had too much unread goes on in bulk: receives of its own, one at a time, each
//! into memory of its own and only while more is known to be waiting. The same way helps a connection for which the
//! pool had no buffer: it makes progress whatever the others hold, and so it can neither livelock nor deadlock.
//!
//! A connection leaves its slab only in `Closing`, when the kernel has nothing of it in hand. That is what makes the
//! pointers sound that operations carry: the vector lives in `Transmit::InFlight` or `Receive::Own` until the
//! completion was taken.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, Waker};

use hyper::rt::ReadBufCursor;

use super::buffers::{Buffer, BufferPool, GROUP};
use super::operation::{Key, Operation, Submission};
use super::queue::Queue;
use super::staging::StagingPool;

/// What connections share.
pub(super) struct Kit {
    pub(super) queue: Queue,
    pub(super) buffers: BufferPool,
    pub(super) staging: StagingPool,
    /// Wakers to call, and wakers to drop, once nothing is borrowed: either may run code that comes back here.
    pub(super) wakers: Vec<Waker>,
    pub(super) retired: Vec<Waker>,
    pub(super) limits: Limits,
    pub(super) receives_own: u64,
}

/// The part of the configuration that connections need.
pub(super) struct Limits {
    pub(super) connection_buffers_max: usize,
    pub(super) connection_buffers_resume: usize,
    pub(super) staging_bytes_max: usize,
    pub(super) buffer_bytes: usize,
    pub(super) bulk_bytes: usize,
}

pub(super) struct Connection {
    pub(super) key: Key,
    pub(super) socket: TcpStream,
    owner: Owner,
    receive: Receive,
    unread: VecDeque<Chunk>,
    transmit: Transmit,
    /// Written and not in flight.
    staged: Vec<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Who cares for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// A [`super::RingStream`] does.
    Stream,
    /// The stream was dropped and bytes are left to send. Input is thrown away.
    Sending {
        /// Whether there was input that nobody read, so that closing at once would reset the connection.
        unread: bool,
    },
    /// All is sent and this side is ended; input is thrown away until the peer ends its side.
    Draining,
    /// Only completions are awaited.
    Closing,
}

#[derive(Debug)]
enum Receive {
    /// Multishot, into the pool.
    Pooled,
    /// The same; a cancel is on its way, but completions may come before it works.
    Cancelling,
    /// Once, into memory of its own.
    Own {
        /// Not touched until the completion was taken: the kernel writes to its spare capacity.
        buffer: Vec<u8>,
    },
    Paused(Flow),
    Ended(End),
}

/// How a paused connection will receive next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Trickle,
    /// The pool had no buffer.
    Starved,
    /// There was too much unread, or more is known to be waiting in the socket.
    Bulk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    OfInput,
    /// An errno.
    Failed(i32),
}

#[derive(Debug)]
enum Transmit {
    Idle,
    InFlight {
        /// Not touched until the completion was taken: the kernel reads it.
        buffer: Vec<u8>,
        sent: usize,
    },
    ShutDown,
    /// An errno.
    Failed(i32),
}

/// A piece of unread input, the part before `start` having been read.
enum Chunk {
    Pooled { buffer: Buffer, start: usize, end: usize },
    Own { bytes: Vec<u8>, start: usize },
}

/// What the completion of a receive said.
pub(super) struct Received {
    pub(super) result: i32,
    pub(super) buffer: Option<Buffer>,
    /// Whether the operation goes on.
    pub(super) more: bool,
    /// Whether more is waiting in the socket.
    pub(super) nonempty: bool,
}

impl Connection {
    pub(super) fn new(key: Key, socket: TcpStream) -> Self {
        Self {
            key,
            socket,
            owner: Owner::Stream,
            receive: Receive::Paused(Flow::Trickle),
            unread: VecDeque::new(),
            transmit: Transmit::Idle,
            staged: Vec::new(),
            reader: None,
            writer: None,
        }
    }

    // The stream's side.

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        cursor: &mut ReadBufCursor<'_>,
        kit: &mut Kit,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return match self.receive {
                Receive::Ended(End::OfInput) => Poll::Ready(Ok(())),
                Receive::Ended(End::Failed(errno)) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
                _ => {
                    replace_waker(&mut self.reader, context, kit);
                    Poll::Pending
                }
            };
        }
        while cursor.remaining() > 0
            && let Some(chunk) = self.unread.front_mut()
        {
            if chunk.copy_to(cursor, &kit.buffers) {
                let chunk = self.unread.pop_front().expect("it was at the front just now");
                chunk.recycle(kit);
            }
        }
        if self.unread.is_empty() && self.unread.capacity() > kit.limits.connection_buffers_max {
            // After a rush; connections that idle hold next to nothing.
            self.unread = VecDeque::new();
        }
        self.resume_receive(kit);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        kit: &mut Kit,
    ) -> Poll<io::Result<usize>> {
        match self.transmit {
            Transmit::Failed(errno) => {
                return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
            }
            Transmit::ShutDown => {
                return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EPIPE)));
            }
            Transmit::Idle | Transmit::InFlight { .. } => {}
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let room = kit.limits.staging_bytes_max.saturating_sub(self.unsent());
        if room == 0 {
            replace_waker(&mut self.writer, context, kit);
            return Poll::Pending;
        }
        if self.staged.capacity() == 0 {
            self.staged = kit.staging.take();
        }
        let mut taken = 0;
        for slice in slices {
            let length = slice.len().min(room - taken);
            self.staged.extend_from_slice(&slice[..length]);
            taken += length;
        }
        // Half of the room goes out while the other half is being filled.
        if self.staged.len() >= kit.limits.staging_bytes_max / 2 {
            self.send_staged(kit);
        }
        Poll::Ready(Ok(taken))
    }

    pub(super) fn poll_flush(&mut self, kit: &mut Kit) -> Poll<io::Result<()>> {
        if let Transmit::Failed(errno) = self.transmit {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        self.send_staged(kit);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>, kit: &mut Kit) -> Poll<io::Result<()>> {
        self.send_staged(kit);
        match self.transmit {
            Transmit::Failed(errno) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            Transmit::ShutDown => Poll::Ready(Ok(())),
            Transmit::InFlight { .. } => {
                replace_waker(&mut self.writer, context, kit);
                Poll::Pending
            }
            Transmit::Idle => Poll::Ready(self.shut_down()),
        }
    }

    fn shut_down(&mut self) -> io::Result<()> {
        self.transmit = Transmit::ShutDown;
        match self.socket.shutdown(Shutdown::Write) {
            // The peer reset the connection in the meantime: it is ended all the same.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// The stream is gone. What it wrote is still sent; the caller sees to it that this does not take for ever.
    pub(super) fn release(&mut self, kit: &mut Kit) {
        kit.retired.extend(self.reader.take());
        kit.retired.extend(self.writer.take());
        // Chunks here, or so many that the rest was left in the socket.
        let unread = !self.unread.is_empty()
            || matches!(self.receive, Receive::Cancelling | Receive::Own { .. } | Receive::Paused(_));
        self.discard_unread(kit);
        self.send_staged(kit);
        self.owner = Owner::Sending { unread };
        self.finish_sending(kit);
        self.resume_receive(kit);
    }

    /// Gives up on what is left to send or to drain. True if there was something.
    pub(super) fn abandon(&mut self, kit: &mut Kit) -> bool {
        if !self.is_lingering() {
            return false;
        }
        self.close(kit);
        true
    }

    /// The loop ends: nothing goes on, whoever cares for the connection.
    pub(super) fn abort(&mut self, kit: &mut Kit) {
        kit.wakers.extend(self.reader.take());
        kit.wakers.extend(self.writer.take());
        self.discard_unread(kit);
        self.close(kit);
    }

    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.owner, Owner::Sending { .. } | Owner::Draining)
    }

    /// Whether it can leave the slab, which closes the socket.
    pub(super) fn is_over(&self) -> bool {
        self.owner == Owner::Closing
            && matches!(self.receive, Receive::Paused(_) | Receive::Ended(_))
            && !matches!(self.transmit, Transmit::InFlight { .. })
    }

    // The kernel's side: input.

    /// Receives again if nothing in the kernel does, and if little enough is unread.
    pub(super) fn resume_receive(&mut self, kit: &mut Kit) {
        let Receive::Paused(flow) = self.receive else { return };
        let unread_max = match flow {
            Flow::Trickle | Flow::Starved => kit.limits.connection_buffers_resume,
            Flow::Bulk => 0,
        };
        if self.owner == Owner::Closing || self.unread.len() > unread_max {
            return;
        }
        match flow {
            // As long as the pool is short, nobody gets a multishot receive, which could take all of the rest.
            Flow::Trickle if !kit.buffers.is_short() => {
                self.receive = Receive::Pooled;
                kit.queue.push(Submission::receive(self.socket.as_raw_fd(), GROUP, self.key));
            }
            Flow::Trickle | Flow::Starved => self.receive_own(kit.limits.buffer_bytes, kit),
            Flow::Bulk => self.receive_own(kit.limits.bulk_bytes, kit),
        }
    }

    fn receive_own(&mut self, length: usize, kit: &mut Kit) {
        let mut buffer = kit.staging.take();
        buffer.reserve_exact(length);
        let start = buffer.as_mut_ptr();
        // SAFETY: the vector is empty, so `start` is where its capacity of at least `length` begins. It stays in
        // `Receive::Own`, which nobody changes or leaves but `received`, and that is called with the completion of
        // this very operation: the key carries the generation. Moving the connection moves the vector but not its
        // memory. Until then `is_over` keeps the connection in its slab, and the driver leaks the slab rather than
        // free it while anything is in flight.
        let submission = unsafe { Submission::receive_into(self.socket.as_raw_fd(), start, length as u32, self.key) };
        self.receive = Receive::Own { buffer };
        kit.receives_own += 1;
        kit.queue.push(submission);
    }

    pub(super) fn received(&mut self, received: Received, kit: &mut Kit) {
        let Received { result, buffer, more, nonempty } = received;
        if let Some(buffer) = buffer {
            let end = usize::try_from(result).unwrap_or(0);
            self.keep_or_discard(Chunk::Pooled { buffer, start: 0, end }, kit);
        }
        if !more {
            self.receive_ended(result, nonempty, kit);
        }
        let unread_max = kit.limits.connection_buffers_max;
        if matches!(self.receive, Receive::Pooled) && self.unread.len() >= unread_max {
            self.cancel_receive(kit);
        }
        self.resume_receive(kit);
        if !self.unread.is_empty() || matches!(self.receive, Receive::Ended(_)) {
            kit.wakers.extend(self.reader.take());
        }
        self.finish_sending(kit);
    }

    /// The operation will not complete again.
    fn receive_ended(&mut self, result: i32, nonempty: bool, kit: &mut Kit) {
        let before = mem::replace(&mut self.receive, Receive::Paused(Flow::Trickle));
        if let Receive::Own { mut buffer } = before {
            let length = usize::try_from(result).unwrap_or(0);
            assert!(length <= buffer.capacity(), "the kernel wrote more than it was given room for");
            // SAFETY: the kernel wrote `length` bytes to the start of the vector, and so they are initialised.
            unsafe { buffer.set_len(length) };
            self.keep_or_discard(Chunk::Own { bytes: buffer, start: 0 }, kit);
        }
        let crowded = self.unread.len() >= kit.limits.connection_buffers_max;
        self.receive = match result {
            0 => Receive::Ended(End::OfInput),
            1.. if crowded || nonempty => Receive::Paused(Flow::Bulk),
            1.. => Receive::Paused(Flow::Trickle),
            error => match -error {
                libc::ENOBUFS | libc::ECANCELED if crowded => Receive::Paused(Flow::Bulk),
                libc::ENOBUFS => Receive::Paused(Flow::Starved),
                // Cancelled by us, or something that passes.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => Receive::Paused(Flow::Trickle),
                errno => Receive::Ended(End::Failed(errno)),
            },
        };
    }

    fn keep_or_discard(&mut self, chunk: Chunk, kit: &mut Kit) {
        match self.owner {
            Owner::Stream if !chunk.is_empty() => return self.unread.push_back(chunk),
            Owner::Sending { .. } if !chunk.is_empty() => self.owner = Owner::Sending { unread: true },
            _ => {}
        }
        chunk.recycle(kit);
    }

    fn cancel_receive(&mut self, kit: &mut Kit) {
        match self.receive {
            Receive::Pooled => self.receive = Receive::Cancelling,
            Receive::Own { .. } => {}
            Receive::Cancelling | Receive::Paused(_) | Receive::Ended(_) => return,
        }
        kit.queue.push(Submission::cancel(Operation::Receive(self.key)));
    }

    fn discard_unread(&mut self, kit: &mut Kit) {
        for chunk in self.unread.drain(..) {
            chunk.recycle(kit);
        }
    }

    // The kernel's side: output.

    /// Bytes written and not yet taken by the kernel.
    fn unsent(&self) -> usize {
        match &self.transmit {
            Transmit::InFlight { buffer, sent } => self.staged.len() + buffer.len() - sent,
            _ => self.staged.len(),
        }
    }

    fn send_staged(&mut self, kit: &mut Kit) {
        if !self.staged.is_empty() && matches!(self.transmit, Transmit::Idle) {
            let buffer = mem::take(&mut self.staged);
            self.transmit = Transmit::InFlight { buffer, sent: 0 };
            self.send(kit);
        }
    }

    /// Sends what is left of the buffer in flight.
    fn send(&mut self, kit: &mut Kit) {
        let Transmit::InFlight { buffer, sent } = &self.transmit else {
            return;
        };
        let rest = &buffer[*sent..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        // SAFETY: the vector stays in `Transmit::InFlight`, which nobody changes or leaves but `sent`, and that is
        // called with the completion of this very operation: the key carries the generation. Moving the connection
        // moves the vector but not its bytes. Until then `is_over` keeps the connection in its slab, and the driver
        // leaks the slab rather than free it while anything is in flight.
        let submission = unsafe { Submission::send(self.socket.as_raw_fd(), rest.as_ptr(), length, self.key) };
        kit.queue.push(submission);
    }

    pub(super) fn sent(&mut self, result: i32, kit: &mut Kit) {
        let Transmit::InFlight { buffer, sent } = &mut self.transmit else {
            debug_assert!(false, "a send completed that was not in flight");
            return;
        };
        match result {
            0.. => *sent += result as usize,
            // Something that passes: the same once more. Not while closing, or a cancel would be undone.
            _ if matches!(-result, libc::EINTR | libc::EAGAIN) && self.owner != Owner::Closing => {}
            error => {
                kit.staging.recycle(mem::take(buffer));
                kit.staging.recycle(mem::take(&mut self.staged));
                self.transmit = Transmit::Failed(-error);
                kit.wakers.extend(self.writer.take());
                return self.finish_sending(kit);
            }
        }
        if *sent < buffer.len() && self.owner != Owner::Closing {
            self.send(kit);
        } else {
            kit.staging.recycle(mem::take(buffer));
            self.transmit = Transmit::Idle;
            self.send_staged(kit);
        }
        // Room for a writer, or the end that `poll_shutdown` waits for.
        kit.wakers.extend(self.writer.take());
        self.finish_sending(kit);
    }

    // The end.

    /// Goes on from sending the rest to draining, and from there to closing, if it is time.
    fn finish_sending(&mut self, kit: &mut Kit) {
        let all_sent = !matches!(self.transmit, Transmit::InFlight { .. });
        let peer_is_done = matches!(self.receive, Receive::Ended(_));
        let failed = matches!(self.transmit, Transmit::Failed(_));
        match self.owner {
            Owner::Sending { unread: true } if all_sent && !peer_is_done && !failed => {
                self.owner = Owner::Draining;
                if let Transmit::Idle = self.transmit
                    && self.shut_down().is_err()
                {
                    self.close(kit);
                }
            }
            Owner::Sending { .. } if all_sent => self.close(kit),
            Owner::Draining if peer_is_done => self.close(kit),
            _ => {}
        }
    }

    /// Ends what the kernel has in hand.
    fn close(&mut self, kit: &mut Kit) {
        self.owner = Owner::Closing;
        kit.staging.recycle(mem::take(&mut self.staged));
        self.cancel_receive(kit);
        if let Transmit::InFlight { .. } = self.transmit {
            kit.queue.push(Submission::cancel(Operation::Send(self.key)));
        }
    }
}

impl Chunk {
    /// Copies as much as there is room for. True if that was all.
    fn copy_to(&mut self, cursor: &mut ReadBufCursor<'_>, buffers: &BufferPool) -> bool {
        match self {
            Self::Pooled { buffer, start, end } => {
                let length = cursor.remaining().min(*end - *start);
                cursor.put_slice(buffers.bytes(buffer, *start..*start + length));
                *start += length;
                *start == *end
            }
            Self::Own { bytes, start } => {
                let length = cursor.remaining().min(bytes.len() - *start);
                cursor.put_slice(&bytes[*start..*start + length]);
                *start += length;
                *start == bytes.len()
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Pooled { start, end, .. } => start == end,
            Self::Own { bytes, start } => *start == bytes.len(),
        }
    }

    fn recycle(self, kit: &mut Kit) {
        match self {
            Self::Pooled { buffer, .. } => kit.buffers.recycle(buffer),
            Self::Own { bytes, .. } => kit.staging.recycle(bytes),
        }
    }
}

fn replace_waker(slot: &mut Option<Waker>, context: &Context<'_>, kit: &mut Kit) {
    match slot {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => kit.retired.extend(slot.replace(context.waker().clone())),
    }
}
