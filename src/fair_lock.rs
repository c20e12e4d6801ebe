//! A lock that many share or one holds alone, and that who wants it alone gets.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A lock that is shared or held alone. The lock of the standard library lets a thread that shares it again and again, as one
/// does that reads in a loop, take it before the one that waits for it alone has woken up, over and over. Here whoever wants it
/// passes a turnstile first, and who wants it alone stands in that until it has it.
#[derive(Debug, Default)]
pub struct FairLock {
    turnstile: Mutex<()>,
    lock: RwLock<()>,
}

impl FairLock {
    /// Shares it. Not for a thread that shares it already: one that waits for it alone would keep both from going on.
    pub fn shared(&self) -> RwLockReadGuard<'_, ()> {
        // It guards nothing that a panic could leave half done.
        let _passed = self.turnstile.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it alone.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        let _nobody_passes = self.turnstile.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn whoever_wants_it_alone_gets_it_from_one_that_shares_it_without_end() {
        const ALONE: usize = 20;
        let lock = FairLock::default();
        let (done, shared) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let _held = lock.shared();
                    thread::sleep(Duration::from_millis(1));
                    shared.fetch_add(1, SeqCst);
                }
            });
            while shared.load(SeqCst) == 0 {
                thread::yield_now();
            }
            (0..ALONE).for_each(|_| drop(lock.alone()));
            done.store(true, SeqCst);
        });
        // Each waits for the one that holds it, and for as many as a busy machine lets pass before it asks.
        let shared = shared.load(SeqCst);
        assert!(shared < 100 * ALONE, "shared {shared} times");
    }
}
