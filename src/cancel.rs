//! Whether work for a call shall go on. Every loop over examples asks, so that work ends soon after nobody waits for it: the
//! client left, its deadline passed, or the daemon stops.
//!
//! Writes that are decided are not asked: what has reached its commit is finished.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    admission::Admitted,
    error::{Error, Result},
};

/// The work of a daemon for all its calls: ends it, and counts what has not ended. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Daemon>);

#[derive(Debug, Default)]
struct Daemon {
    ending: AtomicBool,
    /// Pieces of work that have begun and not ended.
    running: Mutex<usize>,
    ended: Condvar,
}

/// Asked by the work for one call, also before it takes much memory. Clones are the same; the default is never cancelled, and takes
/// what it wants.
#[derive(Debug, Clone, Default)]
pub struct Cancellation {
    call: Arc<AtomicBool>,
    daemon: Arc<Daemon>,
    admitted: Option<Arc<Admitted>>,
}

/// Cancels when it is dropped, unless [`disarm`](Self::disarm) came before: part of the future of a call, which is dropped
/// where nobody waits for it.
#[derive(Debug)]
#[must_use]
pub struct CancelOnDrop(Option<Cancellation>);

/// A piece of work that has begun. It ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct RunningWork(Arc<Daemon>);

impl Shutdown {
    /// What the work for a new call asks. Where the call was admitted, its place is kept until that work has ended.
    pub fn call(&self, admitted: Option<Arc<Admitted>>) -> Cancellation {
        Cancellation { call: Arc::default(), daemon: Arc::clone(&self.0), admitted }
    }

    /// Counts a piece of work.
    pub fn begin_work(&self) -> RunningWork {
        *self.0.running() += 1;
        RunningWork(Arc::clone(&self.0))
    }

    /// Cancels all work, and whatever is begun later.
    pub fn end_work(&self) {
        self.0.ending.store(true, Ordering::Relaxed);
    }

    /// Waits until all work has ended, or for so long. Returns how many pieces have not.
    pub fn wait(&self, at_most: Duration) -> usize {
        let waited = self.0.ended.wait_timeout_while(self.0.running(), at_most, |running| *running > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Daemon {
    fn running(&self) -> MutexGuard<'_, usize> {
        // A number, changed at once.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cancellation {
    /// Refuses to go on once it is cancelled.
    ///
    /// # Errors
    /// [`Error::Cancelled`] where nobody waits for the call any more; [`Error::Unavailable`] where the daemon stops.
    pub fn check(&self) -> Result<()> {
        // Relaxed: the flag orders no other access to memory.
        if self.call.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if self.daemon.ending.load(Ordering::Relaxed) {
            return Err(Error::Unavailable(
                "the daemon is shutting down; repeat the call when it runs again".into(),
            ));
        }
        Ok(())
    }

    /// Takes memory that the call holds until it ends.
    ///
    /// # Errors
    /// As [`Admitted::take`].
    pub fn take_memory(&self, bytes: u64) -> Result<()> {
        self.admitted.as_ref().map_or(Ok(()), |admitted| admitted.take(bytes))
    }

    /// Whether [`check`](Self::check) would refuse.
    pub fn is_cancelled(&self) -> bool {
        self.check().is_err()
    }

    /// Cancels.
    pub fn cancel(&self) {
        self.call.store(true, Ordering::Relaxed);
    }

    /// What cancels when it is dropped.
    pub fn cancel_on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(Some(self.clone()))
    }
}

impl CancelOnDrop {
    /// The work has ended.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancellation) = &self.0 {
            cancellation.cancel();
        }
    }
}

impl Drop for RunningWork {
    fn drop(&mut self) {
        *self.0.running() -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_dropped_cancels_itself_alone_and_a_stop_all() {
        let shutdown = Shutdown::default();
        let (one, two, done) = (shutdown.call(None), shutdown.call(None), shutdown.call(None));
        drop(one.cancel_on_drop());
        done.cancel_on_drop().disarm();
        assert!(matches!(one.clone().check(), Err(Error::Cancelled)));
        assert!(two.check().is_ok() && done.check().is_ok());
        shutdown.end_work();
        assert!(matches!(two.check(), Err(Error::Unavailable(_))));
        assert!(shutdown.call(None).is_cancelled() && !Cancellation::default().is_cancelled());
    }

    #[test]
    fn work_is_waited_for_until_it_ends() {
        let shutdown = Shutdown::default();
        assert_eq!(shutdown.wait(Duration::ZERO), 0);
        let (one, two) = (shutdown.begin_work(), shutdown.begin_work());
        drop(one);
        assert_eq!(shutdown.wait(Duration::ZERO), 1);
        let ends = std::thread::spawn(move || drop(two));
        assert_eq!(shutdown.wait(Duration::from_secs(60)), 0);
        ends.join().unwrap();
    }
}
