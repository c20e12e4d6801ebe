//! Which texts are computed next: lanes that are served in turn, two for each version. Interactive requests, of a few texts for which
//! somebody waits, stand in one, and bulk ones in the other. The two kinds have threads of their own, so that a few texts do not wait
//! behind many, of whatever version.
//!
//! A lane may hold eight times as many texts as the whole queue has room left (dynamic thresholds; Choudhury and Hahne
//! 1998, "Dynamic queue length thresholds for shared-memory packet switches"). So one model that floods fills the queue but
//! for a ninth, which stays open to the others, and no share has to be set aside for models that are silent.

use std::{collections::VecDeque, ops::Range, time::Duration};

use crate::{
    error::{Error, Result},
    model::Network,
};

/// How many times the room that is left a lane may hold.
const THRESHOLD: usize = 8;

/// Texts below which a batch is not cut any smaller to keep another thread busy.
const MIN_BATCH: usize = 8;

/// Texts from which on a request is bulk.
const BULK_TEXTS: usize = 16;

/// The least and the most that a client is told to wait when it is refused.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(5)];

/// What kind of request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    /// A few texts, for which somebody waits.
    Interactive,
    /// Many texts, or those of a stream.
    Bulk,
}

/// Something for each kind of traffic.
#[derive(Debug, Default)]
pub(super) struct ByTraffic<T> {
    interactive: T,
    bulk: T,
}

/// Where requests wait together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId {
    /// A number that tells versions apart.
    version: usize,
    /// The kind of the requests.
    pub(super) traffic: Traffic,
}

/// Requests that wait. A request is anything that can be cloned at no cost.
#[derive(Debug)]
pub(super) struct Waiting<R> {
    queues: ByTraffic<Lanes<R>>,
    capacity: usize,
}

/// Lanes that take turns.
#[derive(Debug)]
struct Lanes<R> {
    /// The lane that is served next stands first; none is empty.
    lanes: VecDeque<Lane<R>>,
    texts: usize,
}

/// Requests in the order they came.
#[derive(Debug)]
struct Lane<R> {
    id: LaneId,
    requests: VecDeque<Part<R>>,
    texts: usize,
}

/// Some texts of a request.
#[derive(Debug, PartialEq)]
pub(super) struct Part<R> {
    /// The request.
    pub(super) request: R,
    /// Which of its texts.
    pub(super) texts: Range<usize>,
}

impl Traffic {
    /// Both kinds.
    pub(super) const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];
}

impl<T> ByTraffic<T> {
    pub(super) fn of(&self, traffic: Traffic) -> &T {
        match traffic {
            Traffic::Interactive => &self.interactive,
            Traffic::Bulk => &self.bulk,
        }
    }

    pub(super) fn of_mut(&mut self, traffic: Traffic) -> &mut T {
        match traffic {
            Traffic::Interactive => &mut self.interactive,
            Traffic::Bulk => &mut self.bulk,
        }
    }
}

impl LaneId {
    /// The lane of a request of so many texts to a version.
    pub(super) fn of(version: usize, texts: usize) -> Self {
        let traffic = if texts >= BULK_TEXTS { Traffic::Bulk } else { Traffic::Interactive };
        Self { version, traffic }
    }

    /// The lane of a stream, however few texts a message has.
    pub(super) fn of_stream(version: usize) -> Self {
        Self { version, traffic: Traffic::Bulk }
    }
}

impl<R> Default for Lanes<R> {
    fn default() -> Self {
        Self { lanes: VecDeque::new(), texts: 0 }
    }
}

impl<R: Clone> Waiting<R> {
    /// Nothing, with room for so many texts.
    pub(super) fn new(capacity: usize) -> Self {
        Self { queues: ByTraffic::default(), capacity }
    }

    /// Texts that wait.
    pub(super) fn texts(&self) -> usize {
        Traffic::ALL.iter().map(|&traffic| self.texts_of(traffic)).sum()
    }

    /// Texts of a kind of traffic that wait.
    pub(super) fn texts_of(&self, traffic: Traffic) -> usize {
        self.queues.of(traffic).texts
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.texts() == 0
    }

    /// Texts that wait in a lane.
    pub(super) fn texts_in(&self, lane: LaneId) -> usize {
        self.queues.of(lane.traffic).lanes.iter().find(|of| of.id == lane).map_or(0, |lane| lane.texts)
    }

    /// Whether there is room for so many texts in a lane. A request that is larger than the queue passes when nothing
    /// waits.
    pub(super) fn has_room(&self, lane: LaneId, texts: usize) -> bool {
        let all = self.texts() + texts;
        let (room, fits) = (self.capacity.saturating_sub(all), all <= self.capacity);
        self.is_empty() || fits && self.texts_in(lane) + texts <= THRESHOLD * room.max(1)
    }

    /// Lets a request into a lane, where so many threads compute for each kind of traffic and `pace` gives the seconds that a text
    /// of a request takes one of them.
    ///
    /// An interactive request is let in only if its turn comes within `time`. As many texts as fill a batch for each thread
    /// may wait in any case: a queue with less is none that batches could be made of.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with a time to retry.
    pub(super) fn admit(
        &self,
        lane: LaneId,
        texts: usize,
        time: Option<Duration>,
        threads: usize,
        pace: impl Fn(&R) -> f64,
    ) -> Result<()> {
        let seconds = self.seconds_before(lane, pace) / threads as f64;
        let is_late = lane.traffic == Traffic::Interactive
            && time.is_some_and(|time| seconds > time.as_secs_f64())
            && self.texts_in(lane) >= threads * Network::BATCH;
        if self.has_room(lane, texts) && !is_late {
            return Ok(());
        }
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER[1]);
        Err(Error::Exhausted {
            reason: "QUEUE_FULL",
            description: format!(
                "{} texts wait already, {:.0} ms before these; retry after a pause",
                self.texts(),
                seconds * 1e3
            ),
            retry_after: Some(wait.clamp(RETRY_AFTER[0], RETRY_AFTER[1])),
        })
    }

    /// Seconds of computing until it is the turn of a request that is put at the end of a lane now, on one thread. Lanes
    /// of a kind of traffic take turns, so of the others no more counts than as many batches as the lane has itself.
    fn seconds_before(&self, lane: LaneId, pace: impl Fn(&R) -> f64) -> f64 {
        let turns = self.texts_in(lane) / Network::BATCH + 1;
        let seconds = |of: &Lane<R>| {
            let texts = if of.id == lane { of.texts } else { of.texts.min(turns * Network::BATCH) };
            of.requests.front().map_or(0.0, |front| texts as f64 * pace(&front.request))
        };
        self.queues.of(lane.traffic).lanes.iter().map(seconds).sum()
    }

    /// Puts a request at the end of a lane.
    pub(super) fn push(&mut self, id: LaneId, request: R, texts: usize) {
        let part = Part { request, texts: 0..texts };
        let queue = self.queues.of_mut(id.traffic);
        queue.texts += texts;
        match queue.lanes.iter_mut().find(|lane| lane.id == id) {
            Some(lane) => {
                lane.texts += texts;
                lane.requests.push_back(part);
            }
            None => queue.lanes.push_back(Lane { id, requests: VecDeque::from([part]), texts }),
        }
    }

    /// The next batch for one of so many idle threads of a kind of traffic: texts of one lane, at most `limit`, and no more than
    /// leaves the other threads their share. Requests that nobody waits for any more are passed over; so the batch may be empty.
    pub(super) fn take(
        &mut self,
        traffic: Traffic,
        idle: usize,
        limit: usize,
        is_wanted: impl Fn(&R) -> bool,
    ) -> Vec<Part<R>> {
        let queue = self.queues.of_mut(traffic);
        let Some(mut lane) = queue.lanes.pop_front() else { return Vec::new() };
        let mut room = queue.texts.div_ceil(idle.max(1)).clamp(MIN_BATCH.min(limit), limit);
        let mut batch = Vec::new();
        while room > 0
            && let Some(front) = lane.requests.front_mut()
        {
            let taken = if is_wanted(&front.request) { front.texts.len().min(room) } else { 0 };
            let gone = if taken == 0 { front.texts.len() } else { taken };
            if taken > 0 {
                let texts = front.texts.start..front.texts.start + taken;
                batch.push(Part { request: front.request.clone(), texts });
            }
            front.texts.start += gone;
            room -= taken;
            lane.texts -= gone;
            queue.texts -= gone;
            if front.texts.is_empty() {
                lane.requests.pop_front();
            }
        }
        if !lane.requests.is_empty() {
            queue.lanes.push_back(lane);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interactive(version: usize) -> LaneId {
        LaneId::of(version, 1)
    }

    fn bulk(version: usize) -> LaneId {
        LaneId::of(version, BULK_TEXTS)
    }

    fn taken(waiting: &mut Waiting<char>, idle: usize) -> Vec<(char, Range<usize>)> {
        taken_of(waiting, Traffic::Interactive, idle)
    }

    fn taken_of(waiting: &mut Waiting<char>, traffic: Traffic, idle: usize) -> Vec<(char, Range<usize>)> {
        let batch = waiting.take(traffic, idle, 64, |&request| request != 'x');
        batch.into_iter().map(|part| (part.request, part.texts)).collect()
    }

    #[test]
    fn versions_take_turns_and_requests_keep_their_order() {
        let mut waiting = Waiting::new(1000);
        waiting.push(interactive(1), 'a', 100);
        waiting.push(interactive(1), 'b', 1);
        waiting.push(interactive(2), 'c', 3);
        assert_eq!(taken(&mut waiting, 1), [('a', 0..64)]);
        assert_eq!(taken(&mut waiting, 1), [('c', 0..3)]);
        assert_eq!(taken(&mut waiting, 1), [('a', 64..100), ('b', 0..1)]);
        assert!(waiting.is_empty() && taken(&mut waiting, 1).is_empty());
    }

    #[test]
    fn a_few_texts_do_not_wait_behind_bulk() {
        assert_ne!(interactive(1), bulk(1));
        assert_eq!(LaneId::of_stream(1), bulk(1));
        let mut waiting = Waiting::new(1000);
        waiting.push(bulk(1), 'a', 300);
        waiting.push(interactive(1), 'b', 1);
        waiting.push(interactive(1), 'c', 15);
        assert_eq!(taken(&mut waiting, 1), [('b', 0..1), ('c', 0..15)]);
        assert!(taken(&mut waiting, 1).is_empty());
        let bulk = |waiting: &mut Waiting<char>| taken_of(waiting, Traffic::Bulk, 1);
        assert_eq!(bulk(&mut waiting), [('a', 0..64)]);
        assert_eq!(bulk(&mut waiting), [('a', 64..128)]);
        assert_eq!((waiting.texts(), waiting.texts_of(Traffic::Bulk)), (172, 172));
    }

    #[test]
    fn a_wait_is_that_of_the_lane_and_of_as_many_turns_of_the_others() {
        let mut waiting = Waiting::new(100_000);
        // A text of the first version takes a second, one of the second ten.
        let pace = |request: &char| if *request == 'a' { 1.0 } else { 10.0 };
        let seconds = |waiting: &Waiting<char>, lane| waiting.seconds_before(lane, pace);
        assert_eq!(seconds(&waiting, interactive(1)), 0.0);
        waiting.push(interactive(1), 'a', 10);
        assert_eq!(seconds(&waiting, interactive(1)), 10.0);
        // What comes in bulk has other threads.
        waiting.push(bulk(1), 'a', 1000);
        assert_eq!(seconds(&waiting, interactive(1)), 10.0);
        assert_eq!(seconds(&waiting, bulk(1)), 1000.0);
        // Of the thousand of another version no more goes first than a batch.
        waiting.push(interactive(2), 'b', 1000);
        assert_eq!(seconds(&waiting, interactive(1)), 10.0 + 640.0);
        waiting.push(interactive(1), 'a', 60);
        assert_eq!(seconds(&waiting, interactive(1)), 70.0 + 1280.0);
    }

    #[test]
    fn a_few_texts_are_refused_when_their_turn_would_come_late() {
        let (time, threads) = (Some(Duration::from_secs(200)), 2);
        let one_second = |_: &char| 1.0;
        let mut waiting = Waiting::new(100_000);
        let refused = |waiting: &Waiting<char>, lane, time| {
            let refusal = waiting.admit(lane, 1, time, threads, one_second).err()?;
            let Error::Exhausted { reason, retry_after, .. } = refusal else { panic!("{refusal}") };
            assert_eq!(reason, "QUEUE_FULL");
            retry_after
        };
        waiting.push(interactive(1), 'a', 400);
        assert_eq!(refused(&waiting, interactive(1), time), None);
        waiting.push(interactive(1), 'a', 1);
        assert_eq!(refused(&waiting, interactive(1), time), Some(RETRY_AFTER[1]));
        assert_eq!(refused(&waiting, interactive(1), None), None);
        // Another model has waited for nothing, and who brings many does not mind.
        assert_eq!(refused(&waiting, interactive(2), time), None);
        assert_eq!(refused(&waiting, bulk(1), time), None);
        // Many wait behind a few for one turn of these.
        let mut waiting = Waiting::new(100_000);
        waiting.push(bulk(1), 'a', 50_000);
        assert_eq!(refused(&waiting, interactive(1), time), None);
    }

    #[test]
    fn a_batch_for_each_thread_may_wait_however_slow_the_network() {
        let mut waiting = Waiting::new(1000);
        let admit = |waiting: &Waiting<char>, threads| {
            waiting.admit(interactive(1), 1, Some(Duration::from_millis(1)), threads, |_| 1.0)
        };
        waiting.push(interactive(1), 'a', 2 * Network::BATCH - 1);
        assert!(admit(&waiting, 1).is_err());
        assert!(admit(&waiting, 2).is_ok());
        waiting.push(interactive(1), 'a', 1);
        assert!(admit(&waiting, 2).is_err());
    }

    #[test]
    fn idle_threads_share_what_waits() {
        let mut waiting = Waiting::new(1000);
        waiting.push(interactive(1), 'a', 32);
        assert_eq!(taken(&mut waiting, 2), [('a', 0..16)]);
        assert_eq!(taken(&mut waiting, 1), [('a', 16..32)]);
        // But not to crumbs.
        waiting.push(interactive(1), 'b', 9);
        assert_eq!(taken(&mut waiting, 4), [('b', 0..8)]);
        assert_eq!(taken(&mut waiting, 4), [('b', 8..9)]);
    }

    #[test]
    fn what_nobody_waits_for_is_passed_over() {
        let mut waiting = Waiting::new(1000);
        waiting.push(interactive(1), 'x', 500);
        waiting.push(interactive(1), 'a', 2);
        assert_eq!(taken(&mut waiting, 1), [('a', 0..2)]);
        waiting.push(interactive(1), 'x', 500);
        assert!(taken(&mut waiting, 1).is_empty());
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_flood_leaves_room_for_others() {
        let mut waiting = Waiting::new(900);
        while waiting.has_room(interactive(1), 1) {
            waiting.push(interactive(1), 'a', 1);
        }
        assert_eq!(waiting.texts(), 800);
        assert!(waiting.has_room(interactive(2), 1));
        // However many models come, the bound holds.
        for version in 2..2000 {
            while waiting.has_room(interactive(version), 1) {
                waiting.push(interactive(version), 'b', 1);
            }
        }
        assert!((890..=900).contains(&waiting.texts()), "{}", waiting.texts());
    }

    #[test]
    fn a_request_larger_than_the_queue_passes_alone() {
        let mut waiting = Waiting::new(4);
        assert!(waiting.has_room(interactive(1), 100));
        waiting.push(interactive(1), 'a', 100);
        assert!(!waiting.has_room(interactive(1), 1) && !waiting.has_room(interactive(2), 1));
    }
}
