//! What happens to a job, and how any number of clients follow it.
//!
//! Events that matter are kept and replayed to whoever comes later. Progress is not: a slow client sees the latest.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

use super::FitProgress;
use crate::{
    registry::{JobRecord, Mode, Version},
    taxonomy::ClassName,
};

/// Something that happened to a job.
#[derive(Debug, Clone)]
pub struct Event {
    /// Position among the events of the job, counted from 1.
    pub sequence: u64,
    /// When.
    pub time: SystemTime,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// The job has a number and a place in the queue.
    Accepted,
    /// It is known what the training will do.
    Planned(Planned),
    /// How far it is.
    Progress(FitProgress),
    /// A version was stored.
    Published {
        /// The version.
        version: Box<Version>,
        /// Whether it serves now.
        promoted: bool,
        /// Seconds since the job was accepted.
        seconds: f64,
    },
    /// The job ended; the last event.
    Finished(Box<JobRecord>),
}

/// What a training will do, and why.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Scratch, continue or transfer.
    pub mode: Mode,
    /// Why.
    pub reason: String,
    /// Classes that the data brings.
    pub added: Vec<ClassName>,
    /// Examples that train.
    pub train_examples: u64,
    /// Examples that validate.
    pub validation_examples: u64,
    /// Epochs at most.
    pub epochs: u32,
    /// Names of the classes whose few examples all train, in their order.
    pub small_classes: Vec<ClassName>,
    /// What may be wrong with the data, in sentences.
    pub warnings: Vec<String>,
}

/// The events of one job.
#[derive(Debug)]
pub(super) struct Feed {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    kept: Vec<Event>,
    progress: Option<Event>,
}

/// One client's place in the events of a job.
#[derive(Debug)]
pub struct Watch {
    feed: Arc<Feed>,
    changed: watch::Receiver<()>,
    seen: u64,
}

impl Feed {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// Adds an event of now and wakes those who wait.
    pub(super) fn send(&self, kind: EventKind) {
        self.send_of(SystemTime::now(), kind);
    }

    /// Adds an event of a moment and wakes those who wait.
    pub(super) fn send_of(&self, time: SystemTime, kind: EventKind) {
        {
            let mut state = self.lock();
            state.last += 1;
            let event = Event { sequence: state.last, time, kind };
            match event.kind {
                EventKind::Progress(_) => state.progress = Some(event),
                _ => state.kept.push(event),
            }
        }
        self.changed.send_replace(());
    }

    /// The latest progress.
    pub(super) fn progress(&self) -> Option<FitProgress> {
        self.lock().progress.as_ref().and_then(|event| match &event.kind {
            EventKind::Progress(progress) => Some(progress.clone()),
            _ => None,
        })
    }

    /// The first event after a sequence number, and whether it is the last of all.
    fn after(&self, seen: u64) -> Option<Event> {
        let state = self.lock();
        let kept = state.kept.iter().find(|event| event.sequence > seen);
        let progress = state.progress.iter().find(|event| event.sequence > seen);
        kept.into_iter().chain(progress).min_by_key(|event| event.sequence).cloned()
    }

    fn is_finished(&self) -> bool {
        matches!(self.lock().kept.last(), Some(Event { kind: EventKind::Finished(_), .. }))
    }

    /// The state stays consistent between statements, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Follows a job from its first kept event.
    pub(super) fn new(feed: &Arc<Feed>) -> Self {
        Self { feed: Arc::clone(feed), changed: feed.changed.subscribe(), seen: 0 }
    }

    /// The next event; none after the last.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            self.changed.borrow_and_update();
            if let Some(event) = self.feed.after(self.seen) {
                self.seen = event.sequence;
                return Some(event);
            }
            if self.feed.is_finished() || self.changed.changed().await.is_err() {
                return None;
            }
        }
    }
}
