//! Memory for large intermediate results, used again.
//!
//! A training step needs the same megabytes as the step before. Fresh memory from the system costs a page fault each
//! 4 KiB, which took an eighth of a step; so what is dropped here is kept for the next who asks, within a bound, until
//! [`release`] gives it back.
//!
//! It starts where a line of the cache does, so that no register of sixteen numbers is read from two lines.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytemuck::{Pod, Zeroable};

/// Numbers of a line of the cache.
const LINE: usize = 16;

/// Lines that are kept when no one uses them: 256 MiB, what a step of the largest preset needs.
const KEPT: usize = (64 << 20) / LINE;

/// Lines below which the allocator of the system does as well.
const SMALL: usize = (1 << 12) / LINE;

/// A line of the cache.
#[derive(Debug, Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

static FREE: Mutex<FreeList> = Mutex::new(FreeList(Vec::new()));

/// Gives the memory that no one uses back to the system.
pub(super) fn release() {
    free().0 = Vec::new();
}

/// Buffers that no one uses, the longest unused first.
struct FreeList(Vec<Vec<Line>>);

impl FreeList {
    /// The smallest one that holds so many lines without being far too large.
    fn take(&mut self, lines: usize) -> Option<Vec<Line>> {
        let fits = |buffer: &Vec<Line>| (lines..=2 * lines).contains(&buffer.len());
        let (best, _) = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, buffer)| fits(buffer))
            .min_by_key(|(_, buffer)| buffer.len())?;
        Some(self.0.remove(best))
    }

    /// Keeps one, and lets go of those longest unused, so that sizes of another network do not stay for ever.
    fn keep(&mut self, lines: Vec<Line>) {
        if lines.len() > KEPT {
            return;
        }
        self.0.push(lines);
        let mut kept: usize = self.0.iter().map(Vec::len).sum();
        while kept > KEPT {
            kept -= self.0.remove(0).len();
        }
    }
}

/// A list of numbers whose memory is used again.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Those past the list are what they were for another.
    lines: Vec<Line>,
    /// Numbers of the list.
    len: usize,
}

impl Buffer {
    /// So many numbers of any value: whoever asks must write each before reading it.
    pub(in crate::model) fn stale(len: usize) -> Self {
        let mut lines = take(len.div_ceil(LINE)).unwrap_or_else(|| zeroed(len.div_ceil(LINE)));
        if cfg!(debug_assertions) {
            lines.fill(Line([f32::NAN; LINE]));
        }
        Self { lines, len }
    }

    /// So many zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let count = len.div_ceil(LINE);
        let lines = match take(count) {
            Some(mut lines) => {
                lines[..count].fill(Line::zeroed());
                lines
            }
            None => zeroed(count),
        };
        Self { lines, len }
    }
}

impl From<&[f32]> for Buffer {
    fn from(numbers: &[f32]) -> Self {
        let mut buffer = Self::stale(numbers.len());
        buffer.copy_from_slice(numbers);
        buffer
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// Zeros as the system gives them, which costs nothing before they are written.
fn zeroed(lines: usize) -> Vec<Line> {
    bytemuck::zeroed_vec(lines)
}

/// Some lines that were used before, at least so many.
fn take(lines: usize) -> Option<Vec<Line>> {
    if lines < SMALL { None } else { free().take(lines) }
}

fn free() -> MutexGuard<'static, FreeList> {
    // The list is whole between statements, so a panic elsewhere does not spoil it.
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.lines.len() >= SMALL {
            free().keep(std::mem::take(&mut self.lines));
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_that_fits_is_used_again() {
        let mut free = FreeList(Vec::new());
        [300, 150, 100].into_iter().for_each(|size| free.keep(zeroed(size)));
        assert!(free.take(90).is_some_and(|buffer| buffer.len() == 100));
        assert!(free.take(90).is_some_and(|buffer| buffer.len() == 150));
        assert!(free.take(90).is_none(), "300 is far too large for 90");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let mut free = FreeList(Vec::new());
        free.keep(zeroed(KEPT + 1));
        assert!(free.0.is_empty());
        [KEPT / 2, KEPT / 4, KEPT / 2].into_iter().for_each(|size| free.keep(zeroed(size)));
        let sizes: Vec<usize> = free.0.iter().map(Vec::len).collect();
        assert_eq!(sizes, [KEPT / 4, KEPT / 2]);
    }

    #[test]
    fn zeros_are_zeros_whatever_was_there() {
        for _ in 0..20 {
            Buffer::zeros(50_000).fill(3.0);
            let zeros = Buffer::zeros(49_000);
            assert!(zeros.len() == 49_000 && zeros.iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    fn numbers_start_with_a_line() {
        for len in [1, 17, 5000, 100_000] {
            let buffers = [Buffer::stale(len), Buffer::zeros(len)];
            assert!(buffers.iter().all(|buffer| buffer.as_ptr().addr().is_multiple_of(64)));
        }
    }
}
