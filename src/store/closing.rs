//! When a store has given up its directory, for whoever must know it.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Waits for a store to close.
#[derive(Debug, Clone, Default)]
pub struct Closing(Arc<Latch>);

#[derive(Debug, Default)]
struct Latch {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Closing {
    /// Whether the last clone of the store has gone and another process may open the directory; waits for that for a
    /// while.
    pub fn wait(&self, at_most: Duration) -> bool {
        let closed = self.0.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.changed.wait_timeout_while(closed, at_most, |closed| !*closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Opens the latch when it is dropped.
#[derive(Debug, Default)]
pub(super) struct OpensLatch(pub(super) Closing);

impl Drop for OpensLatch {
    fn drop(&mut self) {
        let Closing(latch) = &self.0;
        *latch.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        latch.changed.notify_all();
    }
}
