//! Notices a write that does not end.
//!
//! sled 0.34.7 can wait for itself for ever: whoever needs the end of the file holds a lock until the file has become shorter,
//! which one of a few threads is to do, and each of these may wait for that lock to finish a write (its issue 1412). That
//! takes many writes that wait for a slow disk at once. Here no more is written ahead than leaves a thread free; what
//! sled moves by itself is beyond that. So a process that serves looks here, and ends rather than be stuck.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The writes that have begun and not ended. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pending(Arc<Mutex<Writes>>);

#[derive(Debug, Default)]
struct Writes {
    /// How many began.
    began: u64,
    /// The numbers of those that have not ended, in the order in which they began.
    open: BTreeSet<u64>,
}

/// A write that has begun. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct PendingWrite<'a> {
    pending: &'a Pending,
    number: u64,
}

impl Pending {
    /// The number of the write that began first; none where none is going on. No two have the same.
    pub fn first(&self) -> Option<u64> {
        self.lock().open.first().copied()
    }

    /// Begins a write that never ends.
    #[cfg(test)]
    pub(crate) fn hold(&self) {
        std::mem::forget(self.begin());
    }

    /// Notes that a write begins.
    pub(super) fn begin(&self) -> PendingWrite<'_> {
        let mut writes = self.lock();
        writes.began += 1;
        let number = writes.began;
        writes.open.insert(number);
        PendingWrite { pending: self, number }
    }

    fn lock(&self) -> MutexGuard<'_, Writes> {
        // Entries come and go as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PendingWrite<'_> {
    fn drop(&mut self) {
        self.pending.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_one_that_began_first_and_has_not_ended() {
        let pending = Pending::default();
        assert_eq!(pending.first(), None);
        let (one, two) = (pending.begin(), pending.begin());
        let first = pending.first();
        assert!(first.is_some());
        drop(two);
        assert_eq!(pending.first(), first);
        let three = pending.begin();
        drop(one);
        assert!(pending.first() > first);
        drop(three);
        assert_eq!(pending.first(), None);
    }
}
