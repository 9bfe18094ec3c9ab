//! Memory for bytes on their way out: a stack of vectors that connections take when they write and return when all
//! is sent, so that an idle connection has none. It sends nothing.

/// Vectors to write into, the one used last on top, since that one is still in the cache.
#[derive(Default)]
pub(super) struct StagingPool {
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

impl StagingPool {
    /// An empty vector, with room already if one is spare.
    pub(super) fn take(&mut self) -> Vec<u8> {
        match self.spare.pop() {
            Some(buffer) => {
                self.spare_bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(STAGING_BYTES_MIN),
        }
    }

    /// Takes a vector back, or frees it if there is plenty.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.spare_bytes + buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare_bytes += buffer.capacity();
            self.spare.push(buffer);
        }
    }

    /// Whether more is kept than the pool needs at rest.
    pub(super) fn wants_trim(&self) -> bool {
        self.spare_bytes > SPARE_BYTES_AT_REST
    }

    /// Frees the large ones, then the oldest, down to what is kept at rest.
    pub(super) fn trim(&mut self) {
        self.spare.retain(|buffer| buffer.capacity() <= STAGING_BYTES_MIN);
        let keep = self.spare.len().min(SPARE_BYTES_AT_REST / STAGING_BYTES_MIN);
        self.spare.drain(..self.spare.len() - keep);
        self.spare.shrink_to_fit();
        self.spare_bytes = self.spare.iter().map(Vec::capacity).sum();
    }
}

/// Room for the head and a small body of a response without growing.
const STAGING_BYTES_MIN: usize = 4 * 1024;
/// Enough that a few large downloads do not go to the allocator for each piece; per event loop.
const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What stays after [`StagingPool::trim`]: 64 small ones.
const SPARE_BYTES_AT_REST: usize = 64 * STAGING_BYTES_MIN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_trimmed_to_the_small_ones() {
        let mut pool = StagingPool::default();
        for _ in 0..100 {
            pool.recycle(Vec::with_capacity(256 * 1024));
            pool.recycle(Vec::with_capacity(STAGING_BYTES_MIN));
        }
        assert!(pool.spare_bytes <= SPARE_BYTES_MAX);
        assert!(pool.wants_trim());
        pool.trim();
        assert!(!pool.wants_trim());
        assert!(pool.spare.iter().all(|buffer| buffer.capacity() == STAGING_BYTES_MIN));
        assert_eq!(pool.spare_bytes, pool.spare.iter().map(Vec::capacity).sum::<usize>());
        assert!(pool.spare_bytes > 0);
    }

    #[test]
    fn a_vector_comes_back_empty() {
        let mut pool = StagingPool::default();
        pool.recycle(b"secret".to_vec());
        assert!(pool.take().is_empty());
    }
}
