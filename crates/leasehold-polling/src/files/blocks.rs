//! Memory for blocks that are read one after the other: it is taken back when nobody has a part of a block any more. Memory that is
//! new each time costs as much as reading a file that is cached.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use leasehold_core::bytes::Bytes;

/// One is handled, one waits for that, one is being read, and one may be kept by a handler.
const KEPT: usize = 4;
/// Smaller and larger ones are not kept: records are read in blocks of a size between.
const SIZES: RangeInclusive<usize> = 1024 * 1024..=4 * 1024 * 1024;

type Free = Mutex<Vec<Vec<u8>>>;

/// Blocks that may be used again. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks(Arc<Free>);

impl Blocks {
    /// An empty one, with room for so many bytes.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let mut block =
            if SIZES.contains(&length) { self.free().pop().unwrap_or_default() } else { Vec::new() };
        block.clear();
        block.reserve(length);
        block
    }

    /// What was read into one; it comes back when the last part of it is dropped.
    pub(super) fn lend(&self, block: Vec<u8>) -> Bytes {
        if !SIZES.contains(&block.capacity()) {
            return block.into();
        }
        Bytes::from_owner(Lent { block, home: Arc::downgrade(&self.0) })
    }

    /// Gives the memory back: nothing is being read.
    pub(super) fn release(&self) {
        self.free().clear();
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent {
    block: Vec<u8>,
    home: Weak<Free>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.block
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut free = home.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 2 * 1024 * 1024;

    #[test]
    fn a_block_comes_back_with_the_last_part_of_it() {
        let blocks = Blocks::default();
        let mut first = blocks.take(LARGE);
        first.extend_from_slice(b"one two");
        let address = first.as_ptr();
        let lent = blocks.lend(first);
        let part = lent.slice(4..);
        drop(lent);
        let other = blocks.take(LARGE);
        assert_ne!(other.as_ptr(), address, "a part of it is in use");
        assert_eq!(part, "two");
        drop(part);
        let again = blocks.take(LARGE);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn no_more_are_kept_than_are_of_use_and_none_once_they_are_released() {
        let blocks = Blocks::default();
        let lent: Vec<Bytes> = (0..2 * KEPT).map(|_| blocks.lend(blocks.take(LARGE))).collect();
        drop(lent);
        assert_eq!(blocks.free().len(), KEPT);
        blocks.release();
        assert!(blocks.free().is_empty());
        drop(blocks.lend(blocks.take(1)));
        drop(blocks.lend(blocks.take(8 * LARGE)));
        assert!(blocks.free().is_empty(), "of another size");
        let orphan = blocks.lend(blocks.take(LARGE));
        drop(blocks);
        drop(orphan);
    }
}
