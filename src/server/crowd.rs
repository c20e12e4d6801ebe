//! Counts the predictions that are under way, and refuses more of them than are answered soon.
//!
//! What waits for a core waits in the network layers as well, before any queue knows of it. By Little's law (Little 1961, "A
//! proof for the queuing formula L = lambda W") a request that comes to n others takes n times what each adds to the time of
//! those behind it, its pace; and the pace is what requests took lately, over how many there were when they came.
//!
//! Many that come at once are a burst, which a queue is for: it is worked off. A queue that stands only makes every answer
//! late (Nichols and Jacobson 2012, "Controlling queue delay"). So where there are many for longer than an interval,
//! fewer are let in, until there were few for as long.
//!
//! To refuse takes of the processor what an answer would. So clients are told to pause for the longer the more of them are
//! refused for each that is answered, and not all for as long, so that those who left together do not come back together.

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

/// From when on a crowd stands, and for how long there must have been none until the next one is a burst.
const INTERVAL: Duration = Duration::from_millis(100);

/// The least and the most that a client is told to pause when it is refused, but for the spread.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// Shares, as powers of two, by which a refusal makes the pause longer and an answer shorter: it stays where there are
/// eight answers for each refusal.
const LONGER: u32 = 5;
const SHORTER: u32 = 8;

/// How long requests may take that are more than a few; for ever if absent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patience {
    /// In a burst.
    pub(super) burst: Option<Duration>,
    /// In a crowd that stands.
    pub(super) standing: Option<Duration>,
}

/// Counts predictions under way.
#[derive(Debug)]
pub(super) struct Crowd {
    began: Instant,
    inside: AtomicUsize,
    /// What a request adds to the time of those behind it, in nanoseconds.
    pace: AtomicU64,
    /// Requests that are let in, however long they take.
    few: usize,
    patience: Patience,
    /// What clients are told to pause, in nanoseconds.
    pause: AtomicU64,
    refused: AtomicU64,
    /// When there came to be more than a few, and when there last were, in nanoseconds since it began.
    crowded: [AtomicU64; 2],
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
    pub(super) fn new(few: usize, patience: Patience) -> Self {
        Self {
            began: Instant::now(),
            inside: AtomicUsize::new(0),
            pace: AtomicU64::new(0),
            few,
            patience,
            pause: AtomicU64::new(PAUSE[0].as_nanos() as u64),
            refused: AtomicU64::new(0),
            crowded: Default::default(),
        }
    }

    /// Lets a prediction in.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with a time to retry.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Entered> {
        self.enter_at(Instant::now())
    }

    fn enter_at(self: &Arc<Self>, now: Instant) -> Result<Entered> {
        // What is counted orders nothing else.
        let inside = self.inside.fetch_add(1, Ordering::Relaxed) + 1;
        let entered = Entered { crowd: Arc::clone(self), since: now, inside };
        if inside <= self.few {
            return Ok(entered);
        }
        let patience = if self.stands(now) { self.patience.standing } else { self.patience.burst };
        let wait = Duration::from_nanos(self.pace.load(Ordering::Relaxed).saturating_mul(inside as u64));
        match patience {
            Some(patience) if wait > patience => Err(Error::Exhausted {
                reason: "QUEUE_FULL",
                description: format!(
                    "{} predictions are under way, which take {} ms; retry after a pause",
                    inside - 1,
                    wait.as_millis()
                ),
                retry_after: Some(self.refuse()),
            }),
            _ => Ok(entered),
        }
    }

    /// Notes that a prediction is refused, and says how long it is to pause.
    fn refuse(&self) -> Duration {
        let pause = self.pause.load(Ordering::Relaxed);
        let longer = pause.saturating_add(pause >> LONGER);
        self.pause.store(longer.min(PAUSE[1].as_nanos() as u64), Ordering::Relaxed);
        // Multiples of the golden ratio spread evenly, however many there are.
        let number = self.refused.fetch_add(1, Ordering::Relaxed);
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        Duration::from_nanos(pause / 2 + ((u128::from(pause) * u128::from(spread)) >> 32) as u64)
    }

    /// Notes that there are more than a few, and whether that is so for long.
    fn stands(&self, now: Instant) -> bool {
        let (now, interval) = ((now - self.began).as_nanos() as u64, INTERVAL.as_nanos() as u64);
        let [since, last] = &self.crowded;
        if now.saturating_sub(last.swap(now, Ordering::Relaxed)) > interval {
            since.store(now, Ordering::Relaxed);
        }
        now.saturating_sub(since.load(Ordering::Relaxed)) > interval
    }
}

impl Entered {
    /// Notes how long it took, as it was answered.
    pub(super) fn answered(self) {
        let pause = self.crowd.pause.load(Ordering::Relaxed);
        if pause > PAUSE[0].as_nanos() as u64 {
            self.crowd.pause.store(pause - (pause >> SHORTER), Ordering::Relaxed);
        }
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

    /// A crowd of which the first hundred milliseconds bear so many, and then half as many.
    fn crowd(few: usize, millis: u64, pace: Duration) -> Arc<Crowd> {
        let [burst, standing] = [millis, millis / 2].map(|millis| Some(Duration::from_millis(millis)));
        let crowd = Crowd::new(few, Patience { burst, standing });
        crowd.pace.store(pace.as_nanos() as u64, Ordering::Relaxed);
        Arc::new(crowd)
    }

    #[test]
    fn more_are_let_in_than_a_few_while_that_is_soon() {
        let crowd = crowd(4, 10, Duration::from_millis(2));
        let mut inside: Vec<Entered> = (0..5).map(|_| crowd.enter().unwrap()).collect();
        let Err(Error::Exhausted { reason, retry_after, .. }) = crowd.enter() else { panic!("let in") };
        assert_eq!((reason, retry_after), ("QUEUE_FULL", Some(PAUSE[0] / 2)));
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
        let endless = Arc::new(Crowd::new(0, Patience::default()));
        endless.pace.store(u64::MAX, Ordering::Relaxed);
        assert!(endless.enter().is_ok());
    }

    #[test]
    fn a_crowd_that_stands_becomes_smaller_until_there_was_none_for_a_while() {
        let crowd = crowd(2, 10, Duration::from_millis(1));
        let at = |millis: u64| crowd.began + INTERVAL * 2 + Duration::from_millis(millis);
        let mut inside: Vec<Entered> = (0..10).map(|_| crowd.enter_at(at(0)).unwrap()).collect();
        assert!(crowd.enter_at(at(100)).is_err());
        inside.pop();
        // Room for a burst still, and for no more than half of it a moment later.
        inside.push(crowd.enter_at(at(100)).unwrap());
        inside.truncate(5);
        assert!(crowd.enter_at(at(101)).is_err());
        inside.pop();
        inside.push(crowd.enter_at(at(102)).unwrap());
        // A few do not end it at once.
        inside.truncate(1);
        inside.push(crowd.enter_at(at(150)).unwrap());
        let again = |from: u64| (0..8).map(|_| crowd.enter_at(at(from))).collect::<Result<Vec<Entered>>>();
        assert!(again(200).is_err());
        assert!(again(301).is_ok());
    }

    #[test]
    fn the_more_are_refused_the_longer_they_pause_each_another_time() {
        let crowd = crowd(0, 1, Duration::from_secs(1));
        let pauses: Vec<Duration> = (0..64).map(|_| crowd.refuse()).collect();
        assert!(pauses.iter().all(|pause| (PAUSE[0] / 2..PAUSE[0] * 12).contains(pause)));
        let mean = |pauses: &[Duration]| pauses.iter().sum::<Duration>() / pauses.len() as u32;
        assert!(mean(&pauses[32..]) > mean(&pauses[..32]));
        let different: std::collections::BTreeSet<&Duration> = pauses.iter().collect();
        assert_eq!(different.len(), pauses.len());
        (0..10_000).for_each(|_| assert!(crowd.refuse() < PAUSE[1] * 3 / 2));
        assert_eq!(crowd.pause.load(Ordering::Relaxed), PAUSE[1].as_nanos() as u64);
        // Eight answers make up for a refusal.
        let calm = Arc::new(Crowd::new(1, Patience::default()));
        calm.pause.store(1 << 30, Ordering::Relaxed);
        for _ in 0..100 {
            calm.refuse();
            (0..8).for_each(|_| calm.enter().unwrap().answered());
        }
        let drift = calm.pause.load(Ordering::Relaxed) as f64 / f64::from(1 << 30);
        assert!((0.9..1.1).contains(&drift), "{drift}");
        (0..5000).for_each(|_| calm.enter().unwrap().answered());
        assert!(calm.refuse() < PAUSE[0] * 2);
    }

    #[test]
    fn the_pace_is_learnt_where_many_are_inside() {
        let crowd = Arc::new(Crowd::new(4, Patience::default()));
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
