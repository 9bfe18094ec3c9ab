//! The content of a linear memory that many instances share: a sealed file in memory, mapped copy-on-write.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    ptr::{self, NonNull},
    sync::Arc,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap},
};

use super::PAGE_BYTES;

/// Bytes that never change again.
///
/// A snapshot's are sealed against writing, growing and shrinking before they are handed out, and the file has no name. So
/// what is mapped from it is the same at all times, and never faults for want of a file. Initial contents stand in a file
/// of the artifact cache, whose directory nobody else can write to, and which is never changed, only removed.
#[derive(Debug)]
pub(super) struct Image {
    file: Arc<File>,
    /// Where it begins in the file, in bytes, a multiple of the page size.
    offset: usize,
    /// Bytes, a multiple of the page size.
    length: usize,
}

impl Image {
    /// The image of what `bytes` holds, filled up to a whole page with zeros. Pages of zeros take no memory.
    pub(super) fn of(bytes: &[u8]) -> io::Result<Self> {
        let length = bytes.len().next_multiple_of(PAGE_BYTES);
        let file = File::from(memfd_create(c"covet-memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        ftruncate(&file, length as u64)?;
        // One system call for each run of pages that are not all zero.
        let mut run = 0..0;
        for (index, page) in bytes.chunks(PAGE_BYTES).enumerate() {
            let start = index * PAGE_BYTES;
            if page.iter().all(|&byte| byte == 0) {
                continue;
            }
            if run.end != start {
                file.write_all_at(&bytes[run.clone()], run.start as u64)?;
                run.start = start;
            }
            run.end = start + page.len();
        }
        file.write_all_at(&bytes[run.clone()], run.start as u64)?;
        // Not `WRITE`, which fails while the kernel still holds pages of a write; nobody has a writable mapping anyway.
        fcntl_add_seals(&file, SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { file: Arc::new(file), offset: 0, length })
    }

    /// A part of a file, in whole pages.
    pub(super) fn part_of(file: &Arc<File>, offset: usize, length: usize) -> io::Result<Self> {
        let is_whole = offset.is_multiple_of(PAGE_BYTES) && length.is_multiple_of(PAGE_BYTES);
        if !is_whole || file.metadata()?.len() < (offset + length) as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not whole pages of the file"));
        }
        Ok(Self { file: file.clone(), offset, length })
    }

    /// Where it begins in its file.
    pub(super) fn offset(&self) -> u64 {
        self.offset as u64
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An image that can be read where it is mapped.
#[derive(Debug)]
pub(super) struct View {
    image: Image,
    start: NonNull<u8>,
}

// SAFETY: the mapping is read-only, of a file that cannot change, and belongs to this value alone until it is dropped.
unsafe impl Send for View {}
// SAFETY: as above; all access is reading.
unsafe impl Sync for View {}

impl View {
    pub(super) fn new(image: Image) -> io::Result<Self> {
        let length = image.length.max(PAGE_BYTES);
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
        let start =
            unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, &image, image.offset())? };
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        // SAFETY: the range is the mapping just made; populating changes no content. It spares each reset the faults.
        let _ = unsafe { madvise(start.as_ptr().cast(), length, Advice::LinuxPopulateRead) };
        Ok(Self { image, start })
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is a mapping of at least `length` readable bytes that lives as long as `self`, and what is
        // behind it does not change, so nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.image.length) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and every slice of it borrows `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.image.length.max(PAGE_BYTES)) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_image_holds_what_it_was_made_of_and_zeros_to_the_end_of_the_page() {
        let mut bytes = vec![0; 5 * PAGE_BYTES + 7];
        bytes[3] = 1;
        bytes[2 * PAGE_BYTES..4 * PAGE_BYTES].fill(2);
        bytes[5 * PAGE_BYTES + 6] = 3;
        let view = View::new(Image::of(&bytes).unwrap()).unwrap();
        assert_eq!(view.bytes().len(), 6 * PAGE_BYTES);
        assert_eq!(view.bytes()[..bytes.len()], bytes);
        assert!(view.bytes()[bytes.len()..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn nobody_can_change_an_image() {
        let image = Image::of(b"fixed").unwrap();
        let mut file = File::from(image.as_fd().try_clone_to_owned().unwrap());
        assert!(file.write_all(b"other").is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 20).is_err());
    }

    #[test]
    fn nothing_is_an_image_too() {
        assert_eq!(View::new(Image::of(b"").unwrap()).unwrap().bytes(), b"");
    }
}
