//! Memory for large intermediate results, used again.
//!
//! A training step needs the same megabytes as the step before. Fresh memory from the system costs a page fault each
//! 4 KiB, which took an eighth of a step; so what is dropped here is kept for the next who asks, within a bound. Larger
//! buffers go back to the system: filling them takes far longer than the faults.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Numbers that are kept when no one uses them: 64 MiB.
const KEPT: usize = 16 << 20;

/// Numbers below which the allocator of the system does as well.
const SMALL: usize = 1 << 12;

static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A list of numbers whose memory is used again.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<f32>);

impl Buffer {
    /// So many numbers of any value: whoever asks must write each before reading it.
    pub(super) fn stale(len: usize) -> Self {
        let mut numbers = take(len).unwrap_or_default();
        numbers.resize(len, 0.0);
        if cfg!(debug_assertions) {
            numbers.fill(f32::NAN);
        }
        Self(numbers)
    }

    /// So many zeros.
    pub(super) fn zeros(len: usize) -> Self {
        match take(len) {
            Some(mut numbers) => {
                numbers.clear();
                numbers.resize(len, 0.0);
                Self(numbers)
            }
            None => Self(vec![0.0; len]),
        }
    }
}

/// The smallest kept buffer that holds so many numbers without being far too large.
fn take(len: usize) -> Option<Vec<f32>> {
    if len < SMALL {
        return None;
    }
    let mut free = free();
    let fits = |buffer: &Vec<f32>| (len..=2 * len).contains(&buffer.capacity());
    let (best, _) = free
        .iter()
        .enumerate()
        .filter(|(_, buffer)| fits(buffer))
        .min_by_key(|(_, buffer)| buffer.capacity())?;
    Some(free.remove(best))
}

fn free() -> MutexGuard<'static, Vec<Vec<f32>>> {
    // The list is whole between statements, so a panic elsewhere does not spoil it.
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.0);
        if numbers.capacity() < SMALL {
            return;
        }
        let mut free = free();
        // The oldest go first, so that sizes of another network do not stay for ever.
        let mut kept: usize = free.iter().map(Vec::capacity).sum::<usize>() + numbers.capacity();
        let mut oldest = 0;
        while kept > KEPT && oldest < free.len() {
            kept -= free[oldest].capacity();
            oldest += 1;
        }
        free.drain(..oldest);
        if kept <= KEPT {
            free.push(numbers);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_zeros_are_zeros() {
        // A size that no other test asks for.
        const LEN: usize = 77_777;
        let mut first = Buffer::zeros(LEN);
        first.fill(3.0);
        let place = first.as_ptr();
        drop(first);
        let second = Buffer::zeros(LEN - 10);
        assert_eq!(second.as_ptr(), place);
        assert!(second.len() == LEN - 10 && second.iter().all(|&x| x == 0.0));
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        drop(Buffer::zeros(KEPT + 1));
        assert!(free().iter().all(|buffer| buffer.capacity() <= KEPT));
    }
}
