//! The operations that the driver asks of the kernel: how each looks as a submission, and how its completion finds
//! its way back. Nothing is submitted here.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

/// Which connection or listener an operation belongs to. Places in a slab are used again, so the number of the
/// occupant goes with it: a completion that comes late never reaches the successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Generations are 24 bits wide and start over. That is safe because a place is not freed while the kernel has
    /// an operation of its occupant in hand; the generation is there for whatever else goes wrong.
    pub(super) fn new(index: usize, generation: u32) -> Self {
        let index = u32::try_from(index).expect("fewer than 2^32 connections");
        Self { index, generation: generation & GENERATION_MASK }
    }

    pub(super) fn index(self) -> usize {
        self.index as usize
    }
}

const GENERATION_MASK: u32 = (1 << 24) - 1;

/// What a completion is about. It travels through the kernel as `user_data`: 8 bits of kind, 24 of generation, 32 of
/// index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Accept(Key),
    Receive(Key),
    Send(Key),
    /// Completes with whether there was anything to cancel, which nobody needs to know.
    Cancel,
}

impl Operation {
    pub(super) fn user_data(self) -> u64 {
        let (kind, key) = match self {
            Self::Accept(key) => (ACCEPT, key),
            Self::Receive(key) => (RECEIVE, key),
            Self::Send(key) => (SEND, key),
            Self::Cancel => (CANCEL, Key { index: 0, generation: 0 }),
        };
        kind << 56 | u64::from(key.generation) << 32 | u64::from(key.index)
    }

    /// `None` for a number that was never given out.
    pub(super) fn from_user_data(user_data: u64) -> Option<Self> {
        let generation = (user_data >> 32) as u32 & GENERATION_MASK;
        let key = Key { index: user_data as u32, generation };
        match user_data >> 56 {
            ACCEPT => Some(Self::Accept(key)),
            RECEIVE => Some(Self::Receive(key)),
            SEND => Some(Self::Send(key)),
            CANCEL => Some(Self::Cancel),
            _ => None,
        }
    }
}

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const CANCEL: u64 = 4;

/// One operation, ready to be submitted. That an entry exists means that it may be: what it points to, if anything,
/// was promised by the caller of [`Submission::send`] or [`Submission::receive_into`].
pub(super) struct Submission(pub(super) squeue::Entry);

impl Submission {
    /// Accepts until it is cancelled or fails: one completion per connection. The sockets stay blocking, since
    /// io_uring fails an operation on a non-blocking socket with `EAGAIN` where it would wait for us otherwise.
    pub(super) fn accept(listener: RawFd, key: Key) -> Self {
        let entry = opcode::AcceptMulti::new(types::Fd(listener)).flags(libc::SOCK_CLOEXEC);
        Self(entry.build().user_data(Operation::Accept(key).user_data()))
    }

    /// Receives until it is cancelled, ends or finds no buffer: one completion per buffer, which the kernel takes
    /// from the pool registered as `group`.
    pub(super) fn receive(socket: RawFd, group: u16, key: Key) -> Self {
        let entry = opcode::RecvMulti::new(types::Fd(socket), group);
        Self(entry.build().user_data(Operation::Receive(key).user_data()))
    }

    /// Receives once.
    ///
    /// # Safety
    /// `bytes` points to room for `length` bytes that stays where it is, allocated and untouched, until the completion
    /// of this operation was taken from the completion queue.
    pub(super) unsafe fn receive_into(socket: RawFd, bytes: *mut u8, length: u32, key: Key) -> Self {
        let entry = opcode::Recv::new(types::Fd(socket), bytes, length);
        Self(entry.build().user_data(Operation::Receive(key).user_data()))
    }

    /// Sends once, as much as the socket takes.
    ///
    /// # Safety
    /// `bytes` points to `length` bytes that stay where they are, allocated and unchanged, until the completion of
    /// this operation was taken from the completion queue.
    pub(super) unsafe fn send(socket: RawFd, bytes: *const u8, length: u32, key: Key) -> Self {
        let entry = opcode::Send::new(types::Fd(socket), bytes, length).flags(libc::MSG_NOSIGNAL);
        Self(entry.build().user_data(Operation::Send(key).user_data()))
    }

    /// Ends `target`, which then completes with `ECANCELED` unless it was done already.
    pub(super) fn cancel(target: Operation) -> Self {
        let entry = opcode::AsyncCancel::new(target.user_data());
        Self(entry.build().user_data(Operation::Cancel.user_data()))
    }

    /// Ends everything that the kernel has in hand.
    pub(super) fn cancel_all() -> Self {
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any());
        Self(entry.build().user_data(Operation::Cancel.user_data()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_back_from_user_data_as_they_went() {
        let key = Key::new(u32::MAX as usize, 0xab_cdef);
        for operation in [Operation::Accept(key), Operation::Receive(key), Operation::Send(key), Operation::Cancel] {
            assert_eq!(Operation::from_user_data(operation.user_data()), Some(operation));
        }
    }

    #[test]
    fn a_number_that_was_never_given_out_is_no_operation() {
        for user_data in [0, u64::MAX, 9 << 56] {
            assert_eq!(Operation::from_user_data(user_data), None);
        }
    }

    #[test]
    fn a_generation_beyond_24_bits_starts_over_and_does_not_reach_the_kind() {
        assert_eq!(Key::new(7, 1 << 24), Key::new(7, 0));
        let user_data = Operation::Send(Key::new(7, u32::MAX)).user_data();
        assert_eq!(user_data >> 56, SEND);
    }
}
