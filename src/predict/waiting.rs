//! Which texts are computed next: a lane for each version, served in turn.
//!
//! A lane may hold eight times as many texts as the whole queue has room left (dynamic thresholds; Choudhury and Hahne
//! 1998, "Dynamic queue length thresholds for shared-memory packet switches"). So one model that floods fills the queue but
//! for a ninth, which stays open to the others, and no share has to be set aside for models that are silent.

use std::{collections::VecDeque, ops::Range};

/// How many times the room that is left a lane may hold.
const THRESHOLD: usize = 8;

/// Texts below which a batch is not cut any smaller to keep another thread busy.
const MIN_BATCH: usize = 8;

/// Requests that wait. A request is anything that can be cloned at no cost.
#[derive(Debug)]
pub(super) struct Waiting<R> {
    /// The lane that is served next stands first; none is empty.
    lanes: VecDeque<Lane<R>>,
    texts: usize,
    capacity: usize,
}

/// Requests to one version, in the order they came.
#[derive(Debug)]
struct Lane<R> {
    version: usize,
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

impl<R: Clone> Waiting<R> {
    /// Nothing, with room for so many texts.
    pub(super) fn new(capacity: usize) -> Self {
        Self { lanes: VecDeque::new(), texts: 0, capacity }
    }

    /// Texts that wait.
    pub(super) fn texts(&self) -> usize {
        self.texts
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.texts == 0
    }

    /// Whether there is room for so many texts to a version. A request that is larger than the queue passes when nothing
    /// waits.
    pub(super) fn admits(&self, version: usize, texts: usize) -> bool {
        let room = self.capacity.saturating_sub(self.texts + texts);
        let lane = self.lanes.iter().find(|lane| lane.version == version).map_or(0, |lane| lane.texts);
        let fits = self.texts + texts <= self.capacity;
        self.is_empty() || fits && lane + texts <= THRESHOLD * room.max(1)
    }

    /// Puts a request to a version at the end of its lane.
    pub(super) fn push(&mut self, version: usize, request: R, texts: usize) {
        let part = Part { request, texts: 0..texts };
        self.texts += texts;
        match self.lanes.iter_mut().find(|lane| lane.version == version) {
            Some(lane) => {
                lane.texts += texts;
                lane.requests.push_back(part);
            }
            None => self.lanes.push_back(Lane { version, requests: VecDeque::from([part]), texts }),
        }
    }

    /// The next batch for one of so many idle threads: texts of one version, at most `limit`, and no more than leaves the
    /// other threads their share. Requests that nobody waits for any more are passed over; so the batch may be empty.
    pub(super) fn take(&mut self, idle: usize, limit: usize, is_wanted: impl Fn(&R) -> bool) -> Vec<Part<R>> {
        let Some(mut lane) = self.lanes.pop_front() else { return Vec::new() };
        let mut room = self.texts.div_ceil(idle.max(1)).clamp(MIN_BATCH.min(limit), limit);
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
            self.texts -= gone;
            if front.texts.is_empty() {
                lane.requests.pop_front();
            }
        }
        if !lane.requests.is_empty() {
            self.lanes.push_back(lane);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(waiting: &mut Waiting<char>, idle: usize) -> Vec<(char, Range<usize>)> {
        let batch = waiting.take(idle, 64, |&request| request != 'x');
        batch.into_iter().map(|part| (part.request, part.texts)).collect()
    }

    #[test]
    fn versions_take_turns_and_requests_keep_their_order() {
        let mut waiting = Waiting::new(1000);
        waiting.push(1, 'a', 100);
        waiting.push(1, 'b', 1);
        waiting.push(2, 'c', 3);
        assert_eq!(taken(&mut waiting, 1), [('a', 0..64)]);
        assert_eq!(taken(&mut waiting, 1), [('c', 0..3)]);
        assert_eq!(taken(&mut waiting, 1), [('a', 64..100), ('b', 0..1)]);
        assert!(waiting.is_empty() && taken(&mut waiting, 1).is_empty());
    }

    #[test]
    fn idle_threads_share_what_waits() {
        let mut waiting = Waiting::new(1000);
        waiting.push(1, 'a', 32);
        assert_eq!(taken(&mut waiting, 2), [('a', 0..16)]);
        assert_eq!(taken(&mut waiting, 1), [('a', 16..32)]);
        // But not to crumbs.
        waiting.push(1, 'b', 9);
        assert_eq!(taken(&mut waiting, 4), [('b', 0..8)]);
        assert_eq!(taken(&mut waiting, 4), [('b', 8..9)]);
    }

    #[test]
    fn what_nobody_waits_for_is_passed_over() {
        let mut waiting = Waiting::new(1000);
        waiting.push(1, 'x', 500);
        waiting.push(1, 'a', 2);
        assert_eq!(taken(&mut waiting, 1), [('a', 0..2)]);
        waiting.push(1, 'x', 500);
        assert!(taken(&mut waiting, 1).is_empty());
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_flood_leaves_room_for_others() {
        let mut waiting = Waiting::new(900);
        while waiting.admits(1, 1) {
            waiting.push(1, 'a', 1);
        }
        assert_eq!(waiting.texts(), 800);
        assert!(waiting.admits(2, 1));
        // However many models come, the bound holds.
        for version in 2..2000 {
            while waiting.admits(version, 1) {
                waiting.push(version, 'b', 1);
            }
        }
        assert!((890..=900).contains(&waiting.texts()), "{}", waiting.texts());
    }

    #[test]
    fn a_request_larger_than_the_queue_passes_alone() {
        let mut waiting = Waiting::new(4);
        assert!(waiting.admits(1, 100));
        waiting.push(1, 'a', 100);
        assert!(!waiting.admits(1, 1) && !waiting.admits(2, 1));
    }
}
