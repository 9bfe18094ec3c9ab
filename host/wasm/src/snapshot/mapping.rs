//! The address space of one linear memory. It knows no wasmtime; `memories` shows it to wasmtime.
//!
//! # Invariants
//! 1. `[base - guard, base + capacity + guard)` is reserved as long as the `Mapping` lives, and nothing else is ever
//!    mapped there. `base` never moves.
//! 2. `[base, base + size)` can be read and written, everything else of it faults. `size` only grows.
//! 3. Whoever changes what is mapped or the bytes themselves holds the instance's store exclusively, so that no guest
//!    runs: the functions that do it are unsafe for that reason.

use std::{
    io,
    ptr::{self, NonNull},
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Acquire, Release},
    },
};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap};

use super::{PAGE_BYTES, image::Image};

/// Reserved address space with some accessible memory at its beginning.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    /// Bytes from `base` that may become accessible.
    capacity: usize,
    /// Bytes before and after them that never do.
    guard: usize,
    /// Bytes that are.
    size: AtomicUsize,
    has_grown: AtomicBool,
}

// SAFETY: a `Mapping` owns its address space (invariant 1); the bytes in it are only reached through the store that owns
// the memory, or by the unsafe functions below, whose callers hold that store.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&self` by itself gives access to two atomics and no bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves address space and makes the first `size` bytes accessible, all zero.
    pub(super) fn reserve(size: usize, capacity: usize, guard: usize) -> io::Result<Self> {
        let capacity = capacity.max(size).next_multiple_of(PAGE_BYTES);
        let guard = guard.next_multiple_of(PAGE_BYTES);
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), guard + capacity + guard, ProtFlags::empty(), flags)? };
        // SAFETY: the mapping is longer than `guard`.
        let base = unsafe { start.cast::<u8>().add(guard) };
        let base = NonNull::new(base).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        let mapping = Self { base, capacity, guard, size: AtomicUsize::new(0), has_grown: AtomicBool::new(false) };
        mapping.make_accessible(size)?;
        Ok(mapping)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn size(&self) -> usize {
        self.size.load(Acquire)
    }

    /// Whether [`Mapping::grow`] has been called since the memory was made or an image was mapped over it.
    pub(super) fn has_grown(&self) -> bool {
        self.has_grown.load(Acquire)
    }

    /// Makes the first `size` bytes accessible.
    pub(super) fn grow(&self, size: usize) -> io::Result<()> {
        self.has_grown.store(true, Release);
        self.make_accessible(size)
    }

    fn make_accessible(&self, size: usize) -> io::Result<()> {
        if size > self.capacity {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let (from, to) = (self.size().next_multiple_of(PAGE_BYTES), size.next_multiple_of(PAGE_BYTES));
        if to > from {
            // SAFETY: the range lies within the capacity, which is ours (invariant 1), and nothing was accessible there.
            unsafe {
                let start = self.base.as_ptr().add(from).cast();
                mprotect(start, to - from, MprotectFlags::READ | MprotectFlags::WRITE)?;
            }
        }
        self.size.store(size.max(self.size()), Release);
        Ok(())
    }

    /// Puts an image in the place of the first bytes; what is written later stays in this memory.
    ///
    /// # Safety
    /// Nobody else reads or writes the memory meanwhile (invariant 3).
    ///
    /// # Errors
    /// If the image is longer than the memory, or the system refuses; then the memory is as it was, or faults.
    pub(super) unsafe fn attach(&self, image: &Image) -> io::Result<()> {
        if image.length() > self.size().next_multiple_of(PAGE_BYTES) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image is longer than the memory"));
        }
        self.has_grown.store(false, Release);
        if image.length() == 0 {
            return Ok(());
        }
        let (start, length) = (self.base.as_ptr().cast(), image.length());
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the range is accessible memory of ours (checked above, invariants 1 and 2), which nobody uses now.
        let attached =
            unsafe { mmap(start, length, access, MapFlags::PRIVATE | MapFlags::FIXED, image, image.offset()) };
        if let Err(error) = attached {
            // The old pages may be gone. Left alone, the hole could become somebody else's memory, which the guest then
            // could reach; so it is filled with pages that fault.
            let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
            // SAFETY: as above.
            if unsafe { mmap_anonymous(start, length, ProtFlags::empty(), flags) }.is_err() {
                std::process::abort();
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Gives private pages of a range back to the system; where an image is mapped its content is there again.
    ///
    /// # Safety
    /// Nobody else reads or writes the memory meanwhile (invariant 3), and the range is covered by an attached image.
    pub(super) unsafe fn decommit(&self, length: usize) -> io::Result<()> {
        let length = length.min(self.size().next_multiple_of(PAGE_BYTES));
        // SAFETY: the range is accessible memory of ours (invariants 1 and 2), which nobody uses now.
        unsafe { madvise(self.base.as_ptr().cast(), length, Advice::LinuxDontNeed)? };
        Ok(())
    }

    /// The memory's bytes.
    ///
    /// # Safety
    /// Nobody writes the memory as long as the slice lives (invariant 3).
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the range is accessible (invariant 2), lives as long as `self`, and the caller keeps writers away.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.size()) }
    }

    /// Overwrites bytes.
    ///
    /// # Safety
    /// Nobody else reads or writes the memory meanwhile (invariant 3).
    pub(super) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.size().next_multiple_of(PAGE_BYTES), "within the memory");
        // SAFETY: the range is accessible (invariant 2, checked above), nobody else uses it, and it lies outside of
        // `bytes`, which are not of this mapping, since all of its bytes belong to the caller now.
        let own = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), bytes.len()) };
        // Measured: comparing first, and asking for the source past the caches, both cost more than they save.
        own.copy_from_slice(bytes);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let total = self.guard + self.capacity + self.guard;
        // SAFETY: this is the range reserved in `reserve`; the last owner is dropped, so nobody has a pointer into it:
        // the store that did has dropped its `LinearMemory`, which shares this value, before or now.
        let _ = unsafe { munmap(self.base.as_ptr().sub(self.guard).cast(), total) };
    }
}
