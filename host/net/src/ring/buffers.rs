//! The receive buffers that the kernel fills: one pool per event loop, shared with the kernel through a ring of
//! buffer descriptors. It does not know whose bytes a buffer holds.
//!
//! A buffer is always in one of three hands:
//! * *offered*: its descriptor is in the ring, and the kernel may write to it at any moment;
//! * *held*: a completion handed it to us as a [`Buffer`], until [`BufferPool::recycle`];
//! * *spare*: on a stack on our side.
//!
//! Only a quarter is offered at a time. The kernel takes buffers in the order in which they were offered, so a ring
//! with all of them would walk through the whole memory again and again, cold in the cache, and touch all of it even
//! under little load. Refilled from the top of the stack, the working set stays as small as the load, and what
//! nobody needs can be given back to the system: [`BufferPool::trim`].

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, types::BufRingEntry};

/// The kernel's name for the pool. There is one per ring.
pub(super) const GROUP: u16 = 0;

/// A buffer that the kernel filled and that is ours until it is recycled. It can be neither copied nor made up, so
/// no two owners read or return the same one.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to the pool"]
pub(super) struct Buffer(u16);

pub(super) struct BufferPool {
    descriptors: Mapping,
    memory: Mapping,
    buffer_bytes: usize,
    count: u16,
    /// Where the next descriptor goes, modulo `count`; the kernel reads up to here once it is published.
    tail: u16,
    offered: u16,
    spare: Vec<u16>,
    /// The most that were held at a time since the last trim.
    held_max: u16,
}

impl BufferPool {
    /// Maps the memory, which costs nothing before it is used, and registers the ring of descriptors.
    pub(super) fn new(ring: &IoUring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        let descriptors = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let buffer_bytes = buffer_bytes as usize;
        let memory = Mapping::new(usize::from(count) * (buffer_bytes + STAGGER_BYTES))?;
        // SAFETY: the mapping is page-aligned, holds `count` entries, and is unmapped after the ring is closed:
        // the driver drops the ring before the pool, or leaks the pool.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(descriptors.start.as_ptr() as u64, count, GROUP, 0)?;
        }
        let mut pool = Self {
            descriptors,
            memory,
            buffer_bytes,
            count,
            tail: 0,
            offered: 0,
            // The lowest on top, so that memory is touched from the start upwards.
            spare: (0..count).rev().collect(),
            held_max: 0,
        };
        pool.offer();
        Ok(pool)
    }

    /// The buffer that a completion named; `None` if the kernel names one that the pool does not have.
    pub(super) fn take(&mut self, id: u16) -> Option<Buffer> {
        if id >= self.count || self.offered == 0 {
            return None;
        }
        self.offered -= 1;
        self.held_max = self.held_max.max(self.held());
        Some(Buffer(id))
    }

    /// The bytes that the kernel wrote to a buffer. `range` is within what its completion reported.
    pub(super) fn bytes(&self, buffer: &Buffer, range: std::ops::Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.buffer_bytes);
        // SAFETY: the range is within the buffer, which is within the mapping. The mapping was zeroed by the kernel,
        // so all of it is initialised. That a `Buffer` exists means that it is held: its descriptor is not in the
        // ring, so neither we nor the kernel write to it while the borrow lasts, which ends before `recycle`.
        unsafe {
            let start = self.start_of(buffer.0).add(range.start);
            std::slice::from_raw_parts(start, range.len())
        }
    }

    /// Takes a buffer back. The kernel gets it with one of the next calls of [`Self::offer`].
    pub(super) fn recycle(&mut self, buffer: Buffer) {
        self.spare.push(buffer.0);
    }

    /// Offers the kernel a quarter of the pool again, or what there is.
    pub(super) fn offer(&mut self) {
        let target = (self.count / OFFERED_FRACTION).max(1);
        if self.offered >= target || self.spare.is_empty() {
            return;
        }
        while self.offered < target {
            let Some(id) = self.spare.pop() else { break };
            let slot = usize::from(self.tail & (self.count - 1));
            // SAFETY: `count` is a power of two, so the slot is within the mapping of `count` entries, which is
            // page-aligned. The kernel reads a slot only after the tail below was published beyond it, and there
            // are never more than `count` between its head and our tail, so it does not read this one now.
            unsafe {
                let entry = &mut *self.descriptors.start.as_ptr().cast::<BufRingEntry>().add(slot);
                entry.set_addr(self.start_of(id) as u64);
                entry.set_len(self.buffer_bytes as u32);
                entry.set_bid(id);
            }
            self.tail = self.tail.wrapping_add(1);
            self.offered += 1;
        }
        // SAFETY: the mapping starts with the first entry, inside whose reserved field the kernel defined the tail:
        // 2 bytes, aligned, only written here and only read by the kernel. Release, so that the kernel sees the
        // descriptors before it sees the tail.
        unsafe {
            let tail = BufRingEntry::tail(self.descriptors.start.as_ptr().cast());
            AtomicU16::from_ptr(tail.cast_mut()).store(self.tail, Ordering::Release);
        }
    }

    /// Buffers that are neither offered nor spare.
    pub(super) fn held(&self) -> u16 {
        self.count - self.offered - self.spare.len() as u16
    }

    /// Whether more than half of the pool is held. A receive that found no buffer is not armed again as a multishot
    /// before that has changed: it would find none again at once, and with several of them nobody else ever ran.
    pub(super) fn is_short(&self) -> bool {
        self.held() > self.count / 2
    }

    /// Whether more memory was used than what is offered anyway.
    pub(super) fn wants_trim(&self) -> bool {
        self.held_max > self.count / OFFERED_FRACTION
    }

    /// Gives the memory of the spare buffers back to the system.
    pub(super) fn trim(&mut self) {
        self.held_max = self.held();
        // The lowest on top, so that what is used next lies together; and in runs, for few system calls.
        self.spare.sort_unstable_by(|a, b| b.cmp(a));
        for run in self.spare.chunk_by(|high, low| high - 1 == *low) {
            self.discard(run[run.len() - 1], run[0]);
        }
    }

    /// Gives back the pages that lie wholly in the buffers from `low` to `high`, both included. They read as zeros
    /// when they are used again.
    fn discard(&self, low: u16, high: u16) {
        let page = page_bytes();
        let base = self.memory.start.as_ptr() as usize;
        let start = (self.start_of(low) as usize).next_multiple_of(page);
        let end = (self.start_of(high) as usize + self.buffer_bytes) / page * page;
        if start < end {
            // SAFETY: the range is within the mapping and holds spare buffers only: nobody has a slice of them, and
            // the kernel has no descriptor of them. Failure leaves the memory as it is, which is as good.
            unsafe {
                let from = self.memory.start.as_ptr().add(start - base);
                libc::madvise(from.cast(), end - start, libc::MADV_DONTNEED);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> usize {
        self.memory.start.as_ptr() as usize
    }

    fn start_of(&self, id: u16) -> *mut u8 {
        // Wrapping arithmetic needs no `unsafe`; that the result is inside is argued where it is used.
        self.memory.start.as_ptr().wrapping_add(usize::from(id) * (self.buffer_bytes + STAGGER_BYTES))
    }
}

/// Buffers are this much further apart than they are long. Were they all aligned alike, their first lines, which
/// hold the request's head, would compete for the same few places of the cache.
const STAGGER_BYTES: usize = 64;

/// One part in so many is offered to the kernel.
const OFFERED_FRACTION: u16 = 4;

fn page_bytes() -> usize {
    // SAFETY: no memory is involved.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Anonymous memory of our own, zeroed, page-aligned, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap never returns address 0 here");
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped, and whoever owns the mapping has no use for it any more.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u16) -> (IoUring, BufferPool) {
        let ring = IoUring::new(8).unwrap();
        let pool = BufferPool::new(&ring, count, 4096).unwrap();
        (ring, pool)
    }

    #[test]
    fn every_buffer_is_in_one_hand() {
        let (_ring, mut pool) = pool(64);
        assert_eq!((pool.offered, pool.spare.len(), pool.held()), (16, 48, 0));
        // As if the kernel had filled what is on offer, the lowest first, three times.
        let mut held = Vec::new();
        for _ in 0..3 {
            for id in 0..16 {
                held.push(pool.take(held.len() as u16 / 16 * 16 + id).unwrap());
            }
            pool.offer();
        }
        assert_eq!((pool.offered, pool.spare.len(), pool.held()), (16, 0, 48));
        assert!(pool.is_short());
        for buffer in held {
            pool.recycle(buffer);
        }
        assert!(!pool.is_short());
        assert_eq!((pool.offered, pool.spare.len(), pool.held()), (16, 48, 0));
    }

    #[test]
    fn a_buffer_that_the_pool_does_not_have_is_refused() {
        let (_ring, mut pool) = pool(64);
        assert!(pool.take(64).is_none());
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn trimming_clears_spare_buffers_and_no_others() {
        let (_ring, mut pool) = pool(16);
        let write = |pool: &BufferPool, id: u16| {
            // SAFETY: within the mapping, and in this test no kernel writes to it.
            unsafe { pool.start_of(id).write_bytes(id as u8 + 1, 4096) };
        };
        (0..16).for_each(|id| write(&pool, id));
        let held: Vec<Buffer> = (0..4).map(|id| pool.take(id).unwrap()).collect();
        pool.offer();
        assert!(!pool.wants_trim());
        let more: Vec<Buffer> = (4..8).map(|id| pool.take(id).unwrap()).collect();
        assert!(pool.wants_trim());
        for buffer in more {
            pool.recycle(buffer);
        }
        pool.trim();
        assert!(!pool.wants_trim());
        for buffer in &held {
            assert!(pool.bytes(buffer, 0..4096).iter().all(|byte| *byte == buffer.0 as u8 + 1));
        }
        // The middle of a run of spare buffers is gone; its edges may share a page with a neighbour.
        let spare = Buffer(13);
        assert!(pool.spare.contains(&spare.0));
        assert!(pool.bytes(&spare, 200..3000).iter().all(|byte| *byte == 0));
    }
}
