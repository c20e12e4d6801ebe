//! How long a text takes, so that a queue knows how long what waits will take.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::model::Network;

/// How much a full batch says about the pace of the next. A smaller one says less, as it is full ones that a long queue is
/// made of.
const WEIGHT: f64 = 0.1;

/// Seconds that a text of a version takes a thread, lately; zero until one was measured.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// Seconds of a text.
    pub(super) fn seconds(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Notes how long a batch took. Of two threads that do so at once one may go unheard.
    pub(super) fn note(&self, took: Duration, texts: usize) {
        let (known, new) = (self.seconds(), took.as_secs_f64() / texts as f64);
        let weight = WEIGHT * texts as f64 / Network::BATCH as f64;
        let pace = if known == 0.0 { new } else { known + weight * (new - known) };
        self.0.store(pace.to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_batch_is_believed_and_full_ones_count_most() {
        let pace = Pace::default();
        pace.note(Duration::from_millis(2), 1);
        assert_eq!(pace.seconds(), 0.002);
        pace.note(Duration::from_millis(64), Network::BATCH);
        let after_a_full_one = pace.seconds();
        assert!((after_a_full_one - 0.0019).abs() < 1e-9, "{after_a_full_one}");
        pace.note(Duration::from_millis(1), 1);
        assert!(pace.seconds() < after_a_full_one && pace.seconds() > 0.00189);
        (0..200).for_each(|_| pace.note(Duration::from_millis(64), Network::BATCH));
        assert!((pace.seconds() - 0.001).abs() < 1e-9);
    }
}
