//! Notices a write that does not end.
//!
//! sled 0.34.7 can wait for itself for ever: whoever needs the end of the file holds a lock until the file has become shorter,
//! which one of a few threads is to do, and each of these may wait for that lock to finish a write (its issue 1412). That
//! takes many writes that wait for a slow disk at once. Here no more is written ahead than leaves a thread free; what
//! sled moves by itself is beyond that. So a process that serves looks here, and ends rather than be stuck.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The writes that have begun and not ended. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pending(Arc<Mutex<Writes>>);

#[derive(Debug, Default)]
struct Writes {
    began: u64,
    since: BTreeMap<u64, Instant>,
}

/// A write that has begun. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct PendingWrite<'a> {
    pending: &'a Pending,
    number: u64,
}

impl Pending {
    /// For how long the write has been going on that began first; none where none is.
    pub fn longest(&self) -> Option<Duration> {
        self.lock().since.values().next().map(Instant::elapsed)
    }

    /// Notes that a write begins.
    pub(super) fn begin(&self) -> PendingWrite<'_> {
        let mut writes = self.lock();
        writes.began += 1;
        let number = writes.began;
        writes.since.insert(number, Instant::now());
        PendingWrite { pending: self, number }
    }

    fn lock(&self) -> MutexGuard<'_, Writes> {
        // Entries come and go as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PendingWrite<'_> {
    fn drop(&mut self) {
        self.pending.lock().since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_is_the_first_that_has_not_ended() {
        let pending = Pending::default();
        assert_eq!(pending.longest(), None);
        let first = pending.begin();
        std::thread::sleep(Duration::from_millis(2));
        let second = pending.begin();
        let longest = pending.longest().unwrap();
        assert!(longest >= Duration::from_millis(2));
        drop(first);
        assert!(pending.longest().is_some());
        drop(second);
        assert_eq!(pending.longest(), None);
    }
}
