//! Fair shares of the computing time: each share has a clock that runs while it computes, and the one whose
//! clock is behind goes next.
//!
//! A share that is new, or comes back, starts at the clock of the share in progress that is furthest behind
//! (start-time fair queueing; Goyal, Vin and Cheng 1997): it neither catches up on time in which it wanted
//! nothing, nor pays for time in which nobody else wanted any.

use std::{collections::BTreeMap, time::Duration};

/// The clocks of shares.
#[derive(Debug)]
pub(super) struct Shares<K> {
    clocks: BTreeMap<K, Duration>,
    /// Where a share that comes starts. It only rises.
    floor: Duration,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { clocks: BTreeMap::new(), floor: Duration::ZERO }
    }
}

impl<K: Ord + Clone> Shares<K> {
    /// The clock of a share; one that is not known would start here.
    pub(super) fn clock(&self, share: &K) -> Duration {
        self.clocks.get(share).copied().unwrap_or(self.floor)
    }

    /// Lets a share take part: it is no further behind than those that compute.
    pub(super) fn join(&mut self, share: &K) {
        let floor = self.floor;
        let clock = self.clocks.entry(share.clone()).or_insert(floor);
        *clock = floor.max(*clock);
    }

    /// Advances the clock of a share by the time that it computed.
    pub(super) fn charge(&mut self, share: &K, time: Duration) {
        let clock = self.clock(share);
        self.clocks.insert(share.clone(), clock + time);
    }

    /// Raises the floor to the last of the shares that are in progress, and forgets the shares that are not
    /// known any more and would start there anyway.
    pub(super) fn settle(&mut self, in_progress: impl Fn(&K) -> bool, is_known: impl Fn(&K) -> bool) {
        let last = self.clocks.iter().filter(|(share, _)| in_progress(share)).map(|(_, clock)| *clock).min();
        let floor = last.map_or(self.floor, |last| self.floor.max(last));
        self.floor = floor;
        self.clocks.retain(|share, clock| *clock > floor || is_known(share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_comes_later_starts_beside_those_that_compute() {
        let mut shares = Shares::default();
        shares.join(&'a');
        shares.charge(&'a', seconds(100));
        shares.settle(|_| true, |_| true);
        assert_eq!(shares.clock(&'b'), seconds(100), "it does not catch up");
        shares.join(&'b');
        shares.charge(&'a', seconds(1));
        assert!(shares.clock(&'b') < shares.clock(&'a'));
        // One that waited in vain for long, while others computed, does not have them wait as long.
        shares.settle(|share| *share == 'a', |_| true);
        assert_eq!(shares.clock(&'b'), seconds(100));
        shares.join(&'b');
        assert_eq!(shares.clock(&'b'), seconds(101));
    }

    #[test]
    fn a_share_that_is_ahead_is_remembered_until_the_others_are_there_too() {
        let mut shares = Shares::default();
        for share in ['a', 'b'] {
            shares.join(&share);
        }
        shares.charge(&'b', seconds(5));
        shares.settle(|share| *share == 'a', |share| *share == 'a');
        assert_eq!(shares.clock(&'b'), seconds(5), "it does not start anew by going and coming");
        shares.charge(&'a', seconds(6));
        shares.settle(|share| *share == 'a', |share| *share == 'a');
        assert_eq!(shares.clocks.len(), 1);
        assert_eq!(shares.clock(&'b'), seconds(6));
    }
}
