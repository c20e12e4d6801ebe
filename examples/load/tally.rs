//! What was answered, and how soon.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tonic::{Code, Status};

use crate::client::Answer;

/// Counts what ends within the measured time.
#[derive(Debug)]
pub(crate) struct Tally {
    /// When measuring begins.
    pub(crate) begin: Instant,
    /// When it ends, and nothing more is sent.
    pub(crate) end: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// Nanoseconds from asking to each answer.
    pub(crate) latencies: Vec<u64>,
    /// Failures but for those below.
    pub(crate) errors: u64,
    /// RESOURCE_EXHAUSTED.
    pub(crate) exhausted: u64,
    /// Requests of an open loop that would have been more at once than allowed, and were not sent.
    pub(crate) not_sent: u64,
    /// Versions that answered.
    pub(crate) versions: BTreeSet<String>,
    told: bool,
}

impl Tally {
    pub(crate) fn new(begin: Instant, end: Instant) -> Self {
        Self { begin, end, counts: Mutex::default() }
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Notes the outcome of what was asked, or due to be asked, at a time.
    pub(crate) fn note(&self, asked: Instant, outcome: &Result<Answer, Status>) {
        let now = Instant::now();
        let mut counts = self.lock();
        if let Err(status) = outcome
            && status.code() != Code::ResourceExhausted
            && !counts.told
        {
            counts.told = true;
            eprintln!("first error: {:?}: {}", status.code(), status.message());
        }
        if !(self.begin..self.end).contains(&now) {
            return;
        }
        match outcome {
            Ok(answer) => {
                counts.latencies.push((now - asked).as_nanos() as u64);
                if !counts.versions.contains(&answer.version) {
                    counts.versions.insert(answer.version.clone());
                }
            }
            Err(status) if status.code() == Code::ResourceExhausted => counts.exhausted += 1,
            Err(_) => counts.errors += 1,
        }
    }

    /// Notes that a request was due and not sent.
    pub(crate) fn note_not_sent(&self) {
        if (self.begin..self.end).contains(&Instant::now()) {
            self.lock().not_sent += 1;
        }
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds that a share of the latencies, in nanoseconds and sorted, does not exceed. None if there are none.
pub(crate) fn quantile(sorted: &[u64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).map(|nanoseconds| *nanoseconds as f64 / 1e6)
}
