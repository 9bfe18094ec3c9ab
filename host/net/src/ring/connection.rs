//! One connection of the ring: what the kernel has in hand for it, what was received and not read, what was written
//! and not sent. Its methods get the queue and the pools as [`Kit`], so nothing here knows of other connections.
//!
//! ```text
//! Receive:   Armed ──(too much unread)──> Cancelling ──> Paused ──(read)──> Armed
//!              │ └──(no buffer)──> Starved ──(half of the pool is back)──> Armed
//!              └──(end or error)──> Ended
//! Transmit:  Idle <──> InFlight ──> Failed        Idle ──(poll_shutdown)──> ShutDown
//! Owner:     Stream ──(drop)──> Sending ──> Draining ──> Closing
//! ```
//! A connection leaves its slab only in `Closing`, when the kernel has nothing of it in hand. That is what makes the
//! pointers sound that a send carries: the vector lives in `Transmit::InFlight` until the completion was taken.

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
    /// Connections whose receive found no buffer, in the order in which that happened.
    pub(super) starved: VecDeque<Key>,
    pub(super) bytes_spilled: usize,
    /// Wakers to call, and wakers to drop, once nothing is borrowed: either may run code that comes back here.
    pub(super) wakers: Vec<Waker>,
    pub(super) retired: Vec<Waker>,
    pub(super) limits: Limits,
}

/// The part of the configuration that connections need.
pub(super) struct Limits {
    pub(super) connection_buffers_max: usize,
    pub(super) connection_buffers_resume: usize,
    pub(super) staging_bytes_max: usize,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    Armed,
    /// A cancel is on its way, but completions may come before it works.
    Cancelling,
    Paused,
    /// Waits in [`Kit::starved`].
    Starved,
    Ended(End),
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
    Pooled {
        buffer: Buffer,
        start: usize,
        end: usize,
    },
    /// Copied out of the pool to give the buffer back.
    Spilled { bytes: Box<[u8]>, start: usize },
}

/// What the completion of a receive said.
pub(super) struct Received {
    pub(super) result: i32,
    pub(super) buffer: Option<Buffer>,
    /// Whether the operation goes on.
    pub(super) more: bool,
}

impl Connection {
    pub(super) fn new(key: Key, socket: TcpStream) -> Self {
        Self {
            key,
            socket,
            owner: Owner::Stream,
            receive: Receive::Paused,
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
                Receive::Ended(End::Failed(errno)) => {
                    Poll::Ready(Err(io::Error::from_raw_os_error(errno)))
                }
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
                let chunk = self
                    .unread
                    .pop_front()
                    .expect("it was at the front just now");
                chunk.recycle(kit);
            }
        }
        self.resume_receive(kit);
        if !kit.starved.is_empty() {
            // Buffers came back that others wait for; the next turn looks whether they are enough.
            kit.queue.ring_alarm();
        }
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

    pub(super) fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        kit: &mut Kit,
    ) -> Poll<io::Result<()>> {
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
        // Unread input: chunks here, or so many that the rest was left in the socket.
        let unread = !self.unread.is_empty()
            || matches!(self.receive, Receive::Cancelling | Receive::Starved);
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
            && !matches!(self.receive, Receive::Armed | Receive::Cancelling)
            && !matches!(self.transmit, Transmit::InFlight { .. })
    }

    // The kernel's side: input.

    /// Arms the receive if it is not, and if little enough is unread.
    pub(super) fn resume_receive(&mut self, kit: &mut Kit) {
        if self.receive == Receive::Paused
            && self.owner != Owner::Closing
            && self.unread.len() <= kit.limits.connection_buffers_resume
        {
            self.receive = Receive::Armed;
            kit.queue.push(Submission::receive(
                self.socket.as_raw_fd(),
                GROUP,
                self.key,
            ));
        }
    }

    /// Half of the pool is back.
    pub(super) fn end_starvation(&mut self, kit: &mut Kit) {
        if self.receive == Receive::Starved {
            self.receive = Receive::Paused;
            self.resume_receive(kit);
        }
    }

    pub(super) fn received(&mut self, received: Received, kit: &mut Kit) {
        if let Some(buffer) = received.buffer {
            self.keep_or_discard(buffer, received.result, kit);
        }
        if !received.more {
            self.receive = match received.result {
                0 => Receive::Ended(End::OfInput),
                1.. => Receive::Paused,
                error => match -error {
                    libc::ENOBUFS => Receive::Starved,
                    // Cancelled by us, or something that passes.
                    libc::ECANCELED | libc::EINTR | libc::EAGAIN => Receive::Paused,
                    errno => Receive::Ended(End::Failed(errno)),
                },
            };
        }
        match self.receive {
            Receive::Starved => kit.starved.push_back(self.key),
            Receive::Paused => self.resume_receive(kit),
            Receive::Armed if self.unread.len() >= kit.limits.connection_buffers_max => {
                self.cancel_receive(kit)
            }
            Receive::Armed | Receive::Cancelling | Receive::Ended(_) => {}
        }
        if !self.unread.is_empty() || matches!(self.receive, Receive::Ended(_)) {
            kit.wakers.extend(self.reader.take());
        }
        self.finish_sending(kit);
    }

    fn keep_or_discard(&mut self, buffer: Buffer, result: i32, kit: &mut Kit) {
        match (self.owner, usize::try_from(result)) {
            (Owner::Stream, Ok(end @ 1..)) => self.unread.push_back(Chunk::Pooled {
                buffer,
                start: 0,
                end,
            }),
            (Owner::Sending { .. }, Ok(1..)) => {
                kit.buffers.recycle(buffer);
                self.owner = Owner::Sending { unread: true };
            }
            _ => kit.buffers.recycle(buffer),
        }
    }

    fn cancel_receive(&mut self, kit: &mut Kit) {
        if self.receive == Receive::Armed {
            self.receive = Receive::Cancelling;
            kit.queue
                .push(Submission::cancel(Operation::Receive(self.key)));
        }
    }

    fn discard_unread(&mut self, kit: &mut Kit) {
        for chunk in self.unread.drain(..) {
            chunk.recycle(kit);
        }
    }

    /// Copies unread input out of the pool, to give back at most `wanted` buffers within `room` bytes.
    pub(super) fn spill(&mut self, wanted: usize, mut room: usize, kit: &mut Kit) {
        let pooled = self
            .unread
            .iter_mut()
            .filter(|chunk| matches!(chunk, Chunk::Pooled { .. }));
        for chunk in pooled.take(wanted) {
            let Chunk::Pooled { buffer, start, end } = chunk else {
                continue;
            };
            let bytes: Box<[u8]> = kit.buffers.bytes(buffer, *start..*end).into();
            if bytes.len() > room {
                return;
            }
            room -= bytes.len();
            kit.bytes_spilled += bytes.len();
            mem::replace(chunk, Chunk::Spilled { bytes, start: 0 }).recycle(kit);
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
        let submission =
            unsafe { Submission::send(self.socket.as_raw_fd(), rest.as_ptr(), length, self.key) };
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
            kit.queue
                .push(Submission::cancel(Operation::Send(self.key)));
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
            Self::Spilled { bytes, start } => {
                let length = cursor.remaining().min(bytes.len() - *start);
                cursor.put_slice(&bytes[*start..*start + length]);
                *start += length;
                *start == bytes.len()
            }
        }
    }

    fn recycle(self, kit: &mut Kit) {
        match self {
            Self::Pooled { buffer, .. } => kit.buffers.recycle(buffer),
            Self::Spilled { bytes, .. } => kit.bytes_spilled -= bytes.len(),
        }
    }
}

fn replace_waker(slot: &mut Option<Waker>, context: &Context<'_>, kit: &mut Kit) {
    match slot {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => kit.retired.extend(slot.replace(context.waker().clone())),
    }
}
