//! The time by which things age: what the daemon saw pass, not what the wall clock says.
//!
//! A wall clock jumps: a battery dies, a time server is wrong, a virtual machine is resumed. If age were
//! counted by it, a clock that is 400 days ahead at a start would delete every version older than
//! `keep_days`, for good. So *service time* goes on with the monotonic clock while the daemon runs. Across a
//! stop it takes the difference of the wall clock, if that is at most [`MAX_STOP`]: a longer stop cannot be
//! told from a jump, and does not count. It never goes back.
//!
//! Service time looks like a date, and is one while no stop is long and no clock jumps. It is compared with
//! service time only: what ages is stamped with it. The wall clock stays what people are shown.

use std::time::{Duration, Instant, SystemTime};

use prost::Message as _;
use tracing::warn;

use super::{
    Registry, key,
    record::{decode, time, timestamp},
};
use crate::{
    error::Result,
    proto::storage,
    store::{Batch, Tree},
};

/// The longest stop that counts as time.
pub(super) const MAX_STOP: Duration = Duration::from_secs(24 * 60 * 60);

/// Differences of the wall clock that are not worth a line in the log.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

const WHAT: &str = "the service time";

/// Service time and wall clock at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    service: SystemTime,
    wall: SystemTime,
}

/// What the wall clock did while nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It went on as a clock does.
    None,
    /// It is further than a stop of [`MAX_STOP`] explains.
    Ahead(Duration),
    /// It went back.
    Back(Duration),
}

/// The running clock.
#[derive(Debug)]
pub(super) struct ServiceClock {
    start: Mark,
    started: Instant,
}

impl ServiceClock {
    /// Goes on from what was stored last; without that from the newest record, if there is one.
    fn resume(stored: Option<Mark>, newest_record: Option<SystemTime>, wall: SystemTime) -> (Self, Step) {
        let last =
            stored.or_else(|| newest_record.map(|newest| Mark { service: newest.min(wall), wall: newest }));
        let (service, step) = last.map_or((wall, Step::None), |last| resumed(last, wall));
        (Self { start: Mark { service, wall }, started: Instant::now() }, step)
    }

    /// The service time now.
    fn now(&self) -> SystemTime {
        // Further than that no date is.
        self.start.service.checked_add(self.started.elapsed()).unwrap_or(self.start.service)
    }
}

/// The service time after a stop, and what the wall clock did meanwhile.
fn resumed(last: Mark, wall: SystemTime) -> (SystemTime, Step) {
    match wall.duration_since(last.wall) {
        Ok(stop) if stop <= MAX_STOP => (last.service.checked_add(stop).unwrap_or(last.service), Step::None),
        Ok(ahead) => (last.service, Step::Ahead(ahead)),
        Err(back) => (last.service, Step::Back(back.duration())),
    }
}

/// What the wall clock did while the monotonic clock went on by `elapsed`.
fn step(before: SystemTime, elapsed: Duration, now: SystemTime) -> Step {
    let expected = before.checked_add(elapsed).unwrap_or(before);
    match now.duration_since(expected) {
        Ok(ahead) if ahead > TOLERANCE => Step::Ahead(ahead),
        Err(back) if back.duration() > TOLERANCE => Step::Back(back.duration()),
        _ => Step::None,
    }
}

impl Step {
    /// Says in the log what happened, and that nothing ages by it.
    fn tell(self) {
        let tell = |direction: &str, by: Duration| {
            warn!(
                hours = by.as_secs() / 3600,
                "the clock of this machine went {direction}; nothing ages by that (keep_days, receipts): versions and receipts \
                 age while the daemon runs, and during stops of up to a day"
            );
        };
        match self {
            Self::Ahead(by) => tell("ahead", by),
            Self::Back(by) if by > TOLERANCE => tell("back", by),
            Self::None | Self::Back(_) => {}
        }
    }
}

impl Registry {
    /// The time by which versions and receipts age. It never goes back.
    pub fn service_time(&self) -> SystemTime {
        self.clock.now()
    }

    /// Stores the service time, so that the next start goes on from it. Where the wall clock differs from
    /// what the monotonic clock says since `seen`, the log says so. Returns what the clocks show now.
    ///
    /// # Errors
    /// What the store says when it cannot be written.
    pub fn keep_service_time(&self, seen: (SystemTime, Instant)) -> Result<(SystemTime, Instant)> {
        let (wall, now) = (SystemTime::now(), Instant::now());
        step(seen.0, now.duration_since(seen.1), wall).tell();
        self.store.commit(self.mark(wall))?;
        Ok((wall, now))
    }

    /// Starts the clock of an opened registry, and stores where it starts.
    pub(super) fn start_clock(&mut self) -> Result<()> {
        let stored = self.store.get(Tree::Catalog, key::SERVICE_TIME)?;
        let stored = stored.map(|bytes| Mark::from_record(&bytes)).transpose()?;
        let newest = if stored.is_none() { self.newest_record()? } else { None };
        let (clock, step) = ServiceClock::resume(stored, newest, SystemTime::now());
        step.tell();
        self.clock = clock;
        if self.store.is_writable() {
            self.store.commit(self.mark(self.clock.start.wall))?;
        }
        Ok(())
    }

    fn mark(&self, wall: SystemTime) -> Batch {
        let mark = Mark { service: self.clock.now(), wall };
        let mut batch = Batch::freeing();
        batch.put(Tree::Catalog, key::SERVICE_TIME, mark.to_record());
        batch
    }

    /// When the newest of all versions was made, by the wall clock of then.
    fn newest_record(&self) -> Result<Option<SystemTime>> {
        let mut newest = None;
        for entry in self.store.scan(Tree::Catalog, &[key::VERSIONS], None) {
            let record: storage::Version = decode("a version", &entry?.1)?;
            newest = newest.max(Some(time("a version", record.created)?));
        }
        Ok(newest)
    }
}

impl Default for ServiceClock {
    fn default() -> Self {
        Self::resume(None, None, SystemTime::now()).0
    }
}

impl Mark {
    fn to_record(self) -> Vec<u8> {
        storage::ServiceTime { service: timestamp(self.service), wall: timestamp(self.wall) }.encode_to_vec()
    }

    fn from_record(bytes: &[u8]) -> Result<Self> {
        let record: storage::ServiceTime = decode(WHAT, bytes)?;
        Ok(Self { service: time(WHAT, record.service)?, wall: time(WHAT, record.wall)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * (20_000 + days)
    }

    #[test]
    fn a_short_stop_counts_and_a_jump_does_not() {
        let last = Mark { service: at(0), wall: at(0) };
        assert_eq!(resumed(last, at(0)), (at(0), Step::None));
        assert_eq!(resumed(last, at(0) + HOUR), (at(0) + HOUR, Step::None));
        assert_eq!(resumed(last, at(1)), (at(1), Step::None));
        assert_eq!(resumed(last, at(1) + HOUR), (at(0), Step::Ahead(DAY + HOUR)));
        assert_eq!(resumed(last, at(400)), (at(0), Step::Ahead(DAY * 400)));
        assert_eq!(resumed(last, at(0) - HOUR), (at(0), Step::Back(HOUR)));
        // The clock was ahead, and is right again: from here on both go on together.
        let ahead = Mark { service: at(0), wall: at(400) };
        assert_eq!(resumed(ahead, at(2)), (at(0), Step::Back(DAY * 398)));
        let right = Mark { service: at(0), wall: at(2) };
        assert_eq!(resumed(right, at(2) + HOUR), (at(0) + HOUR, Step::None));
    }

    #[test]
    fn without_a_mark_the_newest_record_is_what_is_known() {
        let start = |newest, wall| {
            let (clock, step) = ServiceClock::resume(None, newest, wall);
            (clock.start.service, step)
        };
        assert_eq!(start(None, at(7)), (at(7), Step::None));
        assert_eq!(start(Some(at(7)), at(7) + HOUR), (at(7) + HOUR, Step::None));
        assert_eq!(start(Some(at(7)), at(407)), (at(7), Step::Ahead(DAY * 400)));
        // A record from the future makes nothing older.
        assert_eq!(start(Some(at(407)), at(7)), (at(7), Step::Back(DAY * 400)));
    }

    #[test]
    fn a_step_under_way_is_told_and_a_slow_clock_is_not() {
        assert_eq!(step(at(0), HOUR, at(0) + HOUR), Step::None);
        assert_eq!(step(at(0), HOUR, at(0) + HOUR + TOLERANCE), Step::None);
        assert_eq!(step(at(0), HOUR, at(0) + HOUR * 3), Step::Ahead(HOUR * 2));
        assert_eq!(step(at(0), HOUR, at(0) - HOUR), Step::Back(HOUR * 2));
    }

    #[test]
    fn it_never_goes_back() {
        let (clock, _) = ServiceClock::resume(Some(Mark { service: at(9), wall: at(9) }), None, at(3));
        let first = clock.now();
        assert!(first >= at(9) && clock.now() >= first);
    }
}
