//! Counts the predictions that are under way, and refuses more of them than are answered soon.
//!
//! What waits for a core waits in the network layers as well, before any queue knows of it. By Little's law (Little 1961, "A
//! proof for the queuing formula L = lambda W") a request that comes to n others takes n times what each adds to the time of
//! those behind it, its pace; and the pace is what requests took lately, over how many there were when they came.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::error::{Error, Result};

/// Requests from which on their number says how long each takes; fewer take what one takes.
const MANY: usize = 32;

/// Share of the pace that the next request replaces, as a power of two.
const SMOOTHING: u32 = 4;

/// The least and the most that a client is told to wait when it is refused.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// Counts predictions under way.
#[derive(Debug)]
pub(super) struct Crowd {
    inside: AtomicUsize,
    /// What a request adds to the time of those behind it, in nanoseconds.
    pace: AtomicU64,
    /// Requests that are let in, however long they take.
    few: usize,
    /// How long those that are more may take; for ever if absent.
    time: Option<Duration>,
}

/// A prediction under way. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    crowd: Arc<Crowd>,
    since: Instant,
    /// Predictions that were under way when it came, with itself.
    inside: usize,
}

impl Crowd {
    /// Nobody, where so many are let in whatever they take, and more only as long as they take no longer than this.
    pub(super) fn new(few: usize, time: Option<Duration>) -> Self {
        Self { inside: AtomicUsize::new(0), pace: AtomicU64::new(0), few, time }
    }

    /// Lets a prediction in.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with a time to retry.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Entered> {
        // What is counted orders nothing else.
        let inside = self.inside.fetch_add(1, Ordering::Relaxed) + 1;
        let entered = Entered { crowd: Arc::clone(self), since: Instant::now(), inside };
        let pace = self.pace.load(Ordering::Relaxed);
        let wait = Duration::from_nanos(pace.saturating_mul(inside as u64));
        match self.time {
            Some(time) if inside > self.few && wait > time => Err(Error::Exhausted {
                reason: "QUEUE_FULL",
                description: format!(
                    "{} predictions are under way, {} ms of them; retry after a pause",
                    inside - 1,
                    wait.as_millis()
                ),
                retry_after: Some((2 * wait).clamp(RETRY_AFTER[0], RETRY_AFTER[1])),
            }),
            _ => Ok(entered),
        }
    }
}

impl Entered {
    /// Notes how long it took, as it was answered.
    pub(super) fn answered(self) {
        if self.inside >= MANY {
            let each = self.since.elapsed().as_nanos() as u64 / self.inside as u64;
            // Of two that end at once one may be lost: the next ones say the same.
            self.crowd.pace.store(smoothed(self.crowd.pace.load(Ordering::Relaxed), each), Ordering::Relaxed);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.crowd.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An exponential mean and the next number.
fn smoothed(mean: u64, next: u64) -> u64 {
    mean - (mean >> SMOOTHING) + (next >> SMOOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(few: usize, millis: u64, pace: Duration) -> Arc<Crowd> {
        let crowd = Crowd::new(few, Some(Duration::from_millis(millis)));
        crowd.pace.store(pace.as_nanos() as u64, Ordering::Relaxed);
        Arc::new(crowd)
    }

    #[test]
    fn more_are_let_in_than_a_few_while_that_is_soon() {
        let crowd = crowd(4, 10, Duration::from_millis(2));
        let mut inside: Vec<Entered> = (0..5).map(|_| crowd.enter().unwrap()).collect();
        let Err(Error::Exhausted { reason, retry_after, .. }) = crowd.enter() else { panic!("let in") };
        assert_eq!((reason, retry_after), ("QUEUE_FULL", Some(RETRY_AFTER[0])));
        inside.pop();
        inside.push(crowd.enter().unwrap());
        assert!(crowd.enter().is_err());
    }

    #[test]
    fn a_few_are_let_in_whatever_they_take_and_all_without_a_limit() {
        let slow = crowd(4, 10, Duration::from_secs(1));
        let few: Vec<Entered> = (0..4).map(|_| slow.enter().unwrap()).collect();
        assert!(slow.enter().is_err());
        drop(few);
        assert!(slow.enter().is_ok());
        let endless = Arc::new(Crowd::new(0, None));
        endless.pace.store(u64::MAX, Ordering::Relaxed);
        assert!(endless.enter().is_ok());
    }

    #[test]
    fn the_pace_is_learnt_where_many_are_inside() {
        let crowd = Arc::new(Crowd::new(4, None));
        let mut inside: Vec<Entered> = (1..MANY).map(|_| crowd.enter().unwrap()).collect();
        inside.drain(..).for_each(Entered::answered);
        assert_eq!(crowd.pace.load(Ordering::Relaxed), 0);
        let mut inside: Vec<Entered> = (0..MANY).map(|_| crowd.enter().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(5));
        inside.pop().unwrap().answered();
        assert!(crowd.pace.load(Ordering::Relaxed) >= smoothed(0, 5_000_000 / MANY as u64));
        // What comes again and again is the mean, but for what rounding loses.
        let mean = (0..300).fold(0, |mean, _| smoothed(mean, 1 << 20));
        assert!(((1 << 20) - 32..=1 << 20).contains(&mean), "{mean}");
    }
}
