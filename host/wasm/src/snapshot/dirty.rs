//! Which pages of a memory have been written to since an image was attached, and putting them back.
//!
//! There are three ways, tried in this order when the host starts; each is tried on scratch memory before it is trusted.
//! 1. userfaultfd in its asynchronous write-protect mode (Linux 6.7): the kernel notes for each page whether it was ever
//!    written, without a signal, a handler or a second fault, and `PAGEMAP_SCAN` lists them. The note is kept for
//!    pages that are swapped out or on the move as well, since the kernel carries the bit in those entries too, and is
//!    only ever wrong in one direction: a page may count as written that was not.
//! 2. `PAGEMAP_SCAN` alone, where a container forbids userfaultfd: pages of the memory that are no longer the file's.
//!    Pages that are swapped out or on the move are not present, so both are asked for.
//! 3. Giving all pages back to the system, which needs nothing and costs 0.4 to 1.2 ms.
//!
//! Pages stay noted after they were put back: protecting them anew would cost a fault for each page and request. So every
//! reset puts back all pages that any request has written to, which for a Python application are about 50; and it only has
//! to look for more if the thread has had page faults since the last look ([`faults`](super::faults)), because a look costs
//! 2 ns for each page that there is.

use std::{fs::File, io, mem, os::fd::OwnedFd, sync::Arc};

use rustix::{
    ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode},
    mm::{UserfaultfdFlags, userfaultfd},
};

use super::{
    PAGE_BYTES,
    faults::Faults,
    image::{Image, View},
    mapping::Mapping,
};

/// How written pages are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetMethod {
    /// userfaultfd notes them.
    WriteProtect,
    /// They are no longer the image's.
    Scan,
    /// They are not; all pages are given back.
    Decommit,
}

impl ResetMethod {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteProtect => "write-protect",
            Self::Scan => "scan",
            Self::Decommit => "decommit",
        }
    }
}

/// Notes written pages for all memories of the process.
#[derive(Debug)]
pub(super) struct Watcher {
    method: ResetMethod,
    userfaultfd: Option<OwnedFd>,
    pagemap: Option<File>,
}

/// Which pages of one memory were found to be written to since it was attached. Not `Send`, so whatever owns the memory
/// stays on the thread whose faults are counted.
#[derive(Debug, Default)]
pub(super) struct Written {
    regions: Vec<PageRegion>,
    /// Right before they were looked for; none if that has to be done again in any case.
    looked: Option<Faults>,
}

/// What a reset did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Restored {
    /// Pages that had been written to; unknown (0) where all were given back without looking.
    pub(super) pages: usize,
    /// Whether the pages were given back to the system instead of being overwritten.
    pub(super) decommitted: bool,
}

impl Watcher {
    /// The best way that works here, or the one that is wanted.
    ///
    /// # Errors
    /// If the way that is wanted does not work here.
    pub(super) fn new(wanted: Option<ResetMethod>) -> io::Result<Arc<Self>> {
        let methods = [ResetMethod::WriteProtect, ResetMethod::Scan, ResetMethod::Decommit];
        let mut last = io::Error::other("no method");
        for method in methods.into_iter().filter(|method| wanted.is_none_or(|wanted| wanted == *method)) {
            match Self::with(method).and_then(|watcher| watcher.try_out().map(|()| watcher)) {
                Ok(watcher) => return Ok(Arc::new(watcher)),
                Err(error) => {
                    tracing::debug!(?method, %error, "this way to find written pages does not work here");
                    last = error;
                }
            }
        }
        Err(last)
    }

    pub(super) fn method(&self) -> ResetMethod {
        self.method
    }

    fn with(method: ResetMethod) -> io::Result<Self> {
        let userfaultfd = (method == ResetMethod::WriteProtect).then(open_userfaultfd).transpose()?;
        let pagemap = (method != ResetMethod::Decommit).then(|| File::open("/proc/self/pagemap")).transpose()?;
        Ok(Self { method, userfaultfd, pagemap })
    }

    /// Begins to note what is written to a memory from now on. To be called after each [`Mapping::attach`].
    pub(super) fn watch(&self, mapping: &Mapping, length: usize) -> io::Result<()> {
        let Some(userfaultfd) = self.userfaultfd.as_ref().filter(|_| length > 0) else { return Ok(()) };
        let start = mapping.base().addr().get() as u64;
        let mut register = Register { start, length: length as u64, mode: REGISTER_MODE_WP, ioctls: 0 };
        // SAFETY: the number is that of a request which takes this structure. What it does to the range, which is ours,
        // is to note writes: in the asynchronous mode no access ever waits for anybody.
        unsafe {
            ioctl(userfaultfd, Updater::<{ opcode::read_write::<Register>(UFFD, 0x00) }, _>::new(&mut register))?
        };
        self.protect(userfaultfd, start, length)
    }

    fn protect(&self, userfaultfd: &OwnedFd, start: u64, length: usize) -> io::Result<()> {
        let mut protect = WriteProtect { start, length: length as u64, mode: WRITEPROTECT_MODE_WP };
        let request = opcode::read_write::<WriteProtect>(UFFD, 0x06);
        debug_assert_eq!(request, 0xc018_aa06);
        // SAFETY: as in `watch`; the content of the range stays as it is.
        unsafe {
            ioctl(userfaultfd, Updater::<{ opcode::read_write::<WriteProtect>(UFFD, 0x06) }, _>::new(&mut protect))?
        };
        Ok(())
    }

    /// Makes a memory equal to the image that was attached to it.
    ///
    /// # Safety
    /// Nobody else reads or writes the memory meanwhile. `view` is the image that was attached last; since then the
    /// memory was watched and did not grow, only this thread has written to it, and `written` was used for it and no other.
    pub(super) unsafe fn restore(&self, mapping: &Mapping, view: &View, written: &mut Written) -> io::Result<Restored> {
        let length = view.image().length();
        let Some(pagemap) = &self.pagemap else {
            // SAFETY: the caller's promise; the image covers the range.
            unsafe { mapping.decommit(length)? };
            return Ok(Restored { pages: 0, decommitted: true });
        };
        let faults = Faults::now()?;
        let start = mapping.base().addr().get() as u64;
        // Only a look that has come to its end counts.
        if written.looked.take() != Some(faults) {
            written.regions.clear();
            self.scan(pagemap, start, start + length as u64, &mut written.regions)?;
        }
        written.looked = Some(faults);
        let pages = written.regions.iter().map(|region| (region.end - region.start) as usize / PAGE_BYTES).sum();
        if pages > PAGES_KEPT_MAX {
            // A request that wrote to so many pages would make every later one pay for putting them back.
            // SAFETY: the caller's promise.
            unsafe { self.trim(mapping, view, written)? };
            return Ok(Restored { pages, decommitted: true });
        }
        for region in &written.regions {
            let (from, to) = ((region.start - start) as usize, (region.end - start) as usize);
            // SAFETY: the caller's promise.
            unsafe { mapping.write(from, &view.bytes()[from..to]) };
        }
        Ok(Restored { pages, decommitted: false })
    }

    /// Gives all private pages of an unused memory back to the system.
    ///
    /// # Safety
    /// As [`Watcher::restore`].
    pub(super) unsafe fn trim(&self, mapping: &Mapping, view: &View, written: &mut Written) -> io::Result<()> {
        let length = view.image().length();
        // The kernel's notes go with the pages, and so does the memory for these.
        drop(mem::take(written));
        // SAFETY: the caller's promise; the image covers the range.
        unsafe { mapping.decommit(length)? };
        match &self.userfaultfd {
            Some(userfaultfd) => self.protect(userfaultfd, mapping.base().addr().get() as u64, length),
            None => Ok(()),
        }
    }

    fn scan(&self, pagemap: &File, start: u64, end: u64, regions: &mut Vec<PageRegion>) -> io::Result<()> {
        let mut from = start;
        while from < end {
            let known = regions.len();
            regions.resize(known + REGIONS_PER_CALL, PageRegion::default());
            let found = &mut regions[known..];
            let mut scan = PagemapScan {
                size: size_of::<PagemapScan>() as u64,
                start: from,
                end,
                regions: found.as_mut_ptr().addr() as u64,
                regions_count: found.len() as u64,
                ..PagemapScan::default()
            };
            match self.method {
                ResetMethod::WriteProtect => {
                    scan.category_mask = PAGE_IS_WRITTEN;
                    scan.return_mask = PAGE_IS_WRITTEN;
                }
                // Not the file's page any more, and there at all.
                ResetMethod::Scan | ResetMethod::Decommit => {
                    scan.category_inverted = PAGE_IS_FILE;
                    scan.category_mask = PAGE_IS_FILE;
                    scan.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
                }
            }
            // SAFETY: the structure is the one that the request takes, `regions` is the address of `regions_count`
            // entries that are borrowed exclusively here, and the kernel writes to nothing else.
            let count = unsafe { ioctl(pagemap, ScanCall(&mut scan))? };
            regions.truncate(known + count.min(REGIONS_PER_CALL));
            if scan.walk_end <= from {
                return Err(io::Error::other("the kernel's walk over the page table does not move on"));
            }
            from = scan.walk_end;
        }
        Ok(())
    }

    /// Whether the kernel really behaves as the head of this file says, on memory of our own.
    fn try_out(&self) -> io::Result<()> {
        const PAGES: usize = 8;
        let content: Vec<u8> =
            (0..PAGES * PAGE_BYTES).map(|index| u8::try_from(index / PAGE_BYTES + 1).unwrap_or(0)).collect();
        let view = View::new(Image::of(&content)?)?;
        let mapping = Mapping::reserve(content.len(), content.len(), PAGE_BYTES)?;
        // SAFETY: nobody but this function knows the mapping; it is attached, watched, and does not grow.
        unsafe {
            mapping.attach(view.image())?;
            self.watch(&mapping, content.len())?;
            let mut written = Written::default();
            for round in 1..=6 {
                mapping.write(PAGE_BYTES, &[0xff; 2 * PAGE_BYTES]);
                mapping.write(5 * PAGE_BYTES + 17, &[round]);
                match round {
                    // A page that was not written to before: to be found by the fault.
                    2 => mapping.write(3 * PAGE_BYTES, &[round]),
                    4 => {
                        self.trim(&mapping, &view, &mut written)?;
                        mapping.write(7 * PAGE_BYTES, &[0xee]);
                    }
                    5 => mapping.write(6 * PAGE_BYTES + 1, &[round]),
                    _ => {}
                }
                let restored = self.restore(&mapping, &view, &mut written)?;
                let is_plausible = self.method == ResetMethod::Decommit || (1..=PAGES).contains(&restored.pages);
                if mapping.bytes() != content || !is_plausible {
                    return Err(io::Error::other("written pages were not found"));
                }
            }
        }
        Ok(())
    }
}

/// Written pages beyond which all pages are given back: five times what a Python request writes to.
const PAGES_KEPT_MAX: usize = 1024;
/// Runs of pages that one call of the kernel may report.
const REGIONS_PER_CALL: usize = 512;

fn open_userfaultfd() -> io::Result<OwnedFd> {
    // Only faults of user space can be noted by a process without privileges, and the flag says that this is enough. In
    // the asynchronous mode writes of the kernel into the memory (a read into a guest's buffer) are noted all the same.
    const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);
    // SAFETY: the descriptor is used for the two requests in this file only.
    let userfaultfd = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | USER_MODE_ONLY)? };
    let mut api =
        Api { api: 0xaa, features: FEATURE_WP_HUGETLBFS_SHMEM | FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC, ioctls: 0 };
    // SAFETY: the number is that of a request which takes this structure; it changes nothing but the descriptor.
    unsafe { ioctl(&userfaultfd, Updater::<{ opcode::read_write::<Api>(UFFD, 0x3f) }, _>::new(&mut api))? };
    Ok(userfaultfd)
}

// From linux/userfaultfd.h.
const UFFD: u8 = 0xaa;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;
/// Private mappings of memory files can be watched.
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
/// Pages that are not there yet are watched too.
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
/// The kernel lets the write happen and notes it.
const FEATURE_WP_ASYNC: u64 = 1 << 15;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct WriteProtect {
    start: u64,
    length: u64,
    mode: u64,
}

// From linux/fs.h.
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

#[repr(C)]
#[derive(Default)]
struct PagemapScan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_count: u64,
    pages_max: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `PAGEMAP_SCAN`, whose result is the number of regions.
struct ScanCall<'a>(&'a mut PagemapScan);

// SAFETY: the number and the structure belong together (linux/fs.h); the kernel writes to the structure, which is said to
// be mutated, and the result is the call's own.
unsafe impl Ioctl for ScanCall<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<PagemapScan>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(count: IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<usize> {
        usize::try_from(count).map_err(|_| rustix::io::Errno::RANGE)
    }
}
