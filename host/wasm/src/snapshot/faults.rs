//! How many page faults a thread has had.
//!
//! The first write to a page that is watched is a fault, in the thread that writes, and the kernel counts it for that
//! thread before the write goes on. So if a thread has had no fault since it looked for written pages, it has written to
//! no others. Only one direction is needed: any other fault is a reason to look again, and no harm.

use std::{io, marker::PhantomData, mem::MaybeUninit};

/// The faults of this thread up to some moment. It cannot be sent to another thread, where the number means nothing; nor
/// can what contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faults {
    /// Of both kinds, those that waited for a disk and those that did not.
    count: i64,
    here: PhantomData<*const ()>,
}

impl Faults {
    /// Those of this thread until now.
    pub(super) fn now() -> io::Result<Self> {
        let mut usage = MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: the pointer is to memory of the type that the call fills in.
        if unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has succeeded, so it has filled in all of it.
        let usage = unsafe { usage.assume_init() };
        Ok(Self { count: usage.ru_minflt + usage.ru_majflt, here: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::*;

    #[test]
    fn a_first_write_is_counted_and_a_second_is_not() {
        const LENGTH: usize = 64 << 12;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), LENGTH, ProtFlags::READ | ProtFlags::WRITE, flags) };
        let start = start.unwrap().cast::<u8>();
        for page in 0..64 {
            let before = Faults::now().unwrap();
            // SAFETY: within the mapping, which nobody else knows.
            unsafe { start.add(page << 12).write_volatile(1) };
            assert_ne!(Faults::now().unwrap(), before, "page {page}");
        }
        // Other faults may come at any time, but not each time.
        let is_quiet = |_| {
            let before = Faults::now().unwrap();
            // SAFETY: as above.
            unsafe { start.write_volatile(2) };
            Faults::now().unwrap() == before
        };
        assert!((0..100).any(is_quiet));
        // SAFETY: nobody uses the mapping any more.
        unsafe { munmap(start.cast(), LENGTH) }.unwrap();
    }
}
