//! How often somebody may call: a bucket that fills at a steady rate and holds what fills it in a second.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

const SECOND: u64 = 1_000_000_000;

/// Calls that are allowed, as the time at which the bucket would be full again (generic cell rate algorithm; ITU-T I.371):
/// one number, so that no call waits for a lock.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Nanoseconds that one call takes out of the bucket.
    cost: u64,
    start: Instant,
    /// Nanoseconds after `start` at which the bucket is full.
    full: AtomicU64,
}

impl Bucket {
    /// A full bucket for so many calls a second, at least one.
    pub(super) fn new(calls_per_second: u32) -> Self {
        let cost = SECOND / u64::from(calls_per_second.max(1));
        Self { cost, start: Instant::now(), full: AtomicU64::new(0) }
    }

    /// Takes a call out of the bucket.
    ///
    /// # Errors
    /// How long until there is one, if there is none.
    pub(super) fn take(&self) -> Result<(), Duration> {
        // The daemon runs for less than the 584 years that fit.
        self.take_at(self.start.elapsed().as_nanos() as u64)
    }

    fn take_at(&self, now: u64) -> Result<(), Duration> {
        let taken = self.full.try_update(Relaxed, Relaxed, |full| {
            let full = full.max(now) + self.cost;
            (full - now <= SECOND).then_some(full)
        });
        taken.map(drop).map_err(|full| Duration::from_nanos((full + self.cost).saturating_sub(now + SECOND)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_second_and_fills_again() {
        let bucket = Bucket::new(4);
        for _ in 0..4 {
            assert_eq!(bucket.take_at(10), Ok(()));
        }
        assert_eq!(bucket.take_at(10), Err(Duration::from_millis(250)));
        assert_eq!(bucket.take_at(10 + SECOND / 8), Err(Duration::from_millis(125)));
        assert_eq!(bucket.take_at(10 + SECOND / 4), Ok(()));
        assert!(bucket.take_at(10 + SECOND / 4).is_err(), "what is refused takes nothing");
        // However long nobody calls, it holds no more.
        assert_eq!((0..9).filter(|_| bucket.take_at(100 * SECOND).is_ok()).count(), 4);
    }
}
