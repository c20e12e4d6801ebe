//! A lock for many readers or one writer, in which readers cannot starve a writer.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A lock for many readers or one writer. With [`RwLock`] alone, a thread that reads in a loop takes the lock again each time
/// before a waiting writer has woken up, so the writer may wait for minutes. Here readers and writers pass a turnstile first,
/// and a writer keeps the turnstile shut until it has the lock.
#[derive(Debug, Default)]
pub struct FairLock {
    turnstile: Mutex<()>,
    lock: RwLock<()>,
}

impl FairLock {
    /// Locks it for reading. A thread that reads already must not call this: with a writer in between, both would wait for ever.
    pub fn read(&self) -> RwLockReadGuard<'_, ()> {
        // It guards nothing that a panic could leave half done.
        let _passed = self.turnstile.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks it for writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, ()> {
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
    fn a_writer_gets_the_lock_from_a_reader_in_a_loop() {
        const WRITES: usize = 20;
        let lock = FairLock::default();
        let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let _held = lock.read();
                    thread::sleep(Duration::from_millis(1));
                    reads.fetch_add(1, SeqCst);
                }
            });
            while reads.load(SeqCst) == 0 {
                thread::yield_now();
            }
            (0..WRITES).for_each(|_| drop(lock.write()));
            done.store(true, SeqCst);
        });
        // A writer waits for one read; on a busy machine more of them pass before the writer asks.
        let reads = reads.load(SeqCst);
        assert!(reads < 100 * WRITES, "{reads} reads");
    }
}
